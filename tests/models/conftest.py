"""What tests of networks share: a modality of each kind, and rows of it."""

from __future__ import annotations

import torch
from torch import Tensor

from kd.types import Modality

MODALITY = {
    "vector": Modality((5,), holes=True),
    "image": Modality((3, 16, 16), "image"),
    "text": Modality((6,), "text", vocabulary=30, pad=1),
    "sequence": Modality((4, 3), "sequence"),
}


def values(kind: str, rows: int = 6, seed: int = 1) -> Tensor:
    """Return a batch with what each kind has of gaps: holes, padded tokens, padded steps."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, *MODALITY[kind].shape)
    if kind == "image":
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    if kind == "text":
        ids = torch.randint(2, 30, shape, generator=generator)
        ids[0, 4:] = 1
        return ids
    x = torch.randn(shape, generator=generator)
    if kind == "sequence":
        x[0, 2:] = float("nan")
    x[1, ..., 0] = float("nan")
    return x
