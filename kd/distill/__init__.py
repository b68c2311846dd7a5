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
