"""Masks by their mechanisms: what to ask for, and the draw.

A mask hides modalities of *training* rows only, or their labels, or single values. Validation and test rows keep
everything that nature left, because evaluation walks through all subsets itself; one that says `hides: test` is the
same mechanism over the test rows, for evaluation under a mechanism.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from kd.data import MECHANISMS
from kd.data.mask import CELLS, LABELLED, Mask
from kd.data.mechanisms.at_random import Shown
from kd.data.mechanisms.at_test import draw_at_test
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import ConfigError, MaskError
from kd.registry import keywords


@dataclass(frozen=True)
class MaskRequest:
    """A mask to be drawn once its source and split are known.

    Attributes:
        part: the mechanism as `{name: mcar, rate: 0.3}`.
        seed: of the draw.
    """

    part: dict[str, Any]
    seed: int = 0

    def draw(self, source: Source, split: Split) -> Mask:
        """Draw it; see `kd.data.masks.draw`."""
        return draw(source, split, self.part, self.seed)


def complete(*, seed: int = 0) -> MaskRequest:
    """Request the mask that hides nothing."""
    return MaskRequest({"name": "complete"}, seed)


def mcar(rate: float | Mapping[str, float] = 0.3, *, allow_empty: bool = False, seed: int = 0) -> MaskRequest:
    """Request `kd.data.mechanisms.at_random.mcar`: each modality hidden at random; one stays, unless `allow_empty`."""
    return MaskRequest({"name": "mcar", "rate": rate, "allow_empty": allow_empty}, seed)


def severe(complete: int, *, pool: int | None = None, seed: int = 0) -> MaskRequest:
    """Request `kd.data.mechanisms.at_random.severe`: few complete rows, the rest with one modality each."""
    return MaskRequest({"name": "severe", "complete": complete, "pool": pool}, seed)


def pattern(chances: Mapping[str, float], *, seed: int = 0) -> MaskRequest:
    """Request `kd.data.mechanisms.dependent.pattern`: each row shows one pattern, `{"fou+zer": 0.5, "fou": 0.5}`."""
    return MaskRequest({"name": "pattern", "chances": dict(chances)}, seed)


def mar(driver: str, rate: float | Mapping[str, float] = 0.3, *, strength: float = 2.0, seed: int = 0) -> MaskRequest:
    """Request `kd.data.mechanisms.dependent.mar`: hidden at random given a driver that is always observed."""
    return MaskRequest({"name": "mar", "driver": driver, "rate": rate, "strength": strength}, seed)


def mnar(
    given: str = "value", rate: float | Mapping[str, float] = 0.3, *, strength: float = 2.0, seed: int = 0
) -> MaskRequest:
    """Request `kd.data.mechanisms.dependent.mnar`: hidden depending on the hidden `value`, or on the `label`."""
    return MaskRequest({"name": "mnar", "given": given, "rate": rate, "strength": strength}, seed)


def block(
    rate: float | Mapping[str, float] = 0.3, *, by: str = "group", sites: int | None = None, seed: int = 0
) -> MaskRequest:
    """Request `kd.data.mechanisms.sites.block`: all rows of a site lose a modality together."""
    return MaskRequest({"name": "block", "rate": rate, "by": by, "sites": sites}, seed)


def cells(rate: float | Mapping[str, float] = 0.3, *, seed: int = 0) -> MaskRequest:
    """Request `kd.data.mechanisms.within.cells`: single values inside a modality hidden at random."""
    return MaskRequest({"name": "cells", "rate": rate}, seed)


def span(rate: float | Mapping[str, float] = 0.3, *, seed: int = 0) -> MaskRequest:
    """Request `kd.data.mechanisms.within.span`: a run of neighbouring features, or steps, hidden in each row."""
    return MaskRequest({"name": "span", "rate": rate}, seed)


def unlabelled(*, rate: float | None = None, labels: int | None = None, seed: int = 0) -> MaskRequest:
    """Request `kd.data.mechanisms.labels.unlabelled`: labels hidden at a rate, or all but so many."""
    return MaskRequest({"name": "unlabelled", "rate": rate, "labels": labels}, seed)


def joint(parts: Mapping[str, MaskRequest], *, allow_empty: bool = False, seed: int = 0) -> MaskRequest:
    """Request `kd.data.mechanisms.joint.joint`: what any of several mechanisms hides; their own seeds are not used."""
    inside = {name: request.part for name, request in parts.items()}
    return MaskRequest({"name": "joint", "parts": inside, "allow_empty": allow_empty}, seed)


def file(path: str | Path, *, allow_empty: bool = False, declared: str = "", seed: int = 0) -> MaskRequest:
    """Request `kd.data.mechanisms.given.file`: who sees what stands in a Parquet file; `{seed}` is the seed."""
    return MaskRequest({"name": "file", "path": str(path), "allow_empty": allow_empty, "declared": declared}, seed)


def draw(
    source: Source, split: Split, part: Mapping[str, Any], seed: int, *, hides: Literal["train", "test"] = "train"
) -> Mask:
    """Draw the mask of one mechanism for the training rows of a split, or for its test rows.

    Args:
        part: `{name: mcar, rate: 0.3}`: a name in `MECHANISMS` and its keyword arguments.
        hides: `test` applies the process of the training mask of this seed to the test rows, in draws of its own.

    Raises:
        ConfigError: the part names an unknown mechanism or argument.
        MaskError: the mechanism cannot do what is asked on these rows, or the split is of another source.

    >>> from kd.data import load_source, split
    >>> source = load_source("synthetic", rows=400)
    >>> mask = draw(source, split(source), {"name": "severe", "complete": 20}, seed=0)
    >>> int(mask.keep[split(source).train].all(dim=1).sum())
    20
    """
    found = MECHANISMS.faults(part, "mask")
    if found:
        raise ConfigError(found)
    if split.source not in ("", source.fingerprint):
        raise MaskError(f"mask {part['name']}: the split belongs to another source than {source.name}; split this one")
    parameters, factory = _arguments(part), MECHANISMS[part["name"]].load()
    if hides == "train":
        drawn = factory(source, split, seed, **parameters)
    else:
        drawn = draw_at_test(source, split, seed, part["name"], factory, parameters)
    shown = drawn if isinstance(drawn, Shown) else Shown(drawn)
    return Mask(
        keep=shown.keep,
        mechanism=part["name"],
        parameters=parameters,
        seed=seed,
        modalities=source.modalities,
        source_fingerprint=source.fingerprint,
        split_fingerprint=split.fingerprint,
        realised=_realised(source, split.train if hides == "train" else split.test, shown),
        allow_empty=_may_empty(parameters),
        labelled=shown.labelled,
        cells=shown.cells,
        hides=hides,
    )


def _realised(source: Source, rows: Tensor, shown: Shown) -> dict[str, float]:
    """Return what share of these rows' modalities, labels and values is hidden."""
    found = {}
    for column, name in enumerate(source.modalities):
        seen = source.observed[rows, column]
        found[name] = float((seen & ~shown.keep[rows, column]).sum() / seen.sum().clamp_min(1))
    if shown.labelled is not None:
        found[LABELLED] = float((~shown.labelled[rows]).double().mean())
    return found | {CELLS + name: float((~kept[rows]).double().mean()) for name, kept in shown.cells.items()}


def _arguments(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mechanism's arguments with their defaults, those of mechanisms inside it too, as plain data."""
    found = {name: parameter.default for name, parameter in keywords(MECHANISMS[part["name"]].load()).items()}
    found |= {key: _plain(value) for key, value in part.items() if key != "name"}
    if "parts" in found:
        found["parts"] = {key: {"name": p["name"], **_arguments(p)} for key, p in found["parts"].items()}
    return found


def _may_empty(arguments: Mapping[str, Any]) -> bool:
    """Say whether a mechanism means to leave some rows with nothing."""
    inside = arguments.get("parts", {}).values()
    return bool(arguments.get("allow_empty")) or arguments.get("pool") is not None or any(map(_may_empty, inside))


def _plain(value: Any) -> Any:
    """Return a value that JSON gives back unchanged."""
    return json.loads(json.dumps(dict(value) if isinstance(value, Mapping) else value))
