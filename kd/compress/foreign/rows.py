"""What a graph that is not ours is asked: rows from a file, checked against its inputs, or rows made up for it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd.compress.context import Model
from kd.compress.graph import computing, constants
from kd.compress.kernels import KINDS, Feed
from kd.errors import DataError, KDError, RecordError
from kd.evaluate.predictor import Array, OnnxPredictor
from kd.importing import in_words

MADE_UP = 16
"""Rows made up where none are given."""


@dataclass(frozen=True)
class Input:
    """An input of a graph.

    Attributes:
        name: as the graph has it.
        kind: type of its values.
        shape: rows first; None where the graph leaves a length open.
    """

    name: str
    kind: np.dtype[Any]
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        lengths = ", ".join("any" if size is None else str(size) for size in self.shape[1:])
        return f"{self.kind} [{self.shape[0] or 'rows'}{', ' if lengths else ''}{lengths}]"


@dataclass(frozen=True)
class Questions:
    """Rows that a graph can be asked.

    Attributes:
        values: by input, all of one length.
        fixed: how many rows the graph takes at once; None where any number.
        origin: where they come from, for people.
    """

    values: Feed
    fixed: int | None
    origin: str

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def first(self, rows: int) -> Feed:
        """Return that many rows, over again where there are fewer."""
        return {name: np.resize(value, (rows, *value.shape[1:])) for name, value in self.values.items()}

    def feeds(self, size: int, limit: int | None = None) -> Iterator[Feed]:
        """Give all rows, `size` or, where the graph says so, `fixed` at once; what is left over then is left out."""
        step, total = self.fixed or size, min(len(self), limit or len(self))
        for start in range(0, total - (step - 1 if self.fixed else 0), step):
            yield {name: value[start : min(start + step, total)] for name, value in self.values.items()}


class Graph(OnnxPredictor):
    """A graph whose inputs and outputs are its own, on one thread.

    Args:
        graph: an `onnx.ModelProto`.
        path: of the file that it comes from, named in errors.

    Raises:
        RecordError: it does not run here.
    """

    def __init__(self, graph: Model, path: Path) -> None:
        try:
            super().__init__(graph)
        except RecordError as error:
            raise RecordError(f"{path}: {str(error).removeprefix('graph: ')}") from None
        self.path = path

    def outputs(self, feed: Feed) -> dict[str, Any]:
        """Return every output by name.

        Raises:
            DataError: these values are none that it can compute with.
        """
        import onnxruntime as ort

        options = ort.RunOptions()
        options.log_severity_level = 4  # what it says is in the exception as well
        try:
            found = self.session.run(None, dict(feed), options)
        except Exception as error:  # its exceptions share no base class below Exception
            raise DataError(f"inputs: the graph cannot compute with these ({in_words(error)})") from None
        return dict(zip([value.name for value in self.session.get_outputs()], found, strict=True))

    def __call__(self, inputs: Mapping[str, Any], present: Any) -> Array:
        """Return the first output; `present` says nothing."""
        return np.asarray(self.session.run(None, dict(inputs))[0])

    def inputs(self) -> list[Input]:
        """Return what it takes.

        Raises:
            KDError: an input is no tensor of numbers by row.
        """
        found = []
        for value in self.session.get_inputs():
            if value.type not in KINDS or not value.shape:
                raise KDError(
                    f"{self.path}: input {value.name}: {value.type} of shape {value.shape} is not supported; expected "
                    f"rows of {', '.join(str(np.dtype(kind)) for kind in KINDS.values())}"
                )
            shape = tuple(size if isinstance(size, int) else None for size in value.shape)
            found.append(Input(value.name, np.dtype(KINDS[value.type]), shape))
        return found


def rows_at_once(inputs: Sequence[Input], path: Path) -> int | None:
    """Return how many rows a graph takes at once; None where any number.

    Raises:
        KDError: its inputs want different numbers of them.
    """
    fixed = {value.shape[0] for value in inputs} - {None}
    if len(fixed) > 1:
        raise KDError(f"{path}: its inputs fix {sorted(fixed)} rows; one number is supported")  # type: ignore[type-var]
    return next(iter(fixed), None)


def made_up(inputs: Sequence[Input], graph: Model, path: Path, seed: int = 0) -> Questions:
    """Return random rows: normal where they are real, any row of a table where they index one, else 1 or true.

    Args:
        inputs: of the graph.
        graph: tells which inputs index its tables.
        path: of the graph, named in errors.
        seed: of the draws.

    Raises:
        KDError: a length other than the number of rows is left open.
    """
    draw, fixed, tables = np.random.default_rng(seed), rows_at_once(inputs, path), _tables_read(graph)
    values: dict[str, Array] = {}
    for value in inputs:
        lengths = [size for size in value.shape[1:] if size is not None]
        if len(lengths) < len(value.shape) - 1:
            raise KDError(f"{path}: input {value.name}: {value}, a length besides the rows is open; give rows=FILE.npz")
        values[value.name] = _drawn(value, (fixed or MADE_UP, *lengths), tables.get(value.name), draw)
    return Questions(values, fixed, "made up: normal real numbers, rows of tables at random, else ones")


def _drawn(value: Input, shape: tuple[int, ...], table: int | None, draw: np.random.Generator) -> Array:
    if value.kind.kind == "f":
        return draw.standard_normal(shape).astype(value.kind)
    if table is not None:
        return draw.integers(0, table, shape).astype(value.kind)
    return np.ones(shape, value.kind)


def _tables_read(graph: Model) -> dict[str, int]:
    """Return how many rows the smallest table has that an input indexes."""
    known = constants(graph)
    found: dict[str, int] = {}
    for node in computing(graph, ["Gather"]):
        table = known.get(node.input[0])
        if table is not None and table.dims:
            found[node.input[1]] = min(found.get(node.input[1], table.dims[0]), table.dims[0])
    return found


def from_file(inputs: Sequence[Input], rows: Path, path: Path) -> Questions:
    """Return a file's rows.

    Args:
        inputs: of the graph.
        rows: npz, an array per input; arrays of other names are not read.
        path: of the graph, named in errors.

    Raises:
        RecordError: the file is missing or no npz of plain arrays.
        DataError: every array that is missing or not what the graph takes.
    """
    arrays = _arrays(rows, [value.name for value in inputs])
    fixed = rows_at_once(inputs, path)
    found = [fault for value in inputs for fault in _faults(value, arrays)]
    lengths = {name: len(array) for name, array in arrays.items() if array.ndim}
    if not found and len(set(lengths.values())) > 1:
        found.append(f"expected one number of rows, got {', '.join(f'{n} in {name}' for name, n in lengths.items())}")
    if not found and min(lengths.values()) < (fixed or 1):
        found.append(f"expected at least {fixed or 1} rows, got {min(lengths.values())}")
    if found:
        raise DataError(found, str(rows))
    return Questions(arrays, fixed, rows.name)


def _arrays(path: Path, wanted: Sequence[str]) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in wanted if name in stored}
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file; write it with numpy.savez, an array per input") from None
    except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise RecordError(f"{path}: no npz of plain arrays ({in_words(error)}); write it with numpy.savez") from None


def _faults(value: Input, arrays: Mapping[str, Array]) -> list[str]:
    array = arrays.get(value.name)
    if array is None:
        return [f"{value.name}: no array of this name; expected {value}"]
    if array.dtype != value.kind:
        return [f"{value.name}: expected {value.kind}, got {array.dtype}; save it with .astype('{value.kind}')"]
    lengths = value.shape[1:]
    if array.ndim != len(value.shape) or any(
        want not in (None, got) for want, got in zip(lengths, array.shape[1:], strict=True)
    ):
        return [f"{value.name}: expected {value}, got shape {list(array.shape)}"]
    bad = [row for row, values in enumerate(array) if array.dtype.kind == "f" and not np.isfinite(values).all()]
    return [f"{value.name}: row {bad[0]} is NaN or infinite; fill or drop it"] if bad else []
