"""Does any method of a study pass the Bayes rule, where the data's law is known?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from kd.evaluate.bound import against_bayes
from kd.evaluate.predictions import answer
from kd.study.answers import Answers

Key = tuple[str, str, int]
"""(node, stage, seed)."""
CELL = ("node", "stage", "subset")
SHOWN = 3
"""Cells that the sentence names, the most extreme first."""


def bound(
    answers: Mapping[Key, Answers], rule: Mapping[Key, Answers], labels: Mapping[int, Tensor], every: Sequence[str]
) -> pd.DataFrame:
    """Return a row per node, stage and subset: is it significantly above the Bayes rule, Holm over all of them.

    Args:
        answers: of every node, all seeds.
        rule: the Bayes rule's, a key per seed; none where the law of the data is unknown.
        labels: seed -> int64, of the test rows.
        every: the subsets.
    """
    rules = {key[2]: own for key, own in rule.items()}
    cells: dict[tuple[str, str, str], list[tuple[Tensor, Tensor]]] = {}
    for (node, stage, seed), own in answers.items():
        for subset in every if seed in rules else ():
            answered = answer(own.test, subset)
            if answered is not None:
                pair = (_right(answered, labels[seed]), _right(rules[seed].test[subset], labels[seed]))
                cells.setdefault((node, stage, subset), []).append(pair)
    stacked = {
        cell: (torch.stack([m for m, _ in own]), torch.stack([r for _, r in own])) for cell, own in cells.items()
    }
    found = against_bayes(stacked)
    names = pd.DataFrame(list(stacked), columns=list(CELL))
    return pd.concat([names, found.reset_index(drop=True)], axis=1)


def sentence(found: pd.DataFrame) -> str:
    """Say whether any cell passes the Bayes rule, and name those that do.

    >>> sentence(pd.DataFrame([["student", "float", "a+b", 0.2, True]], columns=[*CELL, "difference", "above"]))
    '`student` (float, a+b) passes the Bayes rule in 1 of 1 cells (Holm): a leak, or not the rule of these data'
    >>> sentence(pd.DataFrame([["student", "float", "a+b", -0.1, False]], columns=[*CELL, "difference", "above"]))
    'no method passes the Bayes rule (Holm over 1 cells)'
    """
    above = found[found["above"].astype(bool)].sort_values("difference", ascending=False)
    if above.empty:
        return f"no method passes the Bayes rule (Holm over {len(found)} cells)"
    named = [f"`{row.node}` ({row.stage}, {row.subset})" for row in above.head(SHOWN).itertuples()]
    more = "" if len(above) <= SHOWN else f" and {len(above) - SHOWN} more"
    verb = "passes" if len(above) == 1 else "pass"
    count = f"in {len(above)} of {len(found)} cells (Holm)"
    return f"{', '.join(named)}{more} {verb} the Bayes rule {count}: a leak, or not the rule of these data"


def _right(logits: Tensor, label: Tensor) -> Tensor:
    return logits.argmax(dim=-1) == label
