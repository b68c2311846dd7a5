"""Nobody passes the Bayes rule: a method's right answers against the rule's own, on the same rows (protocol 14).

The rule picks the most likely class of a row given all that a method may see. So where only one of the two is right,
that is the method with a chance of at most 1/2, whatever the row; and of n such rows the number on which it is the
method is at most binomial(n, 1/2): one-sided exact McNemar (McNemar 1947, doi:10.1007/BF02295996). What is
significantly above saw what it must not, or the rule is not the one of these data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kd.statistics.significance import holm

LEVEL = 0.05
COLUMNS = ("seeds", "rows", "method_only", "rule_only", "difference", "p", "adjusted", "above")

Cell = TypeVar("Cell")


def exceeds(method: Tensor, rule: Tensor) -> float:
    """Return p of "the method is right no more often than the rule", one-sided, exact.

    Seeds share test rows and are not independent: p is the least of theirs times their number (Bonferroni), so a small
    one says that at least one of these trained models passes the rule.

    Args:
        method: bool [R] or [S, R], is the answer right.
        rule: the same for the Bayes rule, [R] or [S, R].

    >>> right = torch.tensor([True] * 10)
    >>> exceeds(right, ~right) == 0.5**10, exceeds(~right, right), exceeds(right, right)
    (True, 1.0, 1.0)
    """
    from scipy.stats import binom

    method, rule = torch.broadcast_tensors(torch.atleast_2d(method.bool()), torch.atleast_2d(rule.bool()))
    method_only, rule_only = (method & ~rule).sum(dim=1).numpy(), (rule & ~method).sum(dim=1).numpy()
    each = binom.sf(method_only - 1, method_only + rule_only, 0.5)
    return float(min(1.0, len(each) * each.min()))


def against_bayes(cells: Mapping[Cell, tuple[Tensor, Tensor]], *, level: float = LEVEL) -> pd.DataFrame:
    """Return a row per cell: is the method significantly above the Bayes rule there, Holm over all cells.

    Args:
        cells: what a row is called -> (method, rule), as in `exceeds`; one cell per node and subset or test mask.
        level: chance of naming any cell where nobody passes.

    Returns:
        seeds, rows, method_only and rule_only (rows on which only one is right, over all seeds), difference (of
        accuracies), p, adjusted, above; indexed by the cells.
    """
    if not cells:
        return pd.DataFrame(columns=list(COLUMNS))
    found = pd.DataFrame([_counts(*pair) for pair in cells.values()], index=pd.Index(list(cells), tupleize_cols=False))
    found["p"] = [exceeds(*pair) for pair in cells.values()]
    return one_family(found, level=level)[list(COLUMNS)]


def one_family(found: pd.DataFrame, *, level: float = LEVEL) -> pd.DataFrame:
    """Return cells with their p adjusted over all of them, those of several studies together: Holm.

    >>> one_family(pd.DataFrame({"p": [0.03, 0.5]}))["above"].tolist()
    [False, False]
    """
    adjusted = holm(found["p"].to_numpy())
    return found.assign(adjusted=adjusted, above=adjusted <= level)


def _counts(method: Tensor, rule: Tensor) -> dict[str, float]:
    method, rule = torch.broadcast_tensors(torch.atleast_2d(method.bool()), torch.atleast_2d(rule.bool()))
    only, other = int((method & ~rule).sum()), int((rule & ~method).sum())
    seeds, rows = method.shape
    return {
        "seeds": seeds,
        "rows": rows,
        "method_only": only,
        "rule_only": other,
        "difference": float(np.divide(only - other, seeds * rows)),
    }
