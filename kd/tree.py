"""Configs as plain trees: YAML files read, merged with what they use and with words of the command line.

A file may `use:` fragments, beside it or of the shipped `configs/`; they are merged in order, then the file itself,
then `key=value` from the command line; what stands under `quick:` is merged before the latter where it says
`quick=true`. A part (`{name: ...}`) whose name changes is replaced whole, so that no argument of the old one lingers.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from kd.errors import ConfigError
from kd.registry import fits


def load_tree(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a config file, merge what it uses and the overrides, and return it as plain data.

    Raises:
        ConfigError: a file cannot be read, or an override is not `key=value`.
    """
    merged = read(Path(path))
    for override in overrides:
        if "=" not in override or override.startswith("-"):
            raise ConfigError(f"{override!r}: expected key=value, e.g. seeds=20 or edges.fou.weight=2")
    shorter, asked = merged.pop("quick", None), dotted(overrides)
    if shorter is not None and not isinstance(shorter, Mapping):
        raise ConfigError(f"{path}: quick: expected a mapping of what a short run changes, got {shorter!r}")
    if _quick(asked.pop("quick", False)):
        if shorter is None:
            raise ConfigError(
                f"{path}: quick: the config has no short form; add `quick: {{seeds: 2}}` or drop quick=true"
            )
        merged = merge(merged, shorter)
    found: dict[str, Any] = merge(merged, asked)
    return found


def _quick(asked: Any) -> bool:
    if not isinstance(asked, bool):
        raise ConfigError(f"quick: expected true or false on the command line, got {asked!r}")
    return asked


def dotted(overrides: Sequence[str]) -> dict[str, Any]:
    """Return `key=value` words as a nested mapping, values read as YAML.

    Raises:
        ConfigError: a value is not YAML.
    """
    try:
        return typing.cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides))))
    except Exception as error:  # a YAML scanner's errors share no base class with OmegaConf's
        raise ConfigError(f"command line {' '.join(overrides)}: {' '.join(str(error).split())}") from None


def read(path: Path, users: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read one YAML file and everything it uses, merged in order.

    Args:
        path: the file.
        users: files that are being read because one uses the next; naming one of them again is a fault.
    """
    if path.resolve() in users:
        raise ConfigError(f"{users[-1]}: use: {path} uses itself in the end; remove it")
    try:
        tree = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config; see configs/ for those we ship") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name a YAML file in it") from None
    except Exception as error:  # a YAML scanner's errors share no base class with OmegaConf's
        raise ConfigError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, got {type(tree).__name__}")
    own = {str(key): value for key, value in tree.items()}
    used = own.pop("use", [])
    if not fits(used, str | list[str]):
        raise ConfigError(f"{path}: use: expected a file or a list of files, got {used!r}")
    merged: dict[str, Any] = {}
    for name in [used] if isinstance(used, str) else used:
        merged = merge(merged, read(_used(path, name), (*users, path.resolve())))
    return merge(merged, own)


def fragment(path: Path, name: str) -> dict[str, Any]:
    """Read a fragment as a config file would that uses it.

    Args:
        path: the config file.
        name: as it stands under `use`.

    Raises:
        ConfigError: the fragment, or one that it uses, cannot be read.
    """
    return read(_used(path, name), (path.resolve(),))


def _used(path: Path, name: str) -> Path:
    """Return the file that a config uses: beside it or, where there is none, of the shipped `configs/`."""
    home = os.environ.get("KD_HOME")
    shipped = (Path(home) if home else Path(__file__).resolve().parents[1]) / "configs" / name
    beside = path.parent / name
    return shipped if shipped.is_file() and not beside.exists() else beside


def files_of(path: Path) -> list[Path]:
    """Return a config file and every file that it uses, directly or through others; it must be readable, see `read`."""
    own = OmegaConf.to_container(OmegaConf.load(path))
    used = own.get("use", []) if isinstance(own, dict) else []
    names = [used] if isinstance(used, str) else used
    return [path, *(file for name in names for file in files_of(_used(path, name)))]


def merge(below: Any, above: Any) -> Any:
    """Merge two plain trees; mappings by key, everything else replaced, a part whose name changed replaced whole.

    >>> merge({"f": {"name": "attention", "heads": 4}}, {"f": {"name": "mean"}})
    {'f': {'name': 'mean'}}
    """
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    if "name" in above and above["name"] != below.get("name", above["name"]):
        return dict(above)
    # A network of the user's own has nothing in common with what stood there.
    if "import" in above and above["import"] != below.get("import"):
        return dict(above)
    return {**below, **{key: merge(below[key], value) if key in below else value for key, value in above.items()}}
