"""Differences of two methods on test rows, as the table of pairs records them, readable from both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

OPPOSITE = {"better": "worse", "worse": "better"}


@dataclass(frozen=True)
class Difference:
    """What a method scores above another on test rows.

    Attributes:
        estimate, low, high: with its 95% interval; NaN ends where there is none.
        verdict: of the method: better, worse, tie or inconclusive.
        metric: whose unit it has; the higher, the better.
    """

    estimate: float
    low: float
    high: float
    verdict: str
    metric: str

    @property
    def detectable(self) -> float:
        """Half the interval: no smaller estimate would have been told from 0."""
        return (self.high - self.low) / 2

    @property
    def reverse(self) -> Difference:
        """The same from the other side."""
        verdict = OPPOSITE.get(self.verdict, self.verdict)
        return Difference(-self.estimate, -self.high, -self.low, verdict, self.metric)


Differences = dict[tuple[str, str], list[Difference]]
"""(method, baseline) -> their differences, one per setting; both orders of a pair are there."""


def differences(pairs: pd.DataFrame, over: str) -> Differences:
    """Return every two methods' differences in both orders, in whichever order they were recorded.

    Args:
        pairs: a run's table of that name, or rows of an ablation's.
        over: `mean over subsets` or `complete`.
    """
    found: Differences = {}
    for row in pairs[pairs["over"] == over].itertuples(index=False):
        own = _recorded(row)
        found.setdefault((row.method, row.baseline), []).append(own)
        found.setdefault((row.baseline, row.method), []).append(own.reverse)
    return found


def _recorded(row: Any) -> Difference:
    return Difference(row.estimate, row.low, row.high, row.verdict, row.metric)
