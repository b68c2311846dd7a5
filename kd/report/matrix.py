"""Every two methods compared on test rows, as a matrix: won, tied, lost or undecided, in colour and in letters.

Descriptive: no p stands behind it, and among many pairs some stand apart by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from kd.report.differences import Difference, differences
from kd.report.setting import value_name
from kd.report.tables import interval, metric_name, number
from kd.report.words import unit
from kd.statistics.verdicts import VERDICTS

LETTERS = {"better": "W", "tie": "T", "worse": "L", "inconclusive": "?"}
LEGEND = (
    "Row minus column on test rows: W won (interval above 0), T tie (inside the margin), L lost (below 0), "
    "? undecided. Described, not tested: among many pairs some stand apart by chance."
)
COUNTS = "Settings won/undecided/lost by the row against the column; ties and undecided ones are counted together."


@dataclass(frozen=True)
class Square:
    """A cell of the matrix: what it shows, on two lines, its title and the class of its colour."""

    text: str
    below: str
    title: str
    kind: str


@dataclass(frozen=True)
class Matrix:
    """Methods by methods.

    Attributes:
        methods: in order, of rows and of columns.
        rows: squares of each method; None on the diagonal and where nothing was recorded.
    """

    methods: tuple[str, ...]
    rows: tuple[tuple[Square | None, ...], ...]


def matrix(pairs: pd.DataFrame, over: str, methods: Sequence[str]) -> Matrix:
    """Return the matrix of one setting.

    Args:
        pairs: a run's table of that name, or the rows of one variant.
        over: `mean over subsets` or `complete`.
        methods: in order; those that no pair knows are left out.
    """
    known = differences(pairs, over)
    order = [name for name in dict.fromkeys(methods) if any(name in pair for pair in known)]
    square = _counted if any(len(own) > 1 for own in known.values()) else _single
    rows = [
        [square(one, other, known[one, other]) if (one, other) in known else None for other in order] for one in order
    ]
    return Matrix(tuple(order), tuple(map(tuple, rows)))


def _single(one: str, other: str, found: Sequence[Difference]) -> Square:
    own = found[0]
    middle = number(own.estimate, own.metric, signed=True)
    shown = interval(own.estimate, own.low, own.high, own.metric, signed=True)
    bracket = shown.partition(" ")[2]
    title = f"{one} − {other}: {shown} {unit(own.metric)}, {own.verdict}"
    return Square(f"{middle} {LETTERS[own.verdict]}", bracket, title, own.verdict)


def _counted(one: str, other: str, found: Sequence[Difference]) -> Square:
    counts = {verdict: sum(own.verdict == verdict for own in found) for verdict in VERDICTS}
    won, lost = counts["better"], counts["worse"]
    listing = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    title = f"{one} against {other} in {len(found)} settings: {listing}"
    kind = "better" if won > lost else "worse" if lost > won else "inconclusive"
    return Square(f"{won}/{len(found) - won - lost}/{lost}", "", title, kind)


def matrix_table(found: Matrix) -> pd.DataFrame:
    """Return the matrix as a table of text: a row and a column per method."""
    rows = [
        [name, *("" if square is None else f"{square.text} {square.below}".strip() for square in row)]
        for name, row in zip(found.methods, found.rows, strict=True)
    ]
    return pd.DataFrame(rows, columns=["row − column", *found.methods])


def pair_table(pairs: pd.DataFrame, heads: Sequence[str] = ()) -> pd.DataFrame:
    """Return every pair as a line of text with its interval and verdict.

    Args:
        pairs: of a run or an ablation.
        heads: columns that name a setting, to stand first.
    """
    rows = [
        {
            "method": r.method,
            "baseline": r.baseline,
            "over": r.over,
            "metric": metric_name(r.metric),
            "difference": interval(r.estimate, r.low, r.high, r.metric, signed=True),
            "verdict": r.verdict,
            "seeds": int(r.seeds),
        }
        for r in pairs.itertuples(index=False)
    ]
    columns = ["method", "baseline", "over", "metric", "difference", "verdict", "seeds"]
    table = pd.DataFrame(rows, columns=columns)
    for place, head in enumerate(heads):
        table.insert(place, head, [value_name(value) for value in pairs[head]])
    return table
