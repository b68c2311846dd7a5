"""Does one thing help to tell another, once a third is known: what separates MAR from MNAR (protocol 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

TINY, RIDGE = 1e-12, 1e4
"""Least chance of a flag, and C of the fits, which keeps them finite where features tell the flag perfectly."""


def likelihood_ratio(flag: NDArray[np.bool_], known: NDArray[np.floating], added: NDArray[np.floating]) -> float:
    """Return the p of the likelihood-ratio test that `added` says nothing of `flag` once `known` is known.

    Twice the gain in log likelihood of a logistic regression is chi-square with as many degrees of freedom as columns
    were added (Wilks 1938, doi:10.1214/aoms/1177732360).

    Args:
        flag: bool [n], for example who lacks a modality.
        known: [n] or [n, k], what it may depend on; k = 0 for nothing.
        added: [n] or [n, j], what must not help.

    Returns:
        1 where all flags are equal: nothing can be told.

    >>> x = np.linspace(-2, 2, 100)
    >>> bool(likelihood_ratio(x + np.sin(9 * x) > 0, np.empty((100, 0)), x) < 1e-6)
    True
    """
    if flag.all() or not flag.any():
        return 1.0
    before, after = _columns(known), np.hstack([_columns(known), _columns(added)])
    gain = _deviance(before, flag) - _deviance(after, flag)
    return float(stats.chi2.sf(max(gain, 0.0), after.shape[1] - before.shape[1]))


def _columns(x: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(x, dtype=float).reshape(len(x), -1)


def _deviance(features: NDArray[np.floating], flag: NDArray[np.bool_]) -> float:
    """Return minus twice the greatest log likelihood of a logistic regression."""
    from sklearn.linear_model import LogisticRegression

    chance = np.full(len(flag), flag.mean())
    if features.shape[1]:
        fitted = LogisticRegression(C=RIDGE, solver="newton-cholesky", max_iter=100).fit(features, flag)
        chance = fitted.predict_proba(features)[:, 1]
    chance = np.clip(chance, TINY, 1 - TINY)
    return float(-2 * np.log(np.where(flag, chance, 1 - chance)).sum())
