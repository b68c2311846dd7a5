"""How evenly a model draws on its modalities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenness(contributions: NDArray[np.float64]) -> float:
    """Return Jain's fairness index of what the modalities contribute, between 1/M (one alone) and 1 (all alike).

        J(x) = (sum_m x_m)^2 / (M sum_m x_m^2),   x_m = max(phi_m, 0)

    with phi_m the Shapley value of modality m; one that harms counts as one that gives nothing. NaN where nothing
    contributes, and for a single modality. Jain, Chiu & Hawe 1984 (DEC-TR-301, arXiv cs/9809099).

    This is not MissBench's Modality Equity Index (arXiv 2603.09874), which asks the same question: its formula could
    not be checked, so nothing here bears its name.

    >>> evenness(np.array([0.2, 0.2])), evenness(np.array([0.4, -0.1]))
    (1.0, 0.5)
    """
    given = np.maximum(contributions, 0.0)
    if len(given) < 2 or not given.sum() > 0:
        return float("nan")
    return float(given.sum() ** 2 / (len(given) * np.square(given).sum()))
