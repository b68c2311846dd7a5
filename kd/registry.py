"""Parts by name: explicit tables, and a factory's keyword-only signature as the schema of its YAML.

A *part* is a mapping `{name: mlp, hidden: [64]}`. Positional parameters of a factory come from the code (widths,
class counts); keyword-only parameters come from the user. Binding checks every key and type without building.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kd.errors import ConfigError


@dataclass(frozen=True)
class Entry:
    """One line of a registry.

    Attributes:
        factory: `"package.module:callable"`, imported only when it is used, so that listing stays fast.
        sentence: what it computes, in one sentence.
        source: paper, equation or arXiv id; "ours" where there is none.
    """

    factory: str
    sentence: str
    source: str

    def load(self) -> Callable[..., Any]:
        """Import and return the factory."""
        module, _, attribute = self.factory.partition(":")
        return getattr(importlib.import_module(module), attribute)


class Registry(Mapping[str, Entry]):
    """An immutable table of parts of one kind (`objective`, `encoder`, `fusion`, `mechanism`, `pass`, `source`).

    Args:
        kind: what its parts are called.
        entries: name -> line.
        nested: name -> `module:function` that finds the faults of settings which a signature cannot say.
    """

    def __init__(self, kind: str, entries: dict[str, Entry], nested: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._entries = entries
        self._nested = nested or {}

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def faults(self, part: Any, where: str) -> list[str]:
        """Return every fault of a part, without building it.

        Args:
            part: mapping with a `name` and the factory's keyword-only arguments.
            where: the field's place in the config, named in each fault.
        """
        if not isinstance(part, Mapping) or "name" not in part:
            return [
                f"{where}: expected {article(self.kind)} as {{name: ..., ...}}, got {part!r}; known: {', '.join(self)}"
            ]
        name = part["name"]
        if not isinstance(name, str) or name not in self:
            return [f"{where}.name: unknown {self.kind} {name!r}; {suggest(str(name), self)}"]
        arguments = {k: v for k, v in part.items() if k != "name"}
        return self._argument_faults(self[name].load(), name, arguments, where)

    def _argument_faults(
        self, factory: Callable[..., Any], name: str | None, arguments: Mapping[str, Any], where: str
    ) -> list[str]:
        found = signature_faults(factory, arguments, where)
        if name is not None and name in self._nested:
            check = Entry(self._nested[name], "", "").load()
            found += [fault for fault in check(arguments, where) if fault not in found]
        return found

    def build(self, part: Mapping[str, Any], *context: Any, where: str = "") -> Any:
        """Build a part: `context` fills the factory's positional parameters, the part's keys its keyword ones.

        Raises:
            ConfigError: naming every unknown, missing or ill-typed argument.
        """
        found = self.faults(part, where or self.kind)
        if found:
            raise ConfigError(found)
        return self[part["name"]].load()(*context, **{k: v for k, v in part.items() if k != "name"})


def suggest(name: str, known: typing.Iterable[str]) -> str:
    """Return a hint that offers the nearest known name, and all of them.

    >>> suggest("atention", ["attention", "mean"])
    "did you mean 'attention'? Known: attention, mean"
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    listing = "Known: " + ", ".join(names)
    return f"did you mean {near[0]!r}? {listing}" if near else listing


@functools.cache  # a grid asks for the same few signatures thousands of times
def keywords(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the keyword-only parameters of a factory: the ones a user may write."""
    parameters = inspect.signature(factory).parameters.values()
    return types.MappingProxyType({p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY})


@functools.cache
def _hints(factory: Callable[..., Any]) -> Mapping[str, Any]:
    # Of a data class, those of its fields: its own `__init__` does not know what the module of a base class imports.
    own = inspect.isclass(factory) and not dataclasses.is_dataclass(factory)
    return typing.get_type_hints(factory.__init__ if own else factory)


def signature_faults(factory: Callable[..., Any], arguments: Mapping[str, Any], where: str) -> list[str]:
    """Return one sentence for every argument that a factory's keyword-only signature refuses."""
    known, hints = keywords(factory), _hints(factory)
    found = []
    for key, value in arguments.items():
        if key not in known:
            known_ones = suggest(str(key), known) if known else "this part takes none"
            found.append(f"{where}.{key}: unknown argument; {known_ones}")
        elif key in hints and not fits(value, hints[key]):
            found.append(f"{where}.{key}: expected {spell(hints[key])}, got {value!r}")
    for key, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and key not in arguments:
            found.append(f"{where}.{key}: required argument is missing")
    return found


def fits(value: Any, hint: Any) -> bool:
    """Say whether a plain YAML value satisfies a type hint (an int is a float; a list is a sequence or tuple)."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in arguments)
    if origin is typing.Literal:
        return value in arguments
    if hint is None or hint is type(None):
        return value is None
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, (int, float))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(fits(v, arguments[1]) for v in value.values())
    if isinstance(origin, type) and issubclass(origin, typing.Sequence):
        return isinstance(value, (list, tuple)) and all(fits(item, arguments[0]) for item in value)
    return isinstance(value, hint if isinstance(hint, type) else object)


def spell(hint: Any) -> str:
    """Spell a type hint for a person.

    >>> spell(list[str]), spell(int | None), spell(typing.Literal["a", "b"])
    ('list of str', 'int or None', "one of 'a', 'b'")
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(spell(option) for option in arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping to {spell(arguments[1])}"
    if isinstance(origin, type) and issubclass(origin, typing.Sequence):
        return f"list of {spell(arguments[0])}"
    if hint is type(None):
        return "None"
    return "mapping" if hasattr(hint, "__dataclass_fields__") else getattr(hint, "__name__", str(hint))


def article(noun: str) -> str:
    """Return a noun with its article: an encoder, a fusion."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
