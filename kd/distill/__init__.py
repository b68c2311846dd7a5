"""Distillation: the graph of teachers and students, its loss, one LightningModule, the executor that trains nodes."""

from kd.registry import Entry, Registry

OPTIMIZERS = Registry(
    "optimizer",
    {
        "adam": Entry("kd.distill.optimisation:adam", "Adam", "Kingma & Ba 2015, 1412.6980"),
        "adamw": Entry(
            "kd.distill.optimisation:adamw", "Adam with decoupled weight decay", "Loshchilov & Hutter 2019, 1711.05101"
        ),
        "sgd": Entry(
            "kd.distill.optimisation:sgd", "stochastic gradient descent with momentum", "Sutskever et al. 2013"
        ),
    },
)

SCHEDULES = Registry(
    "schedule",
    {
        "constant": Entry("kd.distill.optimisation:constant", "the learning rate as it is", "KDD 2020"),
        "cosine": Entry(
            "kd.distill.optimisation:cosine",
            "linear warm-up, then half a cosine to zero over all steps",
            "Loshchilov & Hutter 2017, 1608.03983",
        ),
    },
)

AUGMENTATIONS = Registry(
    "augmentation",
    {
        "crop": Entry(
            "kd.distill.augment:Crop",
            "pictures shifted by a few pixels, mirrored, their colours changed a little",
            "He et al. 2016, 1512.03385; torchvision",
        ),
        "drop_words": Entry(
            "kd.distill.augment:DropWords",
            "tokens replaced at random by padding or another id, the first kept",
            "Iyyer et al. 2015, ACL P15-1162",
        ),
    },
)

LOGGERS = Registry(
    "logger",
    {
        "csv": Entry("pytorch_lightning.loggers:CSVLogger", "a CSV file per node and seed", "Lightning"),
        "tensorboard": Entry(
            "pytorch_lightning.loggers:TensorBoardLogger", "event files; pip install tensorboard", "Lightning"
        ),
        "wandb": Entry(
            "pytorch_lightning.loggers:WandbLogger", "Weights & Biases; pip install wandb; offline: true", "Lightning"
        ),
        "mlflow": Entry("pytorch_lightning.loggers:MLFlowLogger", "MLflow; pip install mlflow", "Lightning"),
    },
)
"""Where `trainer.loggers` may write; the same values go to each."""
