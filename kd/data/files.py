"""The user's files by their names in the settings: found, read once, and called in faults as the user calls them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kd.data.forms import Form, Pictures
from kd.data.readers import read_sheet
from kd.data.sheets import Sheet, nearest
from kd.errors import ConfigError, DataError


@dataclass
class Files:
    """The user's files, each read once however many settings name it.

    Attributes:
        root: what paths are relative to.
        id: the column that names a row, None where none does.
        separator: of a CSV.
        missing: words that stand for an empty cell.
    """

    root: Path
    id: str | None
    separator: str
    missing: Sequence[str]
    _read: dict[str, Sheet | DataError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not os.path.isdir(self.root):
            raise ConfigError(f"data.root: {self.root}: no such folder; it is relative to the working directory")

    def name(self, file: str) -> str:
        """Return what faults call a file: its path from the working directory."""
        return (self.root / file).as_posix()

    def path(self, file: str, where: str, *, folder: bool = False) -> Path:
        """Return where a file or a folder is.

        Raises:
            DataError: it is not there.
        """
        path = self.root / file
        # `os.path` answers where `Path` raises: for names that are too long or hold a zero byte.
        if os.path.isdir(path) if folder else os.path.isfile(path):
            if os.access(path, os.R_OK):
                return path
            raise DataError(f"{where}: {self.name(file)}: you may not read it; change its permissions")
        open_ = os.path.isdir(path.parent) and os.access(path.parent, os.R_OK)
        beside = sorted(os.listdir(path.parent)) if open_ else []
        what = "folder" if folder else "file"
        # Sites put dates behind the names of what they hand out.
        dated = [name for name in beside if name.startswith(f"{path.stem}_") and name.endswith(path.suffix)]
        near = f"did you mean {dated[0]!r}?" if dated else nearest(path.name, beside, most=0)
        hint = near or "correct the path, or set data.root"
        raise DataError(f"{where}: {self.name(file)}: no such {what}; {hint}".rstrip())

    def sheet(self, file: str, where: str) -> Sheet:
        """Return a table's rows.

        Args:
            file: as written.
            where: the setting that names it.

        Raises:
            DataError: all its faults.
        """
        if file not in self._read:
            path = self.path(file, where)
            try:
                sheet = read_sheet(path, self.name(file), id=self.id, separator=self.separator, missing=self.missing)
                self._read[file] = sheet
            except DataError as error:
                self._read[file] = error
        found = self._read[file]
        if isinstance(found, DataError):
            raise found
        return found

    def known(self, form: Form) -> Sheet | None:
        """Return the rows of a modality's table, None where it has none that could be read."""
        found = None if isinstance(form, Pictures) else self._read.get(form.file)
        return found if isinstance(found, Sheet) else None
