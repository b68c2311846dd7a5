"""What an interval of a difference allows to be said."""

from __future__ import annotations

VERDICTS = ("better", "worse", "tie", "inconclusive")


def verdict(low: float, high: float, margin: float) -> str:
    """Return `better` (interval above 0), `worse` (below), `tie` (inside the margin) or `inconclusive`.

    No interval, its ends NaN, is inconclusive.

    >>> verdict(0.01, 0.03, 0.005), verdict(-0.002, 0.003, 0.005), verdict(-0.01, 0.03, 0.005)
    ('better', 'tie', 'inconclusive')
    """
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "tie" if -margin < low and high < margin else "inconclusive"
