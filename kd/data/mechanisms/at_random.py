"""Why a training row lacks a modality: each mechanism draws keep, bool [N, M], True wherever nothing is simulated.

One that hides labels or single values draws `Shown`. All of them touch training rows only, draw each modality from its
own stream, derived from (seed, its name), and so give a modality the same column whatever the order of the source's
modalities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import MaskError
from kd.registry import suggest
from kd.seeding import generator


@dataclass(frozen=True, eq=False)
class Shown:
    """What a mechanism leaves to be seen, beyond whole modalities.

    Attributes:
        keep: bool [N, M], modalities.
        labelled: bool [N]; None hides no label.
        cells: modality -> bool [N, ...], the values inside a modality; a modality that is not named loses none.
    """

    keep: Tensor
    labelled: Tensor | None = None
    cells: dict[str, Tensor] = field(default_factory=dict)


def complete(source: Source, split: Split, seed: int) -> Tensor:
    """Hide nothing."""
    return torch.ones_like(source.observed)


def mcar(
    source: Source, split: Split, seed: int, *, rate: float | Mapping[str, float] = 0.3, allow_empty: bool = False
) -> Tensor:
    """Hide each modality completely at random.

    With `allow_empty` the modalities are independent Bernoulli draws at `rate`. Without it, the law is that one
    conditioned on "at least one observed modality stays", drawn exactly, without rejection. The
    Bernoulli rates q_m are raised beforehand so that the rate after conditioning is the one asked,

        r_m = (q_m - P) / (1 - P),   P = prod_m q_m,

    which is possible for sum_m (1 - r_m) >= 1, that is a mean rate up to 1 - 1/M; there exactly one modality stays.
    Conditioning makes the modalities dependent. In rows with gaps of nature's own the same q_m hold, conditioned on
    the modalities that nature left.

    Args:
        rate: fraction of training rows hidden, in [0, 1], for all modalities or by name (unnamed ones: 0).
        allow_empty: let rows lose everything.

    Raises:
        MaskError: a rate out of range, an unknown modality, or rates that cannot leave one modality in every row.
    """
    rates = rates_of(source, rate, "mcar")
    streams = {name: generator(seed, "mask", "mcar", name) for name in source.modalities}
    train = split.train
    seen = source.observed[train]
    asked = torch.tensor([rates[name] for name in source.modalities], dtype=torch.float64)
    keep = torch.ones_like(source.observed)
    if allow_empty:
        keep[train] = uniform(streams, len(train)) >= asked
        return keep
    if (1 - asked).sum() < 1 - 1e-9:
        raise MaskError(
            f"{source.name}: mcar: a mean rate of {asked.mean():.4g} cannot leave one of {len(asked)} modalities in "
            f"every row; at most {1 - 1 / len(asked):.4g} is possible, or allow_empty: true"
        )
    keep[train] = _draw_conditioned(streams, unconditioned_stay(asked), seen)
    return keep


def severe(source: Source, split: Split, seed: int, *, complete: int, pool: int | None = None) -> Tensor:
    """Leave few training rows complete; every other one keeps a single modality.

    The complete rows are spread over the classes as the training rows are, and nested: with one seed, 50 complete rows
    contain the 20. Rows beyond the pools keep nothing and are simply unused.

    Args:
        complete: n_c, number of complete rows, at least 1.
        pool: single-modality rows per modality; by default all remaining rows, in equal parts.

    Raises:
        MaskError: there are not enough training rows, complete or per modality; it says how many there are.
    """
    ordered = spread_over_classes(source, split.train, generator(seed, "mask", "severe", "complete"))
    whole = source.observed[ordered].all(dim=1)
    if not 1 <= complete <= int(whole.sum()):
        raise MaskError(
            f"{source.name}: severe: complete={complete} is impossible; the training rows allow 1 to {int(whole.sum())}"
        )
    chosen = ordered[whole][:complete]
    keep = torch.ones_like(source.observed)
    keep[split.train] = False
    keep[chosen] = True
    rest = split.train[~torch.isin(split.train, chosen)]
    rest = rest[torch.randperm(len(rest), generator=generator(seed, "mask", "severe", "rest"))]
    owner = _deal(source, rest) if pool is None else _fill(source, rest, pool)
    for column in range(len(source.modalities)):
        keep[rest[owner == column], column] = True
    return keep


def rates_of(source: Source, rate: float | Mapping[str, float], mechanism: str) -> dict[str, float]:
    """Return modality -> rate, in the source's order, from one rate for all or some by name (unnamed ones: 0).

    Raises:
        MaskError: a modality is unknown, or a rate out of range; it names the mechanism.
    """
    rates = dict.fromkeys(source.modalities, 0.0) if isinstance(rate, Mapping) else dict.fromkeys(source.inputs, rate)
    for name, value in rate.items() if isinstance(rate, Mapping) else ():
        if name not in source.inputs:
            raise MaskError(
                f"{source.name}: {mechanism}: unknown modality {name!r} in rate; {suggest(str(name), source.inputs)}"
            )
        rates[name] = value
    for name, value in rates.items():
        if not 0 <= value <= 1:
            raise MaskError(f"{source.name}: {mechanism}: rate of {name!r} is {value}; expected a fraction in 0..1")
    return rates


def uniform(streams: Mapping[str, torch.Generator], rows: int) -> Tensor:
    """Return float64 [rows, M], each column from its modality's stream."""
    return torch.stack([torch.rand(rows, generator=s, dtype=torch.float64) for s in streams.values()], dim=1)


def unconditioned_stay(rates: Tensor) -> Tensor:
    """Return 1 - q, float64 [M], whose law conditioned on not hiding everything has the marginal `rates`.

    P = prod(r + P (1 - r)) has the root 1 and, below the bound, one more in [0, 1): found by bisection, since
    log prod(...) - log P falls to it from the left.
    """
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        # Beyond the smaller root the product lies under P; before it, above.
        if math.prod((rates + middle * (1 - rates)).tolist()) > middle:
            low = middle
        else:
            high = middle
    # At the bound P is 1; the limit of the conditioned law is reached to the last digit well before.
    return max(1 - high, 1e-9) * (1 - rates)


def _draw_conditioned(streams: Mapping[str, torch.Generator], stay: Tensor, seen: Tensor) -> Tensor:
    """Return keep, bool [rows, M], independent with chances `stay` given that something of `seen` is kept.

    Exact, one modality after another by name: while a row holds nothing, the chance of k is divided by the chance
    that k or a later one that nature left stays, 1 - prod_{j >= k} (1 - stay_j).
    """
    chance = dict(zip(streams, stay.clamp_min(1e-18), strict=True))
    there = dict(zip(streams, seen.T.contiguous(), strict=True))
    needed = {}
    tail = torch.zeros(len(seen), dtype=torch.float64)
    for name in sorted(streams, reverse=True):
        tail = tail + torch.where(there[name], torch.log1p(-chance[name]), 0.0)  # log chance that all from k on go
        needed[name] = -torch.expm1(tail)
    keep = {}
    holds = torch.zeros(len(seen), dtype=torch.bool)
    for name in sorted(streams):
        lifted = torch.where(holds | ~there[name], chance[name], chance[name] / needed.pop(name))
        keep[name] = torch.rand(len(seen), generator=streams[name], dtype=torch.float64) < lifted
        holds |= keep[name] & there[name]
    return torch.stack([keep[name] for name in streams], dim=1)


def spread_over_classes(source: Source, train: Tensor, random: torch.Generator) -> Tensor:
    """Return rows in a random order whose every prefix has the classes in their proportions."""
    shuffled = train[torch.randperm(len(train), generator=random)]
    if source.task != "multiclass":
        return shuffled
    label = source.label[shuffled]
    place = torch.empty(len(label), dtype=torch.float64)
    for value in label.unique():
        rows = (label == value).nonzero()[:, 0]
        place[rows] = (torch.arange(len(rows), dtype=torch.float64) + 0.5) / len(rows)
    return shuffled[place.argsort(stable=True)]


def _deal(source: Source, rest: Tensor) -> Tensor:
    """Return each row's one modality as a column, int64 [rows], dealt in turn; -1 where nature left none.

    The turn goes by name; a row that lacks the modality whose turn it is keeps the next it has.
    """
    order = torch.tensor([source.modalities.index(name) for name in sorted(source.modalities)])
    turn = torch.arange(len(rest))[:, None] + torch.arange(len(order))
    candidates = order[turn % len(order)]
    seen = source.observed[rest].gather(1, candidates)
    owner = candidates.gather(1, seen.int().argmax(dim=1, keepdim=True))[:, 0]
    return torch.where(seen.any(dim=1), owner, -1)


def _fill(source: Source, rest: Tensor, pool: int) -> Tensor:
    """Return each row's one modality as a column, int64 [rows], `pool` rows per modality; -1 for unused rows."""
    if not 0 <= pool <= len(rest) // len(source.modalities):
        raise MaskError(
            f"{source.name}: severe: pool={pool} for each of {len(source.modalities)} modalities is impossible; "
            f"{len(rest)} rows remain beside the complete ones, so 0 to {len(rest) // len(source.modalities)}"
        )
    owner = torch.full((len(rest),), -1)
    for name in sorted(source.modalities):
        column = source.modalities.index(name)
        free = ((owner < 0) & source.observed[rest, column]).nonzero()[:, 0]
        if len(free) < pool:
            raise MaskError(
                f"{source.name}: severe: pool={pool} is impossible; {len(free)} rows left have {name!r}, lower pool"
            )
        owner[free[:pool]] = column
    return owner
