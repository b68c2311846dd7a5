"""What a student learns from a teacher: one loss per sample, and the table that names them.

Contract: `forward(student, teacher, *, label, index, valid) -> loss [B]`. `valid` bool [B] is a weight, never an index:
rows outside it get 0 and take part in nothing. Weights and reduction are applied outside (`kd.distill.loss`).
"""

from kd.registry import Entry, Registry

OBJECTIVES = Registry(
    "objective",
    {
        "kl": Entry(
            "kd.objectives.response:KL",
            "T^2 KL(p_teacher || p_student) between softened class probabilities",
            "Hinton et al. 2015, arXiv 1503.02531",
        ),
        "bernoulli_kl": Entry(
            "kd.objectives.response:BernoulliKL",
            "mean over labels of T^2 KL between softened label probabilities (multilabel)",
            "Hinton et al. 2015, arXiv 1503.02531, per label",
        ),
        "regression": Entry(
            "kd.objectives.response:SquaredError",
            "mean over outputs of the squared difference between student and teacher",
            "Ba & Caruana 2014, arXiv 1312.6184",
        ),
    },
)
