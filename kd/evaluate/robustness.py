"""Effective robustness: what a model keeps under missing modalities beyond what its clean score foretells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from kd.errors import DataError

LEAST_BASELINES = 8
"""A line through fewer points says little about a model beside it (protocol 9)."""


@dataclass(frozen=True)
class EffectiveRobustness:
    """How far a model lies above the line of the baselines.

    Attributes:
        residual: in logits of accuracy.
        accuracy: the same distance in accuracy, as Taori et al. print it.
        slope, intercept: of the line on the logits.
        r2: of the line.
        baselines: how many it goes through.
    """

    residual: float
    accuracy: float
    slope: float
    intercept: float
    r2: float
    baselines: int


def effective_robustness(
    model: tuple[float, float], baselines: Mapping[str, tuple[float, float]], *, rows: int
) -> EffectiveRobustness:
    """Return a model's distance from the line logit(missing) = a + b logit(clean) through the baselines.

        residual = logit(acc_missing) - (a + b logit(acc_clean))

    Taori et al. 2020 (arXiv 2007.00644, section 2). Accuracies of 0 and 1 are moved half a row inwards.

    Args:
        model: accuracy with everything present, and under missing modalities.
        baselines: name -> the same two accuracies; the model is not among them.
        rows: test rows that the accuracies are over.

    Raises:
        DataError: fewer than 8 baselines, or all with the same clean accuracy: there is no line.
    """
    from scipy.stats import linregress

    if len(baselines) < LEAST_BASELINES:
        raise DataError(
            f"effective robustness: expected at least {LEAST_BASELINES} baselines, got {len(baselines)}; it is not "
            "reported with fewer"
        )
    inside = (0.5 / rows, 1 - 0.5 / rows)
    clean, missing = logit(np.clip(np.array(list(baselines.values()), dtype=float).T, *inside))
    if np.ptp(clean) == 0:
        raise DataError("effective robustness: all baselines have the same clean accuracy; no line goes through them")
    line = linregress(clean, missing)
    own_clean, own_missing = logit(np.clip(np.array(model, dtype=float), *inside))
    foretold = line.intercept + line.slope * own_clean
    return EffectiveRobustness(
        residual=float(own_missing - foretold),
        accuracy=float(expit(own_missing) - expit(foretold)),
        slope=float(line.slope),
        intercept=float(line.intercept),
        r2=float(line.rvalue**2),
        baselines=len(baselines),
    )
