"""Mechanisms whose rows are told apart: by a pattern's chance, by another modality (MAR), by what is hidden (MNAR).

As in `kd.data.mechanisms`, only training rows are touched, each modality draws from its own stream, and the rate asked
for is the mean chance over the training rows that have the modality; what is realised differs by the draw alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from kd.data.mechanisms import rates_of, uniform
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import MaskError
from kd.registry import suggest
from kd.seeding import generator

ROWS_TO_SOLVE = 20_000
"""Rows, evenly spread over the training rows, on which a rate's intercept is solved."""
STEPS, REACH = 60, 40.0
"""Halvings of the interval that an intercept is looked for in, and its half width, in units of the logit."""


def pattern(source: Source, split: Split, seed: int, *, chances: Mapping[str, float]) -> Tensor:
    """Show each training row one pattern of modalities, drawn from a distribution over patterns (MCAR by pattern).

    A row that nature left without any modality of a pattern draws among the others, in their proportions.

    Args:
        chances: pattern (`fou+zer`) -> weight, at least 0; they are divided by their sum.

    Raises:
        MaskError: a modality is unknown, a weight is negative, all are 0, or a row fits no pattern.
    """
    names = {key: sorted(key.split("+")) for key in chances}
    for key, own in names.items():
        for name in own:
            if name not in source.inputs:
                raise MaskError(f"{source.name}: pattern: unknown modality {name!r} in {key!r}; {_known(name, source)}")
        if not chances[key] >= 0:
            raise MaskError(f"{source.name}: pattern: weight of {key!r} is {chances[key]}; expected at least 0")
    ordered = sorted(chances, key=lambda key: names[key])
    shown = torch.tensor([[name in names[key] for name in source.modalities] for key in ordered])
    weight = torch.tensor([float(chances[key]) for key in ordered], dtype=torch.float64)
    fits = (source.observed[split.train].unsqueeze(1) & shown).any(dim=2)  # [rows, patterns]
    law = (fits * weight).cumsum(dim=1)
    if not bool((law[:, -1] > 0).all()):
        row = int((law[:, -1] <= 0).nonzero()[0, 0])
        raise MaskError(
            f"{source.name}: pattern: {source.named(int(split.train[row]))} has no modality of any pattern with a "
            "weight above 0; add one that it fits"
        )
    drawn = torch.rand(len(law), 1, generator=generator(seed, "mask", "pattern"), dtype=torch.float64) * law[:, -1:]
    keep = torch.ones_like(source.observed)
    keep[split.train] = shown[torch.searchsorted(law, drawn, right=True).squeeze(1).clamp_max(len(ordered) - 1)]
    return keep


def mar(
    source: Source,
    split: Split,
    seed: int,
    *,
    driver: str,
    rate: float | Mapping[str, float] = 0.3,
    strength: float = 2.0,
) -> Tensor:
    """Hide modalities at random given a driver that is always observed (Rubin's MAR).

    P(m hidden | x) = sigmoid(a_m + strength * s(x_driver)), s the driver's standardised first principal component, a_m
    solved so that the mean over the rows is the rate. Given the driver, modalities are independent of each other, of
    their values and of the label.

    Args:
        driver: modality that is never hidden.
        rate: of every other modality, in [0, 1), or by name (unnamed ones: 0).
        strength: log odds per standard deviation of the driver; 0 is MCAR.

    Raises:
        MaskError: the driver is unknown, hidden, missing by nature somewhere, or holds no numbers; a rate out of range.
    """
    if driver not in source.inputs:
        raise MaskError(f"{source.name}: mar: unknown driver {driver!r}; {_known(driver, source)}")
    rates = rates_of(source, rate, "mar")
    if isinstance(rate, Mapping) and rates[driver] > 0:
        raise MaskError(f"{source.name}: mar: the driver {driver!r} stays observed; take it out of rate")
    rates[driver] = 0.0
    column = source.modalities.index(driver)
    lacking = int((~source.observed[split.train, column]).sum())
    if lacking:
        raise MaskError(
            f"{source.name}: mar: {lacking} training rows lack the driver {driver!r} by nature; name one that all have"
        )
    score = strength * principal_score(source, driver, split.train, "mar")
    return _hidden_by(source, split, seed, "mar", rates, lambda name: score)


def mnar(
    source: Source,
    split: Split,
    seed: int,
    *,
    given: Literal["value", "label"] = "value",
    rate: float | Mapping[str, float] = 0.3,
    strength: float = 2.0,
    allow_empty: bool = True,
) -> Tensor:
    """Hide modalities depending on what they hide (`value`), or on the label (MNAR).

    P(m hidden) = sigmoid(a_m + strength * s_m): s_m is the modality's own standardised first principal component, or a
    standardised number that each class has for each modality, drawn from the seed. Rows may lose everything: the
    mechanism says nothing about the others, so nobody can save one without changing its law; they go unused.

    Args:
        given: `value` or `label`.
        rate: of every modality, in [0, 1), or by name (unnamed ones: 0).
        strength: log odds per standard deviation; 0 is MCAR.
        allow_empty: False refuses a mask in which a row lost everything.

    Raises:
        MaskError: a modality holds no numbers, the label no classes, or a rate is out of range.
    """
    rates = rates_of(source, rate, "mnar")
    if given == "label" and source.task != "multiclass":
        raise MaskError(f"{source.name}: mnar: given: label needs classes, got {source.task}; set given: value")

    def score(name: str) -> Tensor:
        if given == "value":
            return strength * principal_score(source, name, split.train, "mnar")
        drawn = torch.randn(source.classes, generator=generator(seed, "mask", "mnar", name, "classes")).double()
        return strength * _standardised(drawn[source.label[split.train]])

    return _hidden_by(source, split, seed, "mnar", rates, score)


def principal_score(source: Source, name: str, rows: Tensor, mechanism: str) -> Tensor:
    """Return a modality's standardised first principal component, float64 [rows]; 0 where nature left none.

    Its sign is that of its largest loading, so that the same rows give the same score whatever the library.

    Raises:
        MaskError: the modality holds no numbers.
    """
    held = source.inputs[name]
    if not isinstance(held, Tensor) or not held.is_floating_point():
        raise MaskError(
            f"{source.name}: {mechanism}: {name!r} holds no numbers to tell rows apart by; name a modality of vectors"
        )
    there = source.observed[rows, source.modalities.index(name)]
    x = held[rows[there]].double().flatten(1)
    x = torch.nan_to_num(x - x.nanmean(dim=0))  # holes stand at the mean
    spread = x.std(dim=0)
    x = x / torch.where(spread > 0, spread, 1.0)
    _, _, directions = torch.linalg.svd(x.T @ x if x.shape[1] <= len(x) else x, full_matrices=False)
    first = directions[0]
    score = torch.zeros(len(rows), dtype=torch.float64)
    score[there] = _standardised(x @ (first * first[first.abs().argmax()].sign()))
    return score


def _standardised(x: Tensor) -> Tensor:
    spread = x.std()
    return (x - x.mean()) / (spread if float(spread) > 0 else 1.0)


def _hidden_by(
    source: Source,
    split: Split,
    seed: int,
    mechanism: str,
    rates: Mapping[str, float],
    score: Callable[[str], Tensor],
) -> Tensor:
    keep = torch.ones_like(source.observed)
    for column, (name, rate) in enumerate(rates.items()):
        if rate == 0:
            continue
        if rate == 1:
            raise MaskError(
                f"{source.name}: {mechanism}: rate of {name!r} is 1; nothing is left to depend on, use mcar"
            )
        seen = source.observed[split.train, column]
        logit = score(name)
        chance = torch.sigmoid(_intercept(logit[seen], rate) + logit)
        drawn = uniform({name: generator(seed, "mask", mechanism, name)}, len(logit))[:, 0]
        keep[split.train, column] = drawn >= chance
    return keep


def _intercept(logit: Tensor, rate: float) -> float:
    """Return a with mean sigmoid(a + logit) = rate, by bisection; the mean rises with a."""
    if not len(logit):
        return 0.0
    some = logit[torch.linspace(0, len(logit) - 1, min(len(logit), ROWS_TO_SOLVE)).long()]
    low, high = -REACH - float(some.abs().max()), REACH + float(some.abs().max())
    for _ in range(STEPS):
        middle = (low + high) / 2
        if float(torch.sigmoid(middle + some).mean()) < rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _known(name: str, source: Source) -> str:
    return suggest(str(name), source.inputs)
