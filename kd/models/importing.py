"""Classes of the user's own, by the name `package.module:Class`: found, their arguments checked, their code hashed."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kd.errors import ConfigError
from kd.record import digest, token_stream
from kd.registry import fits, spell, suggest


def import_object(name: Any, base: type, where: str = "import") -> Callable[..., Any]:
    """Return the class or function called `package.module:Name`; the working directory is searched as `python -m` does.

    Args:
        name: as written.
        base: what the class is, or what the function makes.
        where: named in errors.

    Raises:
        ConfigError: there is none, its module cannot be imported, or it is a class of another kind.
    """
    if not isinstance(name, str) or name.count(":") != 1:
        raise ConfigError(f"{where}: expected 'package.module:Class', got {name!r}")
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{where}: {module_name} cannot be imported ({in_words(error)}); pip install it"
            ) from None
        raise ConfigError(
            f"{where}: no module {error.name!r} in {os.getcwd()} or among the installed packages; start kd in the "
            "folder that holds it"
        ) from None
    except Exception as error:  # whatever the user's module raises
        raise ConfigError(f"{where}: {module_name} cannot be imported ({in_words(error)}); repair it") from None
    found = getattr(module, attribute, None)
    if found is None:
        fitting = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, base)]
        raise ConfigError(f"{where}: {module_name} has no {attribute!r}; {suggest(attribute, fitting)}")
    if not callable(found) or (isinstance(found, type) and not issubclass(found, base)):
        raise ConfigError(f"{where}: {name} is no {base.__name__}; name a class, or a function that makes one")
    return typing.cast("Callable[..., Any]", found)


def argument_faults(factory: Callable[..., Any], arguments: Mapping[str, Any], where: str) -> list[str]:
    """Return a sentence for every argument that a class or function does not know, lacks or cannot take."""
    dot = f"{where}." if where else ""
    known = inspect.signature(factory).parameters
    named = {n: p for n, p in known.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    anything = any(p.kind is p.VAR_KEYWORD for p in known.values())
    hints = _hints(factory)
    found = []
    for key, value in arguments.items():
        if key not in named and not anything:
            known_ones = suggest(str(key), named) if named else "it takes none"
            found.append(f"{dot}{key}: unknown argument; {known_ones}")
        elif _plain(hints.get(key, Any)) and not fits(value, hints.get(key, Any)):
            found.append(f"{dot}{key}: expected {spell(hints[key])}, got {value!r}")
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in arguments:
            found.append(f"{dot}{key}: required argument is missing")
    return found


def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(factory.__init__ if isinstance(factory, type) else factory)  # type: ignore[misc]
    except Exception:  # names that exist only for type checkers: then no type is checked
        return {}


def _plain(hint: Any) -> bool:
    """Say whether a type hint is one that YAML can fill; others (an enumeration, a path) may take text as well."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return True
    return all(map(_plain, inner)) if inner else hint in (int, float, str, bool, list, dict, type(None), Any)


def import_digest(name: str, base: type) -> str:
    """Return the hash of the tokens of the file that holds a class; what that file imports is not read."""
    factory = inspect.unwrap(import_object(name, base))
    try:
        file = inspect.getsourcefile(factory)
    except TypeError:  # built into Python or a compiled library
        file = None
    return digest(token_stream(Path(file).read_text()) if file else name)


def in_words(error: Exception) -> str:
    """Return an error of somebody else's code on one line, cut where it is long."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
