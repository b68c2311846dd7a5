"""What a test can reject at all: the smallest p of a rank or sign test over n, and the refusal of one that cannot."""

from __future__ import annotations

from kd.statistics import ALPHA, SEEDS_FOR_TEST
from kd.statistics.significance import FEW, RESAMPLES

MOST = 64
"""Beyond so many signs no smaller p is ever asked for."""
UNITS = {"crossed": "seeds", "wilcoxon": "seeds", "permutation": "rows or groups of rows", "mcnemar": "differing rows"}
"""Test -> what it counts."""


def smallest_p(test: str, n: int) -> float:
    """Return the smallest two-sided p that a test over n can give; 0 for one without a least step.

    Two of `2^n` patterns of signs are the most extreme; mid-p halves their chance, and drawn flips have a least step of
    their own.

    >>> smallest_p("wilcoxon", 5), smallest_p("wilcoxon", 6), smallest_p("mcnemar", 5), smallest_p("crossed", 5)
    (0.0625, 0.03125, 0.03125, 0.0)
    """
    if test == "crossed":
        return 0.0
    exact = min(1.0, 2.0 ** (1 - n))
    if test == "permutation":
        return max(exact, 2 / (RESAMPLES + 1))
    return exact / 2 if test == "mcnemar" and 0 < n < FEW else exact


def needed(test: str, family: int) -> int | None:
    """Return how many seeds, rows or groups a test needs to be able to reject in a family of this size.

    >>> needed("wilcoxon", 1), needed("wilcoxon", 6), needed("permutation", 1_000)
    (6, 8, None)
    """
    return next((n for n in range(1, MOST) if smallest_p(test, n) <= ALPHA / family), None)


def refusal(test: str, n: int, family: int) -> str:
    """Return why a test cannot reject, by name and with what it would need; empty where it can.

    Args:
        test: crossed, wilcoxon, permutation or mcnemar.
        n: seeds, or rows (groups) that it counts.
        family: tests that Holm's correction is made over; its first step asks for `alpha / family`.

    >>> refusal("wilcoxon", 5, 1)
    'wilcoxon over 5 seeds: its smallest p is 0.0625, above 0.05 / 1; it needs 6 seeds'
    """
    least = smallest_p(test, n)
    if least <= ALPHA / family:
        return ""
    enough = needed(test, family) or "a smaller family than that, whatever the"
    return (
        f"{test} over {n} {UNITS[test]}: its smallest p is {least:.4g}, above {ALPHA} / {family}; "
        f"it needs {enough} {UNITS[test]}"
    )


def untested(seeds: int, what: str = "seeds") -> str:
    """Return why so few seeds are not tested; empty where they are enough.

    >>> untested(5), untested(20)
    ('5 seeds, 20 are needed', '')
    """
    return f"{seeds} {what}, {SEEDS_FOR_TEST} are needed" if seeds < SEEDS_FOR_TEST else ""
