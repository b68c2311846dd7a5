"""Weights and tokenizers that somebody else trained: from a folder, an installed package or a model hub.

Names are `path/to/folder`, `package:NAME/FOLDER` (files inside an installed Python package, for machines without a hub)
or a hub's `owner/name`. Only safetensors are read, never a pickle, and no code that comes with a model is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kd.errors import ConfigError

PACKAGE = "package:"
STORED = "stored"
"""In a package's card, in place of the name of pre-trained weights: they are the package's own."""
PATIENCE = 5
"""Seconds that a hub may take to answer at all."""


def located(name: str) -> str:
    """Return a folder where the name means one on this machine, else the name itself, a hub's.

    >>> located("owner/name")
    'owner/name'

    Raises:
        ConfigError: the package is not installed or has no such folder, or a path does not exist.
    """
    if name.startswith(PACKAGE):
        return _inside_package(name)
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if name.startswith((".", "/", "~")):
        raise ConfigError(f"{name}: no such folder; name a folder, {PACKAGE}NAME/FOLDER or a hub's owner/name")
    return name


def _inside_package(name: str) -> str:
    package, _, inside = name.removeprefix(PACKAGE).partition("/")
    # The package is found and not imported: none of its code runs.
    found = find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise ConfigError(f"{name}: the package {package!r} is not installed; pip install {package.replace('_', '-')}")
    for place in found.submodule_search_locations:
        if (Path(place) / inside).is_dir():
            return str(Path(place) / inside)
    raise ConfigError(f"{name}: the package {package!r} has no folder {inside!r}")


def hub_answers() -> bool:
    """Say whether a model hub can be reached, in seconds; its own client tries for half a minute."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception:  # no name, no route, no permission and no certificate share no class
        return False
    return True


def from_hub(loader: Any, name: str, **arguments: Any) -> Any:
    """Load with a class of transformers: `from_hub(AutoTokenizer, "owner/name")`.

    Without a hub, a copy that an earlier download left is taken.

    Raises:
        ConfigError: nothing of this name can be had here, in one line.
    """
    place = located(name)
    offline = not Path(place).is_dir() and not hub_answers()
    try:
        with _quiet():
            return loader.from_pretrained(place, local_files_only=offline, trust_remote_code=False, **arguments)
    except Exception as error:  # a missing file, a refused connection and a damaged config share no class
        reason = "no hub can be reached, and no copy is here" if offline else " ".join(str(error).split())[:160]
        raise ConfigError(
            f"{name}: nothing to load here ({reason}); name a local folder, or {PACKAGE}NAME/FOLDER of an installed "
            "package"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' bars and warnings out of a terminal where a study runs; errors are raised all the same."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
