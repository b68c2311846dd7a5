"""Run records and content addresses: what a stage computed, from what, and where its files are.

A run is a folder `$KD_RUNS/<verb>/<id>/` with `record.json` beside the files it names. The id is the hash of everything
that decides the result; the record is written last, through a temporary name, so a folder with a record is finished.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import platform
import shutil
import tempfile
import tokenize
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kd.errors import RecordError, StorageError

PACKAGES = ("torch", "pytorch-lightning", "torchmetrics", "numpy", "scikit-learn", "onnxruntime")


@dataclass
class RunRecord:
    """Everything needed to say where a number came from."""

    id: str
    verb: str
    """train, evaluate, compress or run."""
    name: str
    """What was run, for people: `student seed 3`."""
    config: dict[str, Any]
    """The fields that decide the result."""
    parents: dict[str, str] = field(default_factory=dict)
    """Role -> id of the run it was built from."""
    seed: int | None = None
    data: str = ""
    mask: str = ""
    code: dict[str, str] = field(default_factory=dict)
    """Room -> hash of its token stream."""
    packages: dict[str, str] = field(default_factory=dict)
    machine: str = ""
    threads: int = 1
    seconds: float = 0.0
    metrics: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    """Name -> path relative to the run's folder."""
    checksums: dict[str, str] = field(default_factory=dict)
    """Name -> sha256 of that file."""
    selected_on: str = ""
    """What validation chose the weights, e.g. `validation accuracy, mean over subsets, 200 labels`."""
    saw: dict[str, str] = field(default_factory=dict)
    """Fitted object -> hash of the row ids it saw (the leak audit's evidence)."""


def digest(value: Any) -> str:
    """Return the sha256 of a JSON-able value, independent of the order of mapping keys.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def code_address(*rooms: str) -> dict[str, str]:
    """Return room -> hash of the tokens of its Python files, comments, docstrings and layout left out.

    Args:
        rooms: names below `kd/`, a folder (`"models"`) or a module (`"types"`).
    """
    return {room: _room_digest(room) for room in sorted(rooms)}


@cache
def _room_digest(room: str) -> str:
    root = Path(__file__).parent
    files = sorted((root / room).rglob("*.py")) or [root / f"{room}.py"]
    return digest([[str(f.relative_to(root)), *token_stream(f.read_text())] for f in files])


def token_stream(source: str) -> list[str]:
    """Return a Python source's tokens without comments, docstrings, blank lines and layout.

    >>> token_stream("x = 1  # why") == token_stream("x   =   1")
    True
    """
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}
    kept: list[str] = []
    statement_start = True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in skipped:
            continue
        # A string that opens a statement is a docstring or has no effect; either way it decides nothing.
        if not (statement_start and token.type == tokenize.STRING):
            kept.append(token.string if token.type not in (tokenize.INDENT, tokenize.DEDENT) else str(token.type))
        statement_start = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    return kept


@cache
def package_versions() -> dict[str, str]:
    """Return the installed version of each library that can move a number."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Return processor, core count and operating system in one line."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def runs_root() -> Path:
    """Return the store: `$KD_RUNS`, by default `./runs`."""
    return Path(os.environ.get("KD_RUNS", "runs"))


def open_store() -> None:
    """Make sure that the store can be written to, before hours are spent on what goes into it.

    Raises:
        StorageError: it cannot.
    """
    write_atomic(runs_root() / ".writable", "")


def run_folder(verb: str, run_id: str) -> Path:
    """Return the folder of a run in the store."""
    return runs_root() / verb / run_id


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all.

    Raises:
        StorageError: the disk is full or read-only; the old file, if any, is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


REFUSALS = frozenset(
    getattr(errno, name)
    for name in ["ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "ENOENT", "ENOTDIR", "EISDIR", "EEXIST"]
    if hasattr(errno, name)
)
"""What an operating system says when a place cannot be written to."""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into one sentence that names the place and the fix."""
    try:
        yield
    except OSError as error:
        if error.errno in REFUSALS:
            raise StorageError(
                f"{path}: cannot write ({error.strerror}); free space or set KD_RUNS elsewhere"
            ) from error
        raise


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target` that takes its place when the block ends well, and vanishes otherwise.

    Where another process has finished the same run meanwhile, its folder stays.
    """
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            yield stage
            _take_place(stage, target)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def _take_place(stage: Path, target: Path) -> None:
    try:
        os.replace(stage, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not (target / "record.json").exists():
            shutil.rmtree(target)
            os.replace(stage, target)


def save_record(record: RunRecord, folder: Path) -> None:
    """Stamp a record with machine, packages and file checksums and write it into `folder`, last of all."""
    record.packages = package_versions()
    record.machine = machine()
    record.checksums = {name: file_digest(folder / path) for name, path in record.files.items()}
    write_atomic(folder / "record.json", json.dumps(asdict(record), indent=1, sort_keys=True) + "\n")


def load_record(folder: Path) -> RunRecord:
    """Read a record and check that its files are the ones it was written with.

    Raises:
        RecordError: the record or one of its files is missing, truncated or changed.
    """
    path = folder / "record.json"
    try:
        fields: Mapping[str, Any] = json.loads(path.read_text())
        record = RunRecord(**fields)
        if not isinstance(record.files, dict) or not isinstance(record.checksums, dict):
            raise TypeError("files and checksums are mappings")
    except FileNotFoundError:
        raise RecordError(f"{path}: no record here; run the stage that makes it") from None
    except (json.JSONDecodeError, TypeError, UnicodeDecodeError, OSError) as error:
        raise RecordError(f"{path}: damaged record ({error}); delete {folder} and run again") from None
    for name, file in record.files.items():
        if not (folder / file).is_file() or file_digest(folder / file) != record.checksums.get(name):
            raise RecordError(
                f"{folder / file}: missing or changed since it was recorded; delete {folder} and run again"
            )
    return record


def finished(verb: str, run_id: str) -> RunRecord | None:
    """Return the record of a finished run, or None where there is none yet."""
    folder = run_folder(verb, run_id)
    return load_record(folder) if (folder / "record.json").exists() else None
