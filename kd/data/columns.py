"""One modality's raw values for all rows of a source: pictures, words, a table; what is learnt, from given rows only.

A column is *fitted* once it knows its form (`modality`) and can hand out tensors. Pictures are fitted from the start;
words learn a vocabulary and tables their categories from training rows (`Source.prepare`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from copy import copy
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from kd.errors import DataError
from kd.processors import Processor
from kd.processors.features import Features
from kd.processors.pictures import Pixels, picture
from kd.processors.words import NGrams, Pieces, Tokenizer
from kd.record import digest, file_digest
from kd.types import Kind, Modality


class Column:
    """Base of all: raw values of N rows; entries of rows that lack the modality may be None.

    Args:
        values: N raw values.
        processor: turns them into tensors; None until `fit`.
    """

    kind: Kind

    def __init__(self, values: Sequence[Any], processor: Processor | None = None) -> None:
        self.values = list(values)
        self.processor = processor

    def __len__(self) -> int:
        return len(self.values)

    @property
    def modality(self) -> Modality | None:
        """What `take` gives; None until fitted."""
        return None if self.processor is None else self.processor.modality

    @cached_property
    def digest(self) -> str:
        """The sha256 of the raw values and of what will be learnt from them."""
        return digest([type(self).__name__, self.values])

    def fit(self, rows: Tensor) -> Column:
        """Return the column with everything learnt that has to be, from these rows alone; int64 [n]."""
        raise NotImplementedError

    def take(self, rows: Tensor) -> Tensor:
        """Return the tensors [B, ...] of some rows; those without a value hold zeros."""
        assert self.processor is not None, "take() before fit()"
        return self.processor([self.values[row] for row in rows.tolist()])


class Images(Column):
    """Pictures, each a file's path or the bytes of one; decoded whenever they are asked for, or once by `load`.

    Args:
        values: paths, bytes, or None in rows without a picture.
        size: pixels along each side of what comes out.
    """

    kind: Kind = "image"

    def __init__(self, values: Sequence[str | os.PathLike[str] | bytes | None], *, size: int) -> None:
        super().__init__(values, Pixels(size))
        self.size = size
        self.decoded: Tensor | None = None

    @cached_property
    def digest(self) -> str:
        assert self.processor is not None
        return digest(["Images", self.processor.digest, [_content_digest(value) for value in self.values]])

    def fit(self, rows: Tensor) -> Images:
        return self

    def load(self, names: Sequence[str] = ()) -> Images:
        """Return the same column with all pictures decoded in memory: uint8 [N, 3, size, size].

        Args:
            names: what faults call the rows; by default a picture is named by its file.

        Raises:
            DataError: a line for each picture that cannot be read.
        """
        assert self.processor is not None
        loaded = Images(self.values, size=self.size)
        loaded.decoded = torch.zeros((len(self), *self.processor.modality.shape), dtype=torch.uint8)
        faults = []
        for row, value in enumerate(self.values):
            try:
                if value is not None:
                    loaded.decoded[row] = self.processor([value])[0]
            except DataError as error:
                faults.append(_called(names, row, str(error)))
        if faults:
            raise DataError(faults)
        return loaded

    def check(self, names: Sequence[str] = ()) -> Images:
        """Return the column itself when every picture can be read; none is kept in memory.

        Args:
            names: as for `load`.

        Raises:
            DataError: a line for each picture that cannot be read.
        """
        found = {row: _picture_fault(value) for row, value in enumerate(self.values) if value is not None}
        faults = [_called(names, row, fault) for row, fault in found.items() if fault]
        if faults:
            raise DataError(faults)
        return self

    def take(self, rows: Tensor) -> Tensor:
        assert self.processor is not None
        if self.decoded is not None:
            return self.decoded[rows]
        blank = self.processor.modality
        chosen = [self.values[row] for row in rows.tolist()]
        out = rows.new_zeros((len(chosen), *blank.shape), dtype=blank.dtype)
        there = [position for position, value in enumerate(chosen) if value is not None]
        if there:
            out[there] = self.processor([chosen[position] for position in there])
        return out


class Texts(Column):
    """Words; None in rows without any.

    Args:
        values: strings.
        length: tokens per row, special ones included; by default what the longest row that `fit` sees needs, at most
            128.
        vocabulary: pieces at most, where they are learnt.
        pieces: WordPiece tokens in their order, or letter n-grams without one (`kd.processors.words`).
        tokenizer: name of a ready one (`kd.pretrained`); by default one is trained on the rows that `fit` is given.
    """

    kind: Kind = "text"

    def __init__(
        self,
        values: Sequence[str | None],
        *,
        length: int | None = None,
        vocabulary: int = 4000,
        pieces: Pieces = "wordpiece",
        tokenizer: str | None = None,
    ) -> None:
        super().__init__(values)
        self.length, self.vocabulary, self.pieces, self.tokenizer = length, vocabulary, pieces, tokenizer

    @cached_property
    def digest(self) -> str:
        return digest(["Texts", self.values, self.length, self.vocabulary, self.pieces, self.tokenizer])

    def fit(self, rows: Tensor) -> Texts:
        seen = [self.values[row] or "" for row in rows.tolist()]
        length = self.length or LONGEST
        processor: Tokenizer | NGrams
        if self.tokenizer is not None:
            processor = Tokenizer.named(self.tokenizer, length=length)
        else:
            learn = NGrams.trained if self.pieces == "ngrams" else Tokenizer.trained
            processor = learn(seen, length=length, vocabulary=self.vocabulary)
        if self.length is None:
            needed = int((processor(seen) != processor.modality.pad).sum(dim=1).max()) if seen else 1
            processor = processor.resized(max(needed, 1))
        fitted = copy(self)
        fitted.processor = processor
        return fitted


LONGEST = 128
"""Tokens per row at most, where no length is asked for."""


class Frame(Column):
    """A table of numbers and categories; empty cells are holes that the network imputes.

    Args:
        frame: N rows, without ids and labels; columns that are not numbers are categories.
    """

    kind: Kind = "vector"

    def __init__(self, frame: pd.DataFrame) -> None:
        super().__init__([])
        self.frame = frame.reset_index(drop=True)

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def digest(self) -> str:
        hashes = pd.util.hash_pandas_object(self.frame, index=False).to_numpy()
        about = [[str(name), str(kind)] for name, kind in self.frame.dtypes.items()]
        return hashlib.sha256(repr(about).encode() + hashes.tobytes()).hexdigest()

    def fit(self, rows: Tensor) -> Frame:
        fitted = Frame(self.frame)
        fitted.processor = Features.fitted(self.frame.iloc[rows.numpy()])
        if not fitted.processor.modality.shape[0]:
            names = ", ".join(map(str, self.frame))
            raise DataError(f"table: no training row has a value in {names}; fill some or leave the modality out")
        return fitted

    def take(self, rows: Tensor) -> Tensor:
        assert self.processor is not None, "take() before fit()"
        return self.processor(self.frame.iloc[rows.numpy()])


def _called(names: Sequence[str], row: int, fault: str) -> str:
    return f"{names[row]}: {fault}" if names else fault


def _picture_fault(value: Any) -> str:
    """Return why a picture cannot be read, "" when it can; a file that has not changed is read once."""
    if isinstance(value, str | os.PathLike):
        try:
            state = os.stat(value)
        except OSError:
            return _reading_fault(value)
        return _file_fault(os.fspath(value), state.st_mtime_ns, state.st_size)
    return _reading_fault(value)


@cache
def _file_fault(path: str, changed: int, size: int) -> str:
    return _reading_fault(path)


def _reading_fault(value: Any) -> str:
    try:
        picture(value)
    except DataError as error:
        return str(error)
    return ""


def _content_digest(value: Any) -> str:
    if value is None:
        return ""
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else file_digest(Path(value))
