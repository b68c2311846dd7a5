"""Mechanisms that hide labels: rows of training whose label nobody wrote down still learn from teachers."""

from __future__ import annotations

import torch

from kd.data.mechanisms.at_random import Shown, spread_over_classes
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import MaskError
from kd.seeding import generator


def unlabelled(
    source: Source, split: Split, seed: int, *, rate: float | None = None, labels: int | None = None
) -> Shown:
    """Hide labels of training rows: each at random at a rate, or all but so many.

    A given number is spread over the classes as the training rows are, and nested: with one seed, 100 labels contain
    the 50.

    Args:
        rate: fraction of the training rows whose label is hidden, in [0, 1).
        labels: number of training rows that keep theirs, at least 1.

    Raises:
        MaskError: both or neither are given, or one is out of range.
    """
    if (rate is None) == (labels is None):
        raise MaskError(f"{source.name}: unlabelled: give rate or labels, got {'both' if labels else 'neither'}")
    labelled = torch.ones(len(source), dtype=torch.bool)
    random = generator(seed, "mask", "unlabelled")
    if rate is not None:
        if not 0 <= rate < 1:
            raise MaskError(f"{source.name}: unlabelled: rate is {rate}; expected a fraction in [0, 1)")
        labelled[split.train] = torch.rand(len(split.train), generator=random, dtype=torch.float64) >= rate
    if labels is not None:
        if not 1 <= labels <= len(split.train):
            raise MaskError(
                f"{source.name}: unlabelled: labels={labels} is impossible; expected 1 to {len(split.train)}"
            )
        labelled[split.train] = False
        labelled[spread_over_classes(source, split.train, random)[:labels]] = True
    return Shown(torch.ones_like(source.observed), labelled)
