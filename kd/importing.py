"""The user's own code, by the name `package.module:Name`: found, its arguments checked, its text hashed."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kd.errors import ConfigError
from kd.record import digest, token_stream
from kd.registry import fits, spell, suggest


def import_object(name: Any, where: str, kind: str, suits: Callable[[Any], bool]) -> Callable[..., Any]:
    """Return what is called `package.module:Name`; the working directory is searched after all else.

    Args:
        name: as written.
        where: named in errors.
        kind: what is looked for, in a word, for errors.
        suits: says which names of the module come into question where this one is not there.

    Raises:
        ConfigError: there is none, its module cannot be imported, or it cannot be called.
    """
    if not isinstance(name, str) or name.count(":") != 1 or not all(name.split(":")):
        raise ConfigError(f"{where}: expected package.module:{kind}, got {name!r}")
    module_name, _, attribute = name.partition(":")
    module = _import(module_name, where)
    found = getattr(module, attribute, None)
    if not callable(found):
        fitting = [key for key, value in vars(module).items() if suits(value) and not key.startswith("_")]
        raise ConfigError(f"{where}: {module_name} has no {kind} {attribute!r}; {suggest(attribute, fitting)}")
    return typing.cast("Callable[..., Any]", found)


def _import(name: str, where: str) -> Any:
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())  # last, so that no file there takes the place of an installed module
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{where}: no module {error.name!r} in {os.getcwd()} or among the installed packages; start kd in the "
                "folder that holds it"
            ) from None
        raise ConfigError(f"{where}: {name} cannot be imported ({placed(error)}); pip install it") from None
    except Exception as error:  # whatever the user's module raises
        raise ConfigError(f"{where}: {name} cannot be imported ({placed(error)}); repair it") from None


def import_class(name: Any, base: type, where: str = "import") -> Callable[..., Any]:
    """Return the class called `package.module:Name`, or the function of this name that makes one.

    Args:
        name: as written.
        base: what the class is, or what the function makes.
        where: named in errors.

    Raises:
        ConfigError: as `import_object`, or it is a class of another kind.
    """

    def suits(value: Any) -> bool:
        return isinstance(value, type) and issubclass(value, base)

    found = import_object(name, where, "Class", suits)
    if isinstance(found, type) and not suits(found):
        raise ConfigError(f"{where}: {name} is no {base.__name__}; name a class, or a function that makes one")
    return found


def import_factory(name: Any, where: str) -> Callable[..., Any]:
    """Return the function called `package.module:name`, whose arguments are all named.

    Args:
        name: as written.
        where: named in errors.

    Raises:
        ConfigError: as `import_object`, or its arguments have no names.
    """
    factory = import_object(name, where, "function", inspect.isfunction)
    others = [p.name for p in inspect.signature(factory).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    if others:
        own = name.partition(":")[2]
        raise ConfigError(f"{where}: {own}: write its arguments after a star, def {own}(*, {', '.join(others)})")
    return factory


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
    factory = inspect.unwrap(import_class(name, base))
    try:
        file = inspect.getsourcefile(factory)
    except TypeError:  # built into Python or a compiled library
        file = None
    return digest(token_stream(Path(file).read_text()) if file else name)


def in_words(error: Exception) -> str:
    """Return an error of somebody else's code on one line, cut where it is long."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def placed(error: Exception) -> str:
    """Return an error of somebody else's code on one line, with the place it came from."""
    # Neither our own call nor the machinery of imports is the place.
    ours = (__file__, importlib.__file__)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in ours and not frame.filename.startswith("<")
    ]
    at = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
    return f"{in_words(error)}{at}"
