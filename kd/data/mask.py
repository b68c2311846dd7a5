"""What each row may show: a drawn mask as a file, tied to its source and split."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from kd.data.columns import Column, Frame
from kd.data.mechanisms.kinds import kind_of
from kd.data.source import Source, tensor_digest
from kd.data.splits import Split
from kd.errors import MaskError
from kd.record import digest, write_atomic

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
