"""The same mechanism over the test rows: how what hides modalities in training would hide them at test.

Whatever a law is fitted to are training rows (`kd.data.laws`), as for the training mask of the same seed, so that one
process covers both; the draws are a stream of their own, so that who is hidden at test is independent of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from kd.data.dependent import hidden_by, laws
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import MaskError
from kd.seeding import derive

COUNTS_ROWS = ("severe", "file")
"""Mechanisms that are no process: they say which training rows, or how many, so there is nothing to draw again."""


def keep_at_test(
    source: Source, split: Split, seed: int, name: str, factory: Callable[..., Tensor], parameters: Mapping[str, Any]
) -> Tensor:
    """Draw keep, bool [N, M], for the test rows of a split; True in all others.

    Raises:
        MaskError: the mechanism speaks of training rows alone, or cannot do what is asked.
    """
    if name in COUNTS_ROWS:
        raise MaskError(f"{source.name}: {name} speaks of training rows alone; for test rows name mcar, pattern or mar")
    stream = derive(seed, "mask", "test rows")
    if name in ("mar", "mnar"):
        found = laws(source, split, seed, {**parameters, "name": name})
        return hidden_by(source, split.test, stream, name, found)
    # A mechanism without a fitted law hides the rows that it is told are for training.
    return factory(source, Split(split.test, split.validation, split.train), stream, **parameters)
