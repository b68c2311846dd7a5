"""The same mechanism over the test rows: how what hides modalities in training would hide them at test.

Whatever a law is fitted to are training rows (`kd.data.laws`), as for the training mask of the same seed, so that one
process covers both; the draws are a stream of their own, so that who is hidden at test is independent of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from kd.data.dependent import hidden_by, laws
from kd.data.mechanisms import Shown
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import MaskError
from kd.seeding import derive

TRAINING_ONLY = ("severe", "file", "unlabelled", "joint")
"""Mechanisms that are no process of their own: they say which training rows, or how many, or hide labels, which no test
row shows anybody."""


def shown_at_test(
    source: Source,
    split: Split,
    seed: int,
    name: str,
    factory: Callable[..., Tensor | Shown],
    parameters: Mapping[str, Any],
) -> Tensor | Shown:
    """Draw what a mechanism leaves of the test rows of a split; everything in all others.

    Raises:
        MaskError: the mechanism speaks of training rows alone, or cannot do what is asked.
    """
    if name in TRAINING_ONLY:
        raise MaskError(f"{source.name}: {name} speaks of training rows alone; for test rows name mcar, pattern or mar")
    stream = derive(seed, "mask", "test rows")
    if name in ("mar", "mnar"):
        found = laws(source, split, seed, {**parameters, "name": name})
        return hidden_by(source, split.test, stream, name, found)
    # A mechanism without a fitted law hides the rows that it is told are for training.
    return factory(source, Split(split.test, split.validation, split.train), stream, **parameters)
