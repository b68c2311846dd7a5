"""What a node sees of a batch: its modalities, the rows it may learn from, what is dropped, and all test subsets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Return all 2^M - 1 non-empty subsets, by size, members in the order given.

    >>> subsets(["a", "b"])
    [('a',), ('b',), ('a', 'b')]
    """
    return [chosen for size in range(1, len(modalities) + 1) for chosen in combinations(modalities, size)]


def pattern(modalities: Sequence[str], subset: Sequence[str]) -> Tensor:
    """Return bool [M]: which of `modalities` are in `subset`."""
    return torch.tensor([name in subset for name in modalities])


def drop(present: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Hide each available modality with a probability, one always stays (modality dropout).

    The survivor of a row that would lose everything is uniform over what the row had; rows with nothing stay so.

    Args:
        present: bool [B, M].
        probability: in [0, 1).
        generator: on the CPU; two draws of [B, M] whatever the outcome, so that shapes stay fixed.

    Returns:
        bool [B, M], a subset of `present`.
    """
    uniform = torch.rand(present.shape, generator=generator).to(present.device)
    rank = torch.rand(present.shape, generator=generator).to(present.device)
    kept = present & (uniform >= probability)
    survivor = torch.where(present, rank, -1.0).argmax(dim=1, keepdim=True)
    saved = torch.zeros_like(present).scatter(1, survivor, True) & present
    return torch.where(kept.any(dim=1, keepdim=True), kept, saved)


def eligible(present: Tensor, rows: str, own: Sequence[int]) -> Tensor:
    """Return bool [B]: rows a node may learn from.

    Args:
        present: bool [B, M], columns of the source.
        rows: `any` of the node's own modalities, or `complete` over the source's.
        own: the node's columns.
    """
    return present.all(dim=1) if rows == "complete" else present[:, list(own)].any(dim=1)
