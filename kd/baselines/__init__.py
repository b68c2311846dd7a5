"""Classifiers that are no networks, for the same inputs, rows and splits: what a network has to beat (protocol 7)."""

from __future__ import annotations

from kd.registry import Entry, Registry

BASELINES = Registry(
    "baseline",
    {
        "logistic": Entry(
            "kd.baselines.logistic:Logistic",
            "logistic regression on n-grams, principal components of pictures, standardised vectors, and flags",
            "scikit-learn; TF-IDF as Salton & Buckley 1988, doi:10.1016/0306-4573(88)90021-0",
        ),
        "boosting": Entry(
            "kd.baselines.boosting:Boosting",
            "gradient boosted trees on the concatenated features, an absent modality as missing values",
            "scikit-learn; Friedman 2001, doi:10.1214/aos/1013203451",
        ),
        "stacked": Entry(
            "kd.baselines.stacked:Stacked",
            "late fusion: one logistic regression per modality, another on their held-out logits and flags",
            "Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1",
        ),
    },
)
