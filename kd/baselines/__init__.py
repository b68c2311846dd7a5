"""Classifiers that are no networks, for the same inputs, rows and splits: what a network has to beat (protocol 7)."""

from __future__ import annotations

from kd.registry import Entry, Registry

BASELINES = Registry(
    "baseline",
    {
        "logistic": Entry(
            "kd.baselines.logistic:Logistic",
            "logistic regression on n-grams of words, principal components of pictures, standardised features",
            "scikit-learn; TF-IDF as Salton & Buckley 1988, doi:10.1016/0306-4573(88)90021-0",
        ),
    },
)
