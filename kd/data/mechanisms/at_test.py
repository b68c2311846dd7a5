"""The same mechanism over the test rows: how what hides modalities in training would hide them at test.

Whatever a law is fitted to are training rows (`kd.data.mechanisms.laws`), as for the training mask of the same seed, so
that one process covers both; the draws are a stream of their own, so that who is hidden at test is independent of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from kd.data.mechanisms.at_random import Shown
from kd.data.mechanisms.dependent import hidden_by, laws
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import MaskError
from kd.seeding import derive

BY_ROW = ("complete", "mcar", "pattern", "cells", "span")
"""Mechanisms that draw each row by itself and fit nothing, so that any rows may take the place of the training rows."""
BY_LAW = ("mar", "mnar")
"""Mechanisms whose law is fitted to training rows."""

INSIDE = ("cells", "span")
"""Of those, the ones that hide single values and no modality."""


def whole_faults(part: Mapping[str, Any], where: str) -> list[str]:
    """Return why a mechanism cannot hide whole modalities of test rows, in a sentence; nothing where it can.

    >>> whole_faults({"name": "severe", "complete": 9}, "test_masks.few")[0]
    'test_masks.few.name: severe cannot hide modalities of single test rows; known: complete, mcar, pattern, mar, mnar'
    """
    known = [name for name in (*BY_ROW, *BY_LAW) if name not in INSIDE]
    if part["name"] in known:
        return []
    what = "hides single values, not" if part["name"] in INSIDE else "cannot hide"
    return [f"{where}.name: {part['name']} {what} modalities of single test rows; known: {', '.join(known)}"]


def draw_at_test(
    source: Source, split: Split, seed: int, name: str, factory: Callable[..., Any], parameters: Mapping[str, Any]
) -> Tensor | Shown:
    """Draw keep, bool [N, M], or `Shown`, for the test rows of a split; True in all others.

    Raises:
        MaskError: the mechanism is no process of single rows (it counts rows, deals with sites, hides labels, reads a
            file), or cannot do what is asked.
    """
    stream = derive(seed, "mask", "test rows")
    if name in BY_LAW:
        found = laws(source, split, seed, {**parameters, "name": name})
        return hidden_by(source, split.test, stream, name, found)
    if name in BY_ROW:
        return factory(source, Split(split.test, split.validation, split.train), stream, **parameters)
    known = ", ".join((*BY_ROW, *BY_LAW))
    raise MaskError(f"{source.name}: {name} is no process that test rows could undergo one by one; known: {known}")
