"""A mechanism that hides by site: where one hospital has no scanner, none of its patients has a scan."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from kd.data.columns import Frame
from kd.data.mechanisms import rates_of
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import MaskError
from kd.seeding import generator

ATTEMPTS = 1000
"""Draws until every site keeps a modality."""


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

    For each modality the sites stand in a random order and lose it while the rate is not passed; the next one loses it
    with the chance that makes the mean share of rows the rate. So the share realised differs from the rate by less than
    the share of the largest site. Draws in which a site would keep nothing are drawn again.

    Args:
        rate: fraction of the training rows that lose a modality, in [0, 1), for all modalities or by name (unnamed
            ones: 0).
        by: `group`, the rows' groups, or `modality[column]`, a column of a table whose values are the sites.
        sites: deal the rows at random to so many sites instead, where the data have none.

    Raises:
        MaskError: the column is unknown, there are fewer than two sites, or no draw leaves every site a modality.
    """
    rates = rates_of(source, rate, "block")
    site = _sites(source, split.train, by) if sites is None else _dealt(source, split.train, sites, seed)
    count = int(site.max()) + 1
    if count < 2 or (sites is None and by == "group" and count == len(site)):
        raise MaskError(
            f"{source.name}: block: {count} sites among {len(site)} training rows; expected at least 2, with several "
            "rows each: name a column, as in by: table[site], or deal the rows to sites: 10"
        )
    seen = source.observed[split.train]
    present = torch.stack([_any(site, count, seen[:, column]) for column in range(seen.shape[1])], dim=1)
    for attempt in range(ATTEMPTS):
        lost = torch.stack([_lost(seed, n, attempt, r, site, seen[:, m]) for m, (n, r) in enumerate(rates.items())], 1)
        if bool((present & ~lost).any(dim=1)[present.any(dim=1)].all()):
            keep = torch.ones_like(source.observed)
            keep[split.train] = ~lost[site]
            return keep
    raise MaskError(
        f"{source.name}: block: no draw of {ATTEMPTS} leaves each of {count} sites a modality at a mean rate of "
        f"{sum(rates.values()) / len(rates):.3g}; at most {1 - 1 / len(rates):.3g} is possible, with fewer sites less"
    )


def _lost(seed: int, name: str, attempt: int, rate: float, site: Tensor, seen: Tensor) -> Tensor:
    """Return bool [sites]: those that lose a modality."""
    random = generator(seed, "mask", "block", name, attempt)
    share = torch.bincount(site, weights=seen.double()) / max(int(seen.sum()), 1)
    order = torch.randperm(len(share), generator=random)
    after = share[order].cumsum(dim=0)
    chance = ((rate - (after - share[order])) / share[order].clamp_min(1e-12)).clamp(0.0, 1.0)
    drawn = torch.rand((), generator=random, dtype=torch.float64)
    lost = torch.empty(len(share), dtype=torch.bool)
    lost[order] = drawn < chance  # 1 below the rate and 0 beyond it, but for the one site that would pass it
    return lost


def _any(site: Tensor, count: int, flags: Tensor) -> Tensor:
    return torch.bincount(site, weights=flags.double(), minlength=count) > 0


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
