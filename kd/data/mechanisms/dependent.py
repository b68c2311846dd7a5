"""Mechanisms whose rows are told apart: by a pattern's chance, by another modality (MAR), by what is hidden (MNAR).

As in `kd.data.mechanisms.at_random`, only training rows are touched, each modality draws from its own stream, and the
rate asked for is the mean chance over the training rows that have the modality; what is realised differs by the draw.
`laws` gives the chances themselves, as functions of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from kd.data.mechanisms.at_random import rates_of, uniform
from kd.data.mechanisms.laws import LABEL, Law, PerClass, Principal, law, per_class, principal, scores
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import MaskError
from kd.registry import keywords, suggest
from kd.seeding import generator


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
    return hidden_by(source, split.train, seed, "mar", _mar_laws(source, split, driver, rate, strength))


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
    return hidden_by(source, split.train, seed, "mnar", _mnar_laws(source, split, seed, given, rate, strength))


def laws(source: Source, split: Split, seed: int, part: Mapping[str, Any]) -> dict[str, Law]:
    """Return modality -> P(hidden | row) of a `mar` or `mnar` part, fitted to the training rows of the split.

    A modality with rate 0 is never hidden and has no law. The seed decides the numbers of the classes (mnar given the
    label) and nothing else.

    Args:
        part: `{name: mar, driver: ..., rate: ..., strength: ...}`, defaults as in the mechanism.

    Raises:
        MaskError: another mechanism, whose rows are not told apart, or what the mechanism itself refuses.
    """
    own = {key: value for key, value in part.items() if key not in ("name", "allow_empty")}
    if part["name"] == "mar":
        return _mar_laws(source, split, **{**_defaults(mar), **own})
    if part["name"] == "mnar":
        return _mnar_laws(source, split, seed, **{**_defaults(mnar), **own})
    raise MaskError(f"{source.name}: {part['name']} tells no rows apart; only mar and mnar have a law of the row")


def _defaults(mechanism: Callable[..., Tensor]) -> dict[str, Any]:
    return {name: p.default for name, p in keywords(mechanism).items() if name not in ("driver", "allow_empty")}


def _mar_laws(
    source: Source, split: Split, driver: str, rate: float | Mapping[str, float], strength: float
) -> dict[str, Law]:
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
    score = principal(source, driver, split.train, "mar")
    return _solved(source, split, "mar", rates, strength, lambda name: (driver, score))


def _mnar_laws(
    source: Source, split: Split, seed: int, given: str, rate: float | Mapping[str, float], strength: float
) -> dict[str, Law]:
    rates = rates_of(source, rate, "mnar")
    if given == "label" and source.task != "multiclass":
        raise MaskError(f"{source.name}: mnar: given: label needs classes, got {source.task}; set given: value")

    def score(name: str) -> tuple[str, Principal | PerClass]:
        if given == "value":
            return name, principal(source, name, split.train, "mnar")
        return LABEL, per_class(source, split.train, generator(seed, "mask", "mnar", name, "classes"))

    return _solved(source, split, "mnar", rates, strength, score)


def _solved(
    source: Source,
    split: Split,
    mechanism: str,
    rates: Mapping[str, float],
    strength: float,
    score: Callable[[str], tuple[str, Principal | PerClass]],
) -> dict[str, Law]:
    found = {}
    for column, (name, rate) in enumerate(rates.items()):
        if rate == 1:
            raise MaskError(
                f"{source.name}: {mechanism}: rate of {name!r} is 1; nothing is left to depend on, use mcar"
            )
        if rate > 0:
            reads, own = score(name)
            found[name] = law(source, split.train, column, reads, own, strength=strength, rate=rate)
    return found


def hidden_by(source: Source, rows: Tensor, seed: int, mechanism: str, found: Mapping[str, Law]) -> Tensor:
    """Draw keep, bool [N, M], for these rows from their laws, each modality from its own stream."""
    keep = torch.ones_like(source.observed)
    for name, own in found.items():
        drawn = uniform({name: generator(seed, "mask", mechanism, name)}, len(rows))[:, 0]
        keep[rows, source.modalities.index(name)] = drawn >= own.of_rows(source, rows)
    return keep


def principal_score(source: Source, name: str, rows: Tensor, mechanism: str) -> Tensor:
    """Return a modality's standardised first principal component, float64 [rows]; 0 where nature left none.

    Raises:
        MaskError: the modality holds no numbers.
    """
    return scores(principal(source, name, rows, mechanism), name, source, rows)


def _known(name: str, source: Source) -> str:
    return suggest(str(name), source.inputs)
