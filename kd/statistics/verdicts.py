"""What an interval of a difference allows to be said."""

from __future__ import annotations

VERDICTS = ("better", "worse", "tie", "inconclusive")
NON_INFERIOR, INFERIOR, INCONCLUSIVE = "non-inferior", "inferior", "inconclusive"


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


def non_inferior(low: float, high: float, margin: float) -> str:
    """Return `non-inferior` (interval above minus the margin), `inferior` (below it) or `inconclusive`.

    No interval, its ends NaN, is inconclusive.

    >>> non_inferior(-0.004, 0.001, 0.01), non_inferior(-0.03, -0.02, 0.01), non_inferior(-0.02, 0.01, 0.01)
    ('non-inferior', 'inferior', 'inconclusive')
    """
    if low >= -margin:
        return NON_INFERIOR
    return INFERIOR if high < -margin else INCONCLUSIVE
