"""Rows that are set aside before a search begins, and tested on once, at its end.

A locked set is a JSON file of row numbers with a hash. A search never meets its rows, in no part of any split; the
final comparison tests on them and on nothing else. Fresh seeds over one pool are not fresh data: without such rows a
method that was chosen among many has been chosen on the rows that it is then tested on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kd.data.shipped import data_home
from kd.data.source import Source
from kd.errors import ConfigError, DataError
from kd.record import digest, write_atomic
from kd.seeding import generator

FORMAT = 1
"""Version of the file; a reader refuses others."""
FILE = "locked.json"
"""Name of the file in a shipped data set's folder."""


@dataclass(frozen=True, eq=False)
class Locked:
    """Rows that only a final comparison tests on.

    Attributes:
        rows: int64, ascending.
        data: digest of the names, labels and groups of all rows of the source, whatever its modalities.
        source: its name, for people.
        seed: of the draw.
    """

    rows: Tensor
    data: str
    source: str
    seed: int = 0

    @cached_property
    def hash(self) -> str:
        """The sha256 of all that the file says."""
        return digest([FORMAT, self.rows.tolist(), self.data, self.source, self.seed])

    def check(self, source: Source, where: str = "locked") -> Locked:
        """Return the set itself when its rows are this source's.

        Raises:
            DataError: they are those of other data.
        """
        if self.data != identity(source):
            raise DataError(
                f"{where}: drawn for other rows than those of {source.name} (rows of {self.source} with other names, "
                "labels or groups); draw it again with kd data lock, before any search"
            )
        return self

    def save(self, path: Path | str) -> None:
        """Write the set as JSON."""
        about = {"format": FORMAT, "source": self.source, "data": self.data, "seed": self.seed}
        write_atomic(Path(path), json.dumps({**about, "rows": self.rows.tolist(), "hash": self.hash}) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> Locked:
        """Read a set back.

        Raises:
            DataError: no such file, not a locked set, or edited since it was written.
        """
        try:
            about = json.loads(Path(path).read_text())
            version, claimed = about["format"], about["hash"]
            found = cls(torch.tensor(about["rows"], dtype=torch.int64), about["data"], about["source"], about["seed"])
        except FileNotFoundError:
            raise DataError(f"{path}: no such file of locked rows; write one with kd data lock") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"{path}: not a file of locked rows ({reason}); write one with kd data lock") from None
        if version != FORMAT or found.hash != claimed:
            raise DataError(f"{path}: edited since it was written (its hash does not match); restore the file")
        return found


def identity(source: Source) -> str:
    """Return the sha256 of what tells the rows of a source apart: names, labels and groups, but no modality."""
    return digest([len(source), source.ids, source.task, source.label.tolist(), source.group.tolist()])


def lock(source: Source, *, rows: int | None = None, share: float | None = None, seed: int = 0) -> Locked:
    """Draw rows to set aside: groups whole, classes in their proportions, nested in `rows` for one seed.

    Args:
        source: the data.
        rows: how many at most; groups that would pass it are left out.
        share: fraction of the groups instead, in (0, 1).
        seed: of the draw.

    Raises:
        ConfigError: neither or both are given, or nothing or everything would be locked.

    >>> from kd.data import load_source
    >>> len(lock(load_source("synthetic", rows=400), rows=100).rows)
    100
    """
    if (rows is None) == (share is None):
        raise ConfigError("lock: give rows=, how many to set aside, or share=, a fraction of the groups")
    groups, member = np.unique(source.group.numpy(), return_inverse=True)
    sizes, order = np.bincount(member), _spread(source, member, seed)
    if share is not None:
        taken = order[: round(share * len(groups))]
    else:
        taken = np.asarray(_fill(order, sizes, int(rows or 0)), dtype=np.int64)
    if not 0 < len(taken) < len(groups):
        asked = f"rows={rows}" if share is None else f"share={share}"
        raise ConfigError(f"lock: {asked} of {len(source)} rows in {len(groups)} groups leaves one side empty")
    found = torch.from_numpy(np.flatnonzero(np.isin(member, taken)))
    return Locked(found, identity(source), source.name, seed)


def _fill(order: np.ndarray, sizes: np.ndarray, most: int) -> list[int]:
    taken, left = [], most
    for group in order.tolist():
        if sizes[group] <= left:
            taken.append(group)
            left -= int(sizes[group])
    return taken


def _spread(source: Source, member: np.ndarray, seed: int) -> np.ndarray:
    """Return the groups in an order whose every prefix has the classes in their proportions."""
    groups = int(member.max()) + 1
    shuffled = torch.randperm(groups, generator=generator(seed, "lock")).numpy()
    if source.task != "multiclass":
        return shuffled
    counts = np.zeros((groups, source.classes), dtype=np.int64)
    np.add.at(counts, (member, source.label.numpy()), 1)
    stratum = counts.argmax(axis=1)[shuffled]
    place = np.empty(groups)
    for value in np.unique(stratum):
        own = np.flatnonzero(stratum == value)
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
    return shuffled[place.argsort(kind="stable")]


def locked_path(named: str) -> Path:
    """Return the file that `split.locked` means: a path to a `.json` file, or the name of a shipped data set."""
    return Path(named).expanduser() if named.endswith(".json") else data_home() / named / FILE


def load_locked(named: str, source: Source) -> Locked:
    """Return the locked set that a config names, once it is known to be this source's.

    Raises:
        DataError: there is none, it was edited, or it is of other data.
    """
    path = locked_path(named)
    return Locked.load(path).check(source, str(path))


def touched(locked: Locked, parts: Sequence[Tensor]) -> Tensor:
    """Return the locked rows among these, int64 and ascending."""
    return locked.rows[torch.isin(locked.rows, torch.cat(list(parts)))]
