"""What each row may show: a drawn mask as a file, tied to its source and split.

A mask hides modalities of *training* rows only, or their labels, or single values. Validation and test rows keep
everything that nature left, because evaluation walks through all subsets itself; one that says `hides: test` is the
same mechanism over the test rows, for evaluation under a mechanism.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from kd.data import MECHANISMS
from kd.data.columns import Column, Frame
from kd.data.mechanisms.at_random import Shown
from kd.data.mechanisms.at_test import draw_at_test
from kd.data.mechanisms.kinds import kind_of
from kd.data.source import Source, tensor_digest
from kd.data.splits import Split
from kd.errors import ConfigError, MaskError
from kd.record import digest, write_atomic
from kd.registry import keywords

FORMAT = 1
"""Version of the file; a reader refuses others."""
LABELLED, CELLS = "labelled", "cells/"
"""Column of a file that says whose label may be seen, and beginning of those that say which values inside a modality
may: true and false, in the modality's own shape."""


@dataclass(frozen=True, eq=False)
class Mask:
    """A simulated availability.

    Attributes:
        keep: bool [N, M]; False hides the modality from the row. True in all rows of the other parts of the split.
        mechanism: its name in `MECHANISMS`.
        parameters: the mechanism's arguments, defaults included.
        seed: what it was drawn with.
        modalities: names of the columns.
        source_fingerprint: of the source it was drawn for.
        split_fingerprint: of the split it was drawn for.
        realised: modality -> fraction of the rows it may hide that have it by nature and lose it by the mask;
            `labelled` -> fraction of them that lose their label; `cells/<modality>` -> fraction of its values.
        allow_empty: the mechanism meant to leave some rows with nothing (in training they go unused).
        labelled: bool [N]; False hides the row's label. None hides none.
        cells: modality -> bool [N, ...]; False hides a single value. A modality that is not named loses none.
        hides: of which rows, `train` or `test`.
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
    labelled: Tensor | None = None
    cells: dict[str, Tensor] = field(default_factory=dict)
    hides: Literal["train", "test"] = "train"

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the mask and of all that it was drawn from."""
        inside = {CELLS + name: tensor_digest(kept) for name, kept in sorted(self.cells.items())}
        inside |= {} if self.labelled is None else {LABELLED: tensor_digest(self.labelled)}
        return digest([FORMAT, tensor_digest(self.keep), self._about(), *([inside] if inside else [])])

    @property
    def kind(self) -> str:
        """What it declares: MCAR, MAR, MNAR, stratified by label, or unknown (`kd.data.mechanisms.kinds`)."""
        return kind_of(self.mechanism, self.parameters)

    @property
    def hides_inside(self) -> bool:
        """Whether it hides labels or single values, so that `hide` changes the source."""
        return self.labelled is not None or bool(self.cells)

    def check(self, source: Source, split: Split, *, hides: Literal["train", "test"] = "train") -> Mask:
        """Return the mask itself when it was drawn for these rows of this source and this split.

        Raises:
            MaskError: it was drawn for another source, split or part of it.
        """
        self._check_source(source)
        if self.hides != hides:
            raise MaskError(
                f"mask {self.mechanism} (seed {self.seed}): hides modalities of {self.hides} rows, expected {hides} "
                f"rows; draw it with hides={hides!r}"
            )
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

    def hide(self, source: Source) -> Source:
        """Return the source without the labels and single values that the mask hides; they become empty cells.

        Raises:
            MaskError: the mask is of another source.
        """
        self._check_source(source)
        if not self.hides_inside:
            return source
        inputs = {name: _emptied(value, self.cells.get(name)) for name, value in source.inputs.items()}
        known = {name: replace(m, holes=m.holes or m.kind == "vector") for name, m in source.modality.items()}
        modality = {name: known[name] if name in self.cells else m for name, m in source.modality.items()}
        labelled = source.labelled if self.labelled is None else source.labelled & self.labelled
        return replace(source, inputs=inputs, modality=modality, labelled=labelled, prepared_from=source.fingerprint)

    def save(self, path: Path | str) -> None:
        """Write one Parquet file: a column per modality, and the rest with the fingerprint in its metadata."""
        about = {**self._about(), "realised": self.realised, "format": FORMAT, "fingerprint": self.fingerprint}
        about["shapes"] = {name: list(kept.shape[1:]) for name, kept in self.cells.items()}
        columns = {name: pa.array(self.keep[:, i].numpy()) for i, name in enumerate(self.modalities)}
        columns |= {} if self.labelled is None else {LABELLED: pa.array(self.labelled.numpy())}
        columns |= {CELLS + name: _lists(kept) for name, kept in self.cells.items()}
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
            keep = torch.stack([_flags(table[name]) for name in about["modalities"]], dim=1)
            labelled = _flags(table[LABELLED]) if LABELLED in table.column_names else None
            shapes = about.pop("shapes", {})
            cells = {name: _flags(table[CELLS + name]).view(-1, *shape) for name, shape in shapes.items()}
            mask = cls(keep=keep, labelled=labelled, cells=cells, **about)
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
            **({} if self.hides == "train" else {"hides": self.hides}),
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


def _emptied(value: Tensor | Column, kept: Tensor | None) -> Tensor | Column:
    if kept is None:
        return value
    if isinstance(value, Frame):
        return Frame(value.frame.where(kept.numpy()))
    assert isinstance(value, Tensor)
    return torch.where(kept, value, float("nan"))


def _lists(kept: Tensor) -> pa.Array:
    """Return bool [N, ...] as a column of lists of one length."""
    flat = kept.flatten(1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.flatten().numpy()), flat.shape[1])


def _flags(column: pa.ChunkedArray) -> Tensor:
    """Return a column of true and false, or of lists of them, as bool [...]."""
    chunk = column.combine_chunks()
    flat = chunk.flatten() if pa.types.is_fixed_size_list(chunk.type) else chunk
    return torch.from_numpy(flat.to_numpy(zero_copy_only=False).astype(bool))


def _plain(value: Any) -> Any:
    """Return a value that JSON gives back unchanged."""
    return json.loads(json.dumps(dict(value) if isinstance(value, Mapping) else value))
