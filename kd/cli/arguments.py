"""What stands behind a verb: a name, then `key=value`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kd.errors import ConfigError
from kd.registry import suggest

if TYPE_CHECKING:
    from kd.config import Study


def arguments(words: Sequence[str], verb: str, what: str) -> tuple[str, list[str], bool]:
    """Return the name after a verb, its `key=value` words, and whether JSON is wanted."""
    parser = argparse.ArgumentParser(prog=f"kd {verb}", add_help=False, exit_on_error=False)
    parser.add_argument("name", nargs="?")
    parser.add_argument("overrides", nargs="*")
    try:
        parsed, unknown = parser.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise ConfigError(f"kd {verb}: {error}") from None
    if unknown:
        raise ConfigError(f"kd {verb}: unknown option {unknown[0]!r}; settings are written key=value, e.g. seeds=20")
    if parsed.name is None or "=" in parsed.name:
        raise ConfigError(f"kd {verb}: expected {what}; see kd --help")
    as_json = "json=true" in parsed.overrides
    return parsed.name, [word for word in parsed.overrides if not word.startswith("json=")], as_json


def refuse(word: str, verb: str, wrong: bool = True) -> None:
    """Say that a word means nothing here."""
    if wrong:
        raise ConfigError(f"kd {verb}: {word!r} is not a setting here; remove it")


def settings(words: Sequence[str], known: Mapping[str, str], verb: str) -> dict[str, str]:
    """Return what is set of a verb's own settings, the rest by default."""
    found = dict(known)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in known:
            raise ConfigError(f"kd {verb}: {word!r} is not a setting; {suggest(key, [f'{name}=' for name in known])}")
        found[key] = value
    return found


def study_of(words: Sequence[str], verb: str) -> tuple[Study, str, bool]:
    """Return the study that a verb's words name, its file, and whether JSON is wanted."""
    from kd.parsing import load

    path, overrides, as_json = arguments(words, verb, "a config")
    return load(path, overrides), path, as_json
