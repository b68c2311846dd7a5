"""What every method scores where a mechanism hides modalities of the test rows: train mechanism x test mechanism.

Each test row is answered for the subset that its mask leaves it; nothing is predicted anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from kd.config import Study
from kd.data.mask import Mask
from kd.data.masks import draw
from kd.data.source import Source
from kd.distill.graph import CLEAN
from kd.evaluate.predictions import SEPARATOR, Logits, answer, under
from kd.record import digest
from kd.study.answers import FLOAT, Answers
from kd.study.replicate import Replicate, mask_seed
from kd.study.scored import prior_of_rows
from kd.tasks import Task

if TYPE_CHECKING:
    from kd.study.evidence import Key

COLUMNS = ["node", "stage", "seed", "test_mask", "kind", "hidden", "metric", "value", "n", "fingerprint"]


@dataclass
class Hidden:
    """What one mechanism leaves of the test rows of one seed, fold after fold.

    Attributes:
        shown: bool [N, M].
        kind: MCAR, MAR or MNAR.
        share: of the modalities that the rows have by nature, how many it hides.
        fingerprint: of its masks.
    """

    shown: Tensor
    kind: str
    share: float
    fingerprint: str

    @classmethod
    def of(cls, source: Source, test: Sequence[Tensor], masks: Sequence[Mask]) -> Hidden:
        """Take the masks of a seed's folds, each with the rows it is for."""
        shown = torch.cat([mask.available(source)[rows] for mask, rows in zip(masks, test, strict=True)])
        observed = source.observed[torch.cat(list(test))]
        share = float((observed & ~shown).sum() / observed.sum())
        return cls(shown, masks[0].kind, share, digest([mask.fingerprint for mask in masks]))


def hidden_at_test(
    study: Study, source: Source, task: Task, replicates: Sequence[Replicate], answers: Mapping[Key, Answers]
) -> pd.DataFrame:
    """Return a row per method, seed, test mask and metric; `clean`, which hides nothing, comes first.

    A row that is left with nothing that a method sees is answered with the training prior.

    Args:
        study: the config; its `test_masks` are drawn anew for each replicate, or from its `mask_seed`.
        source: its data.
        task: of its labels.
        replicates: what was trained.
        answers: of each method, stage and seed, folds pooled.
    """
    found = []
    for seed in dict.fromkeys(r.seed for r in replicates):
        own = [r for r in replicates if r.seed == seed]
        label = source.label[torch.cat([r.split.test for r in own])]
        prior = prior_of_rows(source, task, own)
        masks = drawn_masks(study, source, own)
        for (node, stage, of_seed), answered in answers.items():
            if of_seed != seed or stage != FLOAT:
                continue
            own_subsets = answerable(answered.test, source.modalities)
            for name, hidden in masks.items():
                logits = under(own_subsets, hidden.shown, source.modalities, prior=prior)
                found += [
                    (node, stage, seed, name, hidden.kind, hidden.share, metric, value, len(label), hidden.fingerprint)
                    for metric, value in scores(task, logits, label).items()
                ]
    return pd.DataFrame(found, columns=COLUMNS)


def scores(task: Task, logits: Tensor, label: Tensor) -> dict[str, float]:
    """Return the primary metric and those that are means over rows; the others would take most of the time."""
    means = {name: float(values.mean()) for name, values in task.row_scores(logits, label).items()}
    return means | {task.primary: task.score(logits, label)}


def drawn_masks(study: Study, source: Source, replicates: Sequence[Replicate]) -> dict[str, Hidden]:
    """Return name -> what is hidden from the test rows of one seed, whose replicates are its folds."""
    parts = {CLEAN: {"name": "complete"}, **study.test_masks}
    seeds = [mask_seed(study, r.seed) for r in replicates]
    test = [r.split.test for r in replicates]
    drawn = {
        name: [draw(source, r.split, part, seed, hides="test") for r, seed in zip(replicates, seeds, strict=True)]
        for name, part in parts.items()
    }
    return {name: Hidden.of(source, test, masks) for name, masks in drawn.items()}


def answerable(logits: Logits, modalities: Sequence[str]) -> Logits:
    """Return a method's logits on subsets of what it sees.

    An ensemble's answers are spelt by every tested subset, also by modalities that none of its members sees.

    >>> own = {"a": torch.zeros(1, 2), "a+b": torch.zeros(1, 2)}
    >>> list(answerable(own, ["a", "b"]))
    ['a']
    """
    sees = {name for name in modalities if answer(logits, name) is not None}
    return {subset: own for subset, own in logits.items() if set(subset.split(SEPARATOR)) <= sees}
