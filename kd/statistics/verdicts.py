"""What an interval of a difference allows to be said."""

from __future__ import annotations

VERDICTS = ("better", "worse", "tie", "inconclusive")
NON_INFERIOR, INFERIOR, INCONCLUSIVE = "non-inferior", "inferior", "inconclusive"
WIN, TIE, LOSS = "win", "tie", "loss"


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


def contest(estimate: float, low: float, high: float, least: float) -> str:
    """Return `win` (at least `least`, interval above 0), `loss` (interval below 0), `tie` (interval inside `least`).

    All else is inconclusive, no interval included.

    >>> contest(0.02, 0.004, 0.036, 0.01), contest(0.008, 0.004, 0.012, 0.01), contest(0.0, -0.005, 0.005, 0.01)
    ('win', 'inconclusive', 'tie')
    """
    if low > 0 and estimate >= least:
        return WIN
    if high < 0:
        return LOSS
    return TIE if -least < low and high < least else INCONCLUSIVE


def non_inferior(low: float, high: float, margin: float) -> str:
    """Return `non-inferior` (interval above minus the margin), `inferior` (below it) or `inconclusive`.

    No interval, its ends NaN, is inconclusive.

    >>> non_inferior(-0.004, 0.001, 0.01), non_inferior(-0.03, -0.02, 0.01), non_inferior(-0.02, 0.01, 0.01)
    ('non-inferior', 'inferior', 'inconclusive')
    """
    if low >= -margin:
        return NON_INFERIOR
    return INFERIOR if high < -margin else INCONCLUSIVE
