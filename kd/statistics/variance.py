"""Where the variance of a score comes from: random-effects components of a balanced table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kd.errors import DataError

REST = "rest"


def components(scores: pd.DataFrame, factors: Sequence[str], value: str) -> pd.DataFrame:
    """Return how much of a score's variance each factor brings, by the ANOVA estimators of random effects.

    The model is additive, `y = mu + sum_f a_f + e`; interactions of factors go into the rest. With n scores, of which
    n / L_f share a level of factor f, `var_f = (MS_f - MS_rest) / (n / L_f)` and `var_rest = MS_rest` (Searle, Casella
    & McCulloch 1992, "Variance Components", chapter 4).

    Args:
        scores: one row for every combination of levels, or equally many for each.
        factors: its columns, e.g. mask seed, model seed, split seed; each with 2 levels or more.
        value: the score's column.

    Returns:
        factor (the rest last), levels, variance, share of the sum, negative: the estimate was below 0 and counts as 0.

    Raises:
        DataError: a combination is missing, or a factor does not vary.
    """
    sizes = scores.groupby(list(factors)).size()
    levels = {factor: scores[factor].nunique() for factor in factors}
    if min(levels.values()) < 2:
        fixed = [factor for factor, count in levels.items() if count < 2]
        raise DataError(f"variance: {', '.join(fixed)} has one level; name factors that vary")
    if sizes.nunique() > 1 or len(sizes) != np.prod(list(levels.values())):
        raise DataError(
            f"variance: {len(sizes)} of {np.prod(list(levels.values()))} combinations of {', '.join(factors)} have "
            f"scores, {sizes.min()} to {sizes.max()} each; the split needs a balanced table, leave out what is not"
        )
    squares = _mean_squares(scores, factors, value)
    found = [(name, levels[name], (squares[name] - squares[REST]) * levels[name] / len(scores)) for name in factors]
    rows = [*found, (REST, len(scores), squares[REST])]
    frame = pd.DataFrame(rows, columns=["factor", "levels", "variance"])
    frame["negative"] = frame["variance"] < 0
    frame["variance"] = frame["variance"].clip(lower=0)
    frame["share"] = frame["variance"] / (frame["variance"].sum() or np.nan)
    return frame[["factor", "levels", "variance", "share", "negative"]]


def _mean_squares(scores: pd.DataFrame, factors: Sequence[str], value: str) -> dict[str, float]:
    """Return factor -> mean square, that of the rest last."""
    y, squares = scores[value].to_numpy(dtype=float), {}
    left, degrees = float(((y - y.mean()) ** 2).sum()), len(y) - 1
    for factor in factors:
        own = scores.groupby(factor)[value].transform("mean").to_numpy(dtype=float)
        explained, free = float(((own - y.mean()) ** 2).sum()), scores[factor].nunique() - 1
        squares[factor] = explained / free
        left, degrees = left - explained, degrees - free
    squares[REST] = max(left, 0.0) / max(degrees, 1)
    return squares
