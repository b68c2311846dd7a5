"""Rows that every test of a stand-in reads: three vectors that predict one another, some of each hidden."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kd.models.classifier import Classifier
from kd.seeding import initialise

SHAPES = {"a": (5,), "b": (3, 2), "c": (4,)}


def vectors(rows: int, seed: int = 0) -> dict[str, Tensor]:
    """Return float64 vectors that share three causes, none of them centred or of unit variance."""
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.Generator().manual_seed(99)  # what predicts what is the same for all rows
    causes = torch.randn(rows, 3, generator=draw, dtype=torch.float64)
    found = {}
    for name, shape in SHAPES.items():
        size = torch.Size(shape).numel()
        mixed = causes @ torch.randn(3, size, generator=mixing, dtype=torch.float64)
        noise = 0.3 * torch.randn(rows, size, generator=draw, dtype=torch.float64)
        found[name] = (2 + 3 * (mixed + noise)).view(rows, *shape)
    return found


def some(rows: int, seed: int = 0, rate: float = 0.4) -> Tensor:
    """Return bool [rows, 3], modalities hidden at a rate, at least one of each row left."""
    draw = torch.Generator().manual_seed(seed + 1000)
    present = torch.rand(rows, 3, generator=draw) >= rate
    present[:, 0] |= ~present.any(dim=1)
    return present


def hidden(inputs: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
    """Return inputs with NaN in what is absent."""
    seen = dict(zip(inputs, present.unbind(dim=1), strict=True))
    return {n: torch.where(seen[n].view(-1, *[1] * (x.dim() - 1)), x, torch.nan) for n, x in inputs.items()}


def flat(inputs: dict[str, Tensor]) -> Tensor:
    """Return vectors side by side, [rows, F]."""
    return torch.cat([x.flatten(1) for x in inputs.values()], dim=1)


def network(name: str, seed: int = 0, **arguments: Any) -> Classifier:
    """Return a drawn network in float64 whose constants are fitted to nothing yet, in eval mode."""
    model = Classifier(SHAPES, 4, width=8, absent={"name": name, **arguments})
    initialise(model, seed)
    return model.double().eval()
