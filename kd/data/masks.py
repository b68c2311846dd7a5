"""Which modalities each row may show: a drawn mask as a file, tied to its source and split.

A mask hides modalities of *training* rows only. Validation and test rows keep everything that nature left, because
evaluation walks through all subsets itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from kd.data import MECHANISMS
from kd.data.kinds import kind_of
from kd.data.source import Source, tensor_digest
from kd.data.splits import Split
from kd.errors import ConfigError, MaskError
from kd.record import digest, write_atomic
from kd.registry import keywords

FORMAT = 1
"""Version of the file; a reader refuses others."""


@dataclass(frozen=True, eq=False)
class Mask:
    """A simulated availability.

    Attributes:
        keep: bool [N, M]; False hides the modality from the row. True in all validation and test rows.
        mechanism: its name in `MECHANISMS`.
        parameters: the mechanism's arguments, defaults included.
        seed: what it was drawn with.
        modalities: names of the columns.
        source_fingerprint: of the source it was drawn for.
        split_fingerprint: of the split it was drawn for.
        realised: modality -> fraction of the training rows that have it by nature and lose it by the mask.
        allow_empty: the mechanism meant to leave some training rows with nothing (they go unused).
    """

    keep: Tensor
    mechanism: str
    parameters: dict[str, Any]
    seed: int
    modalities: list[str]
    source_fingerprint: str
    split_fingerprint: str
    realised: dict[str, float] = field(default_factory=dict)
    allow_empty: bool = False

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the mask and of all that it was drawn from."""
        return digest([FORMAT, tensor_digest(self.keep), self._about()])

    @property
    def kind(self) -> str:
        """What it declares: MCAR, MAR, MNAR, stratified by label, or unknown (`kd.data.kinds`)."""
        return kind_of(self.mechanism, self.parameters)

    def check(self, source: Source, split: Split) -> Mask:
        """Return the mask itself when it was drawn for this source and this split.

        Raises:
            MaskError: it was drawn for another one.
        """
        self._check_source(source)
        if self.split_fingerprint != split.fingerprint:
            raise MaskError(
                f"mask {self.mechanism} (seed {self.seed}): drawn for another split of {source.name}; "
                "draw it again for this one, or pass the split it was drawn for"
            )
        return self

    def available(self, source: Source) -> Tensor:
        """Return what is there in effect: what nature left and what the mask keeps, bool [N, M].

        Raises:
            MaskError: the mask is of another source, or leaves a row with nothing without having meant to.
        """
        self._check_source(source)
        left = source.observed & self.keep
        emptied = ~left.any(dim=1) & source.observed.any(dim=1)
        if not self.allow_empty and bool(emptied.any()):
            rows = emptied.nonzero()[:, 0]
            raise MaskError(
                f"mask {self.mechanism} (seed {self.seed}): leaves {len(rows)} rows of {source.name} with no modality, "
                f"first row {int(rows[0])}; lower its rates or set allow_empty: true"
            )
        return left

    def save(self, path: Path | str) -> None:
        """Write one Parquet file: a column per modality, and the rest with the fingerprint in its metadata."""
        about = {**self._about(), "realised": self.realised, "format": FORMAT, "fingerprint": self.fingerprint}
        columns = {name: self.keep[:, i].numpy() for i, name in enumerate(self.modalities)}
        table = pa.table(columns).replace_schema_metadata({"kd.mask": json.dumps(about, sort_keys=True)})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        write_atomic(Path(path), sink.getvalue().to_pybytes())

    @classmethod
    def load(cls, path: Path | str) -> Mask:
        """Read a mask back.

        Raises:
            MaskError: no such file, not a mask, or changed since it was written.
        """
        try:
            table = pq.read_table(pa.BufferReader(Path(path).read_bytes()))
            about = json.loads((table.schema.metadata or {})[b"kd.mask"])
            claimed, version = about.pop("fingerprint"), about.pop("format")
            keep = torch.stack([torch.from_numpy(table[name].to_numpy().copy()) for name in about["modalities"]], dim=1)
            mask = cls(keep=keep, **about)
        except FileNotFoundError:
            raise MaskError(f"{path}: no such mask; draw it again") from None
        except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise MaskError(f"{path}: not a mask file or damaged ({first}); draw it again") from None
        if version != FORMAT or mask.fingerprint != claimed:
            raise MaskError(f"{path}: changed since it was drawn (its hash does not match); draw it again")
        return mask

    def _about(self) -> dict[str, Any]:
        return {
            "mechanism": self.mechanism,
            "parameters": self.parameters,
            "seed": self.seed,
            "modalities": self.modalities,
            "source_fingerprint": self.source_fingerprint,
            "split_fingerprint": self.split_fingerprint,
            "allow_empty": self.allow_empty,
        }

    def _check_source(self, source: Source) -> None:
        if self.source_fingerprint != source.fingerprint:
            raise MaskError(
                f"mask {self.mechanism} (seed {self.seed}): drawn for another source than {source.name} "
                f"{source.modalities}, or for an earlier state of it; draw it again"
            )


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
    """Request `kd.data.mechanisms.mcar`: each modality hidden at random, at least one stays unless `allow_empty`."""
    return MaskRequest({"name": "mcar", "rate": rate, "allow_empty": allow_empty}, seed)


def severe(complete: int, *, pool: int | None = None, seed: int = 0) -> MaskRequest:
    """Request `kd.data.mechanisms.severe`: few complete rows, the rest with one modality each."""
    return MaskRequest({"name": "severe", "complete": complete, "pool": pool}, seed)


def pattern(chances: Mapping[str, float], *, seed: int = 0) -> MaskRequest:
    """Request `kd.data.dependent.pattern`: each row shows one pattern, `{"fou+zer": 0.5, "fou": 0.5}`."""
    return MaskRequest({"name": "pattern", "chances": dict(chances)}, seed)


def mar(driver: str, rate: float | Mapping[str, float] = 0.3, *, strength: float = 2.0, seed: int = 0) -> MaskRequest:
    """Request `kd.data.dependent.mar`: hidden at random given a driver that is always observed."""
    return MaskRequest({"name": "mar", "driver": driver, "rate": rate, "strength": strength}, seed)


def mnar(
    given: str = "value", rate: float | Mapping[str, float] = 0.3, *, strength: float = 2.0, seed: int = 0
) -> MaskRequest:
    """Request `kd.data.dependent.mnar`: hidden depending on the hidden `value`, or on the `label`."""
    return MaskRequest({"name": "mnar", "given": given, "rate": rate, "strength": strength}, seed)


def file(path: str | Path, *, allow_empty: bool = False, declared: str = "", seed: int = 0) -> MaskRequest:
    """Request `kd.data.given.file`: who sees what stands in a Parquet file; `{seed}` in the path is the seed."""
    return MaskRequest({"name": "file", "path": str(path), "allow_empty": allow_empty, "declared": declared}, seed)


def draw(source: Source, split: Split, part: Mapping[str, Any], seed: int) -> Mask:
    """Draw the mask of one mechanism for the training rows of a split.

    Args:
        part: `{name: mcar, rate: 0.3}`: a name in `MECHANISMS` and its keyword arguments.

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
    factory = MECHANISMS[part["name"]].load()
    parameters = {name: parameter.default for name, parameter in keywords(factory).items()}
    parameters |= {key: _plain(value) for key, value in part.items() if key != "name"}
    keep = factory(source, split, seed, **parameters)
    seen = source.observed[split.train]
    lost = seen & ~keep[split.train]
    rates = lost.sum(dim=0) / seen.sum(dim=0).clamp_min(1)
    return Mask(
        keep=keep,
        mechanism=part["name"],
        parameters=parameters,
        seed=seed,
        modalities=source.modalities,
        source_fingerprint=source.fingerprint,
        split_fingerprint=split.fingerprint,
        realised={name: float(rate) for name, rate in zip(source.modalities, rates, strict=True)},
        allow_empty=bool(parameters.get("allow_empty")) or parameters.get("pool") is not None,
    )


def _plain(value: Any) -> Any:
    """Return a value that JSON gives back unchanged."""
    return json.loads(json.dumps(dict(value) if isinstance(value, Mapping) else value))
