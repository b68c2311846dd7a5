"""Mechanisms that hide values inside a modality: single features, or a run of neighbouring ones.

What they hide becomes an empty cell, which the network imputes; the row keeps the modality. Where a row would lose all
features of a modality, it keeps one of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kd.data.columns import Frame
from kd.data.mechanisms.at_random import Shown, rates_of
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import MaskError
from kd.seeding import generator


def cells(source: Source, split: Split, seed: int, *, rate: float | Mapping[str, float] = 0.3) -> Shown:
    """Hide single features of vectors and tables, or of each step of a sequence, completely at random.

    Args:
        rate: fraction of a modality's values that are hidden in training rows, in [0, 1), for all modalities that can
            lose values, or by name (unnamed ones: 0).

    Raises:
        MaskError: a rate out of range, or of a modality that has no features to lose.
    """
    found = {}
    for name, chance in _rates(source, rate, "cells").items():
        random = generator(seed, "mask", "cells", name)
        drawn = torch.rand(len(split.train), *_shape(source, name), generator=random) >= chance
        flat = drawn.flatten(1)
        saved = torch.randint(flat.shape[1], (len(flat), 1), generator=random)
        flat |= ~flat.any(dim=1, keepdim=True) & torch.zeros_like(flat).scatter_(1, saved, True)
        found[name] = _everywhere(source, split, name, drawn)
    return Shown(torch.ones_like(source.observed), cells=found)


def span(source: Source, split: Split, seed: int, *, rate: float | Mapping[str, float] = 0.3) -> Shown:
    """Hide one run of neighbouring features of a vector or table, or of neighbouring steps of a sequence, in each row.

    With F features, a row loses floor(rate F) or one more, in the mean rate F, from a place drawn uniformly among those
    where the run fits: features near the ends are hidden less often than those in the middle.

    Args:
        rate: fraction of a modality's features, or steps, that a training row loses, in [0, 1), for all modalities that
            can lose values, or by name (unnamed ones: 0).

    Raises:
        MaskError: as for `cells`; a run that would leave nothing.
    """
    found = {}
    for name, chance in _rates(source, rate, "span").items():
        random, shape = generator(seed, "mask", "span", name), _shape(source, name)
        places = shape[0]
        if chance * places > places - 1:
            most = f"at most {1 - 1 / places:.3g} is possible"
            raise MaskError(f"{source.name}: span: {chance:g} of {places} in {name!r} leaves none; {most}")
        drawn = torch.rand(2, len(split.train), generator=random, dtype=torch.float64)
        length = (chance * places + drawn[0]).floor()
        start = (drawn[1] * (places - length + 1)).floor()
        place = torch.arange(places)
        kept = (place < start.unsqueeze(1)) | (place >= (start + length).unsqueeze(1))
        kept = kept.view(-1, places, *[1] * (len(shape) - 1)).expand(-1, *shape)
        found[name] = _everywhere(source, split, name, kept)
    return Shown(torch.ones_like(source.observed), cells=found)


def _rates(source: Source, rate: float | Mapping[str, float], mechanism: str) -> dict[str, float]:
    """Return modality -> rate above 0, of those that have features to lose."""
    rates = rates_of(source, rate, mechanism)
    able = {name for name in source.modalities if _shape(source, name)}
    for name, value in rates.items():
        if value == 1:
            raise MaskError(f"{source.name}: {mechanism}: rate of {name!r} is 1; to hide it altogether, use mcar")
        if isinstance(rate, Mapping) and value > 0 and name not in able:
            raise MaskError(
                f"{source.name}: {mechanism}: {name!r} has no features that could be empty; name vectors, tables or "
                "sequences"
            )
    if not able:
        raise MaskError(f"{source.name}: {mechanism}: no modality has features that could be empty; use mcar")
    return {name: rates[name] for name in source.modalities if name in able and rates[name] > 0}


def _shape(source: Source, name: str) -> tuple[int, ...]:
    """Return the shape of what a row may lose singly; () where it has nothing of the kind."""
    held = source.inputs[name]
    if isinstance(held, Frame):
        return (held.frame.shape[1],)
    return tuple(held.shape[1:]) if isinstance(held, Tensor) and held.is_floating_point() else ()


def _everywhere(source: Source, split: Split, name: str, kept: Tensor) -> Tensor:
    """Return bool [N, ...] from what is kept in the training rows; other rows keep everything."""
    found = torch.ones(len(source), *_shape(source, name), dtype=torch.bool)
    found[split.train] = kept
    return found
