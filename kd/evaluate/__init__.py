"""Evaluation: predictions on every subset of modalities, late fusion, metrics and cost; no network is trained here."""

from __future__ import annotations

from kd.registry import Entry, Registry

BAYES = "Bayes rule"
"""The row of a table that no method can pass but by luck; only for data whose law is known."""

COMBINATIONS = Registry(
    "combination",
    {
        "product": Entry(
            "kd.evaluate.fusion:Product",
            "normalised product of the members' probabilities",
            "Hinton 2002, doi:10.1162/089976602760128018",
        ),
        "mean": Entry(
            "kd.evaluate.fusion:Mean",
            "mean of the members' probabilities",
            "Kittler et al. 1998, doi:10.1109/34.667881 (sum rule)",
        ),
        "weighted": Entry(
            "kd.evaluate.fusion:Weighted",
            "mean of the members' probabilities with convex weights fitted on validation rows",
            "Stone 1961, doi:10.1214/aoms/1177704873 (linear opinion pool)",
        ),
        "corrected": Entry(
            "kd.evaluate.fusion:Corrected",
            "product in which the prior counts once: the Bayes rule for modalities independent given the class",
            "Kittler et al. 1998, doi:10.1109/34.667881 (product rule)",
        ),
        "calibrated": Entry(
            "kd.evaluate.fusion:Calibrated",
            "product after temperature scaling of each member on validation rows",
            "Guo et al. 2017, 1706.04599",
        ),
    },
)
