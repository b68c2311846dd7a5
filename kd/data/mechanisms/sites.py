"""A mechanism that hides by site: where one hospital has no scanner, none of its patients has a scan."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from kd.data.columns import Frame
from kd.data.mechanisms.at_random import rates_of, unconditioned_stay
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import MaskError
from kd.seeding import generator


def block(
    source: Source,
    split: Split,
    seed: int,
    *,
    rate: float | Mapping[str, float] = 0.3,
    by: str = "group",
    sites: int | None = None,
) -> Tensor:
    """Hide modalities site by site: all training rows of a site lose a modality together; each site keeps one.

    Sites follow the law of `mcar` (`kd.data.mechanisms.at_random`), each as if it were a row: modality k leaves those
    that still hold something with chance q_k, those that hold nothing yet with a chance that leaves them one. Not each
    site is drawn by itself: in either set, sites in a random order lose it while their share of rows is not passed, and
    the next one with the chance that makes the mean right. So what is realised differs from the rate by less than the
    largest site's share.

    Args:
        rate: fraction of the training rows that lose a modality, in [0, 1), for all modalities or by name (unnamed
            ones: 0).
        by: `group`, the rows' groups, or `modality[column]`, a column of a table whose values are the sites.
        sites: deal the rows at random to so many sites instead, where the data have none.

    Raises:
        MaskError: the column is unknown, there are fewer than two sites or than two rows in the mean site, or they
            cannot lose so much and keep one modality each.
    """
    rates = rates_of(source, rate, "block")
    site = _sites(source, split.train, by) if sites is None else _dealt(source, split.train, sites, seed)
    count = int(site.max()) + 1
    if count < 2 or (sites is None and 2 * count > len(site)):
        raise MaskError(
            f"{source.name}: block: {count} sites among {len(site)} training rows; expected at least 2, of two rows or "
            "more: name a column, as in by: table[site], or deal the rows to sites: 10"
        )
    share = _shares(source, split.train, site, count)
    lost = _lost(source.name, seed, rates, share)
    keep = torch.ones_like(source.observed)
    keep[split.train] = ~torch.stack([lost[name] for name in source.modalities], dim=1)[site]
    return keep


def _shares(source: Source, rows: Tensor, site: Tensor, count: int) -> dict[str, Tensor]:
    """Return modality -> share of the rows that have it by nature in each site, float64 [sites]."""
    seen = source.observed[rows].double()
    sizes = {n: torch.bincount(site, seen[:, column], minlength=count) for column, n in enumerate(source.modalities)}
    return {name: size / size.sum().clamp_min(1) for name, size in sizes.items()}


def _lost(called: str, seed: int, rates: Mapping[str, float], share: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return modality -> bool [sites], those that lose it, one modality after another by name."""
    asked = torch.tensor([rates[name] for name in sorted(rates)], dtype=torch.float64)
    possible = 1 - 1 / len(asked)
    if (1 - asked).sum() < 1 - 1e-9:
        raise MaskError(
            f"{called}: block: a mean rate of {asked.mean():.4g} cannot leave every site one of {len(asked)} "
            f"modalities; at most {possible:.4g} is possible"
        )
    leaves = 1 - unconditioned_stay(asked)
    holds = torch.zeros_like(next(iter(share.values())), dtype=torch.bool)
    found = {}
    for place, name in enumerate(sorted(rates)):
        random, own = generator(seed, "mask", "block", name), share[name]
        later = torch.stack([holds, *(share[other] > 0 for other in sorted(rates)[place + 1 :])]).any(dim=0)
        hope = 1 - (1 - leaves[place]) / (1 - leaves[place:].prod())
        lost = _taken(own, ~holds & later, float(hope), random)
        rest = float(own[holds].sum())
        lost |= _taken(own, holds, (rates[name] - float(own[lost].sum())) / max(rest, 1e-12), random)
        if abs(float(own[lost].sum()) - rates[name]) > float(own.max()) + 1e-9:
            raise MaskError(
                f"{called}: block: {len(own)} sites cannot give {name!r} a rate of {rates[name]:.3g} and keep one "
                "modality each; take more sites or lower the rates"
            )
        found[name] = lost
        holds |= ~lost & (own > 0)
    return found


def _taken(share: Tensor, among: Tensor, fraction: float, random: torch.Generator) -> Tensor:
    """Return bool [sites]: some of `among` that hold a fraction of their share, in the mean exactly."""
    order = torch.randperm(len(share), generator=random)
    drawn = torch.rand((), generator=random, dtype=torch.float64)
    order = order[among[order]]
    sizes = share[order]
    before = sizes.cumsum(dim=0) - sizes
    chance = (min(max(fraction, 0.0), 1.0) * sizes.sum() - before) / sizes.clamp_min(1e-12)
    taken = torch.zeros(len(share), dtype=torch.bool)
    taken[order] = drawn < chance  # 1 and more below the fraction, 0 and less beyond it: one site is left to chance
    return taken


def _sites(source: Source, rows: Tensor, by: str) -> Tensor:
    """Return each row's site, int64 numbers without gaps."""
    if by == "group":
        return source.group[rows].unique(return_inverse=True)[1]
    modality, _, column = by.removesuffix("]").partition("[")
    held = source.inputs.get(modality)
    columns = list(map(str, held.frame)) if isinstance(held, Frame) else []
    if column not in columns:
        tables = [f"{m}[{c}]" for m, v in source.inputs.items() if isinstance(v, Frame) for c in v.frame]
        known = ", ".join(["group", *tables][:12])
        raise MaskError(f"{source.name}: block: by: {by!r} is no column of a table; known: {known}")
    assert isinstance(held, Frame)
    values = held.frame.iloc[rows.numpy(), columns.index(column)]
    if bool(values.isna().any()):
        raise MaskError(f"{source.name}: block: {int(values.isna().sum())} training rows have no {by}; fill them")
    return torch.from_numpy(pd.factorize(values, sort=True)[0]).long()


def _dealt(source: Source, rows: Tensor, sites: int, seed: int) -> Tensor:
    if not 2 <= sites <= len(rows):
        raise MaskError(f"{source.name}: block: sites={sites}; expected 2 to {len(rows)}, the training rows")
    order = torch.randperm(len(rows), generator=generator(seed, "mask", "block", "sites"))
    return order % sites
