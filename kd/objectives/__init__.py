"""What a student learns from a teacher: one loss per sample, a file each, and the table that names them.

Contract: `forward(student, teacher, *, label, labelled, index, valid) -> loss [B]`. `valid` bool [B] is a weight, never
an index: rows outside it get 0 and take part in nothing. Weights and reduction are applied outside (`kd.distill.loss`).
"""

from kd.registry import Entry, Registry

INNER = "kd.objectives.wrapper:inner_faults"

OBJECTIVES = Registry(
    "objective",
    {
        # Responses: what the networks answer.
        "kl": Entry(
            "kd.objectives.kl:KL",
            "T^2 KL(p_teacher || p_student) between softened class probabilities",
            "Hinton et al. 2015, arXiv 1503.02531",
        ),
        "logit_mse": Entry(
            "kd.objectives.logit_mse:LogitMSE",
            "mean squared difference of logits",
            "Ba & Caruana 2014, arXiv 1312.6184; Kim et al. 2021, arXiv 2105.08919",
        ),
        "bernoulli_kl": Entry(
            "kd.objectives.bernoulli_kl:BernoulliKL",
            "mean over labels of T^2 KL between softened label probabilities (multilabel)",
            "Hinton et al. 2015, arXiv 1503.02531, per label",
        ),
        "regression": Entry(
            "kd.objectives.logit_mse:LogitMSE",
            "mean over outputs of the squared difference between student and teacher",
            "Ba & Caruana 2014, arXiv 1312.6184",
        ),
        "gaussian_nll": Entry(
            "kd.objectives.gaussian_nll:GaussianNLL",
            "the teacher's values as noisy measurements, the noise of every output learnt (regression)",
            "Kendall & Gal 2017, arXiv 1703.04977, equation 5",
        ),
        "dkd": Entry(
            "kd.objectives.dkd:DKD",
            "KL split into the target class against the rest, and the others among themselves, weighed apart",
            "Zhao et al. 2022, arXiv 2203.08679, equation 7",
        ),
        "dist": Entry(
            "kd.objectives.dist:DIST",
            "correlation of class probabilities within a row and, per class, over the rows",
            "Huang et al. 2022, arXiv 2205.10536, equation 9",
        ),
        "logit_std": Entry(
            "kd.objectives.logit_std:LogitStandardisation",
            "another objective on logits standardised per row",
            "Sun et al. 2024, arXiv 2403.01427",
        ),
        "label_smoothing": Entry(
            "kd.objectives.label_smoothing:LabelSmoothing",
            "soft labels made from the label alone: the control without a teacher",
            "Szegedy et al. 2016, arXiv 1512.00567; Yuan et al. 2020, arXiv 1909.11723",
        ),
        "uncertainty_weighted": Entry(
            "kd.objectives.uncertainty:UncertaintyWeighted",
            "another objective, weighed by how certain the teacher is of the row",
            "ours, a control, after Kwon et al. 2020, doi:10.1109/ICASSP40776.2020.9054698",
        ),
        "shuffled": Entry(
            "kd.objectives.shuffled:Shuffled",
            "another objective, every row with what the teacher makes of another row: a control",
            "ours, a control",
        ),
        # Features: what a layer holds of one row.
        "fitnet": Entry(
            "kd.objectives.fitnet:FitNet",
            "half the squared distance of a layer, mapped linearly, from the teacher's",
            "Romero et al. 2015, arXiv 1412.6550, equation 3",
        ),
        "feature_mse": Entry(
            "kd.objectives.feature_mse:FeatureMSE",
            "mean squared difference of two layers, mapped linearly where sizes differ",
            "Romero et al. 2015, arXiv 1412.6550, as a mean",
        ),
        "feature_cosine": Entry(
            "kd.objectives.feature_cosine:FeatureCosine",
            "one minus the cosine of two layers, mapped linearly where sizes differ",
            "Sanh et al. 2019, arXiv 1910.01108",
        ),
        "at": Entry(
            "kd.objectives.attention_transfer:AttentionTransfer",
            "where activations are strong: half the distance of their normed energy over positions",
            "Zagoruyko & Komodakis 2017, arXiv 1612.03928, equation 2",
        ),
        "nst": Entry(
            "kd.objectives.nst:NST",
            "maximum mean discrepancy of the channels' patterns over positions",
            "Huang & Wang 2017, arXiv 1707.01219, equation 6",
        ),
        "vid": Entry(
            "kd.objectives.vid:VID",
            "negative log-likelihood of the teacher's layer under a Gaussian around the mapped student's",
            "Ahn et al. 2019, arXiv 1904.05835, equations 4 to 6",
        ),
        "srrl": Entry(
            "kd.objectives.srrl:SRRL",
            "the student's representation through the teacher's own last layer",
            "Yang et al. 2021, openreview ZzwDy_wiWv",
        ),
        "crd": Entry(
            "kd.objectives.crd:CRD",
            "a row's two representations told from those of other rows, which are remembered",
            "Tian et al. 2020, arXiv 1910.10699, equations 10 to 19",
        ),
        "protokd": Entry(
            "kd.objectives.prototypes:ProtoKD",
            "a row's cosines to the mean representation of every class",
            "Wang et al. 2023, arXiv 2303.09830, equations 3 to 5",
        ),
        # Relations: what rows of a batch are to each other.
        "sp": Entry(
            "kd.objectives.similarity:SP",
            "differences of the rows' similarities with each other",
            "Tung & Mori 2019, arXiv 1907.09682, equation 4",
        ),
        "mad": Entry(
            "kd.objectives.mad:MAD",
            "the same, rows weighed by how uncertain the teacher is of them",
            "Wei et al. 2023 (MMANet), arXiv 2304.08028",
        ),
        "cc": Entry(
            "kd.objectives.correlation:CC",
            "differences of a Gaussian kernel between rows, by its Taylor series",
            "Peng et al. 2019, arXiv 1904.01802, equation 11",
        ),
        "rkd": Entry(
            "kd.objectives.rkd:RKD",
            "differences of distances and angles between rows",
            "Park et al. 2019, arXiv 1904.05068, equations 4 to 9",
        ),
        "pkt": Entry(
            "kd.objectives.pkt:PKT",
            "KL of each row's neighbours, as probabilities",
            "Passalis & Tefas 2018, arXiv 1803.10837",
        ),
    },
    nested={"logit_std": INNER, "uncertainty_weighted": INNER, "shuffled": INNER},
)

TEACHER_WEIGHTS = Registry(
    "weighting",
    {
        "mean": Entry(
            "kd.objectives.teacher_weights:Mean",
            "all teachers that saw the row alike",
            "You et al. 2017, doi:10.1145/3097983.3098135",
        ),
        "fixed": Entry(
            "kd.objectives.teacher_weights:Fixed",
            "a number per teacher, shared out anew among those that saw the row",
            "Wang et al., KDD 2020, their alpha and beta as shares",
        ),
        "best": Entry(
            "kd.objectives.teacher_weights:Best",
            "the teacher with the best validation score among those that saw the row, alone",
            "LCKD, Wang et al. 2023, arXiv 2310.01035, elected on validation rows",
        ),
        "entropy": Entry(
            "kd.objectives.teacher_weights:Entropy",
            "the less, the larger its entropy's share of all teachers' entropies",
            "Kwon et al. 2020, doi:10.1109/ICASSP40776.2020.9054698",
        ),
        "ca_mkd": Entry(
            "kd.objectives.teacher_weights:Confidence",
            "the less, the larger its cross-entropy with the label",
            "CA-MKD, Zhang et al. 2022, arXiv 2201.00007, equation 3",
        ),
        "ae_kd": Entry(
            "kd.objectives.ae_kd:GradientSpace",
            "so that the teachers' combined gradient at the student's logits is shortest",
            "AE-KD, Du et al. 2020, NeurIPS, equations 7 and 8",
        ),
        "learnt": Entry(
            "kd.objectives.teacher_weights:Learnt",
            "a softmax of one number per teacher, learnt with the student",
            "AMTML-KD, Liu et al. 2020, arXiv 2103.04062, without its dependence on the row",
        ),
    },
)
"""How several teachers of one student are weighed, as a node's `combine: {name: ..., of: losses}`."""
