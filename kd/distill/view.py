"""What a node sees of a batch: its modalities, the rows it may learn from, what is dropped, and the test subsets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from kd.seeding import generator

ENUMERATED = 8
"""Up to so many modalities every subset is tested; beyond, a fixed sample (protocol 8)."""
SAMPLED_SUBSETS, LEAST_ORDERINGS = 255, 8
"""Beyond, about as many subsets are tested as 8 modalities have, from at least so many random orderings."""


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the non-empty subsets a network is judged on, by size, members in the order given.

    Up to 8 modalities these are all 2^M - 1. Beyond, a fixed sample: every single modality, every subset that lacks
    one, all of them, and the first k members of each of the `orderings` for the sizes k in between.

    >>> subsets(["a", "b"])
    [('a',), ('b',), ('a', 'b')]
    >>> len(subsets("abcdefgh")), len(subsets("abcdefghijklmnop"))
    (255, 246)
    """
    if len(modalities) <= ENUMERATED:
        return [chosen for size in range(1, len(modalities) + 1) for chosen in combinations(modalities, size)]
    whole = frozenset(modalities)
    sample = {whole} | {frozenset({name}) for name in whole} | {whole - {name} for name in whole}
    sample |= {frozenset(order[:size]) for order in orderings(modalities) for size in range(1, len(whole))}
    places = sorted([i for i, name in enumerate(modalities) if name in chosen] for chosen in sample)
    return [tuple(modalities[i] for i in chosen) for chosen in sorted(places, key=len)]


def orderings(modalities: Sequence[str]) -> list[list[str]]:
    """Return fixed random orderings of more than 8 modalities, the same however these are ordered.

    What opens an ordering is among `subsets`, so together they give Shapley values by permutation sampling.
    """
    count = len(modalities)
    needed = max(LEAST_ORDERINGS, (SAMPLED_SUBSETS - 2 * count - 1) // (count - 3))
    random, names = generator(0, "subsets", str(count)), sorted(modalities)
    return [[names[place] for place in torch.randperm(count, generator=random)] for _ in range(needed)]


def judged(modalities: Sequence[str], select: str) -> list[tuple[str, ...]]:
    """Return the subsets a node's validation score is the mean over: `subsets` if so selected, else everything.

    >>> judged(["a", "b"], "complete")
    [('a', 'b')]
    """
    return subsets(modalities) if select == "subsets" else [tuple(modalities)]


def pattern(modalities: Sequence[str], subset: Sequence[str]) -> Tensor:
    """Return bool [M]: which of `modalities` are in `subset`."""
    return torch.tensor([name in subset for name in modalities])


def grown(rate: float | Tensor, step: int, steps: float, warmup: float) -> float | Tensor:
    """Return a rate that grows linearly from 0 over the first share `warmup` of the steps and then stays.

    >>> grown(0.5, 10, 100, 0.4), grown(0.5, 60, 100, 0.4), grown(0.5, 0, 100, 0.0)
    (0.125, 0.5, 0.5)
    """
    return rate if step >= warmup * steps else rate * (step / (warmup * steps))


def row_draws(seed: int | Tensor, index: Tensor, columns: int) -> Tensor:
    """Return draws uniform in [0, 1), float32 [B, columns]: functions of (seed, row) alone.

    So a row is hidden in the same way in whatever batch, micro-batch or process it stands. SplitMix64 as a hash of the
    counter `row * columns + column` (Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195).

    Args:
        seed: of this step, one for all or one per row [B, 1].
        index: int64 [B], the rows.
        columns: draws per row.
    """
    counter = index.unsqueeze(1) * columns + torch.arange(1, columns + 1, device=index.device)
    x = counter * GOLDEN + seed
    x = (x ^ _shift(x, 30)) * FIRST
    x = (x ^ _shift(x, 27)) * SECOND
    return _shift(x ^ _shift(x, 31), 40).float() * 2.0**-24


GOLDEN, FIRST, SECOND = (c - 2**64 for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""SplitMix64's constants as signed numbers; products wrap."""


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift int64 to the right as if it had no sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
