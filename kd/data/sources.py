"""The table of sources: ours, those of installed packages (entry points), and a user's own factory by its import path.

An installed package adds names with entry points of the group `kd.sources`; `{import: package.module:factory, ...}` in
a config needs no package at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kd.errors import ConfigError, DataError, KDError
from kd.importing import import_factory, placed
from kd.registry import Entry, Registry

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from kd.data.source import Source

GROUP = "kd.sources"
IMPORT = "import"


class Sources(Registry):
    """Sources by name; a part may say `import` instead of `name`.

    Args:
        entries: those that come with us; an installed package cannot take their names.
        nested: name -> `module:function` that finds the faults of settings which a signature cannot say.
    """

    def __init__(self, entries: dict[str, Entry], nested: Mapping[str, str]) -> None:
        super().__init__("source", entries, nested)

    @cached_property
    def _installed(self) -> dict[str, Entry]:
        """Return the sources of installed packages; they are looked for once, and only when ours do not suffice."""
        from importlib.metadata import entry_points

        found = {point.name: _entry(point) for point in entry_points(group=GROUP)}
        return {name: entry for name, entry in sorted(found.items()) if name not in self._entries}

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name] if name in self._entries else self._installed[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._entries, *self._installed])

    def __len__(self) -> int:
        return len(self._entries) + len(self._installed)

    def faults(self, part: Any, where: str) -> list[str]:
        """Return every fault of a part that can be told without reading data."""
        if not isinstance(part, Mapping) or (IMPORT not in part and not isinstance(part.get("name"), str)):
            return super().faults(part, where)
        if IMPORT in part and "name" in part:
            return [f"{where}: both name: and import: are written; keep one"]
        if IMPORT not in part and part["name"] not in self:
            return super().faults(part, where)
        arguments = {key: value for key, value in part.items() if key not in ("name", IMPORT)}
        try:
            factory = self._factory(part, where)
        except ConfigError as error:
            return error.faults
        try:
            return self._argument_faults(factory, part.get("name"), arguments, where)
        except NameError as error:  # a type that its module imports for type checkers only
            return [f"{where}.{IMPORT}: the type hints of {_called(part)} cannot be read; {placed(error)}"]

    def build(self, part: Mapping[str, Any], *context: Any, where: str = "data") -> Source:
        """Build a source from a part.

        Raises:
            ConfigError: naming every unknown, missing or ill-typed argument.
            DataError: its files are missing or damaged, or somebody else's factory failed.
        """
        found = self.faults(part, where)
        if found:
            raise ConfigError(found)
        arguments = {key: value for key, value in part.items() if key not in ("name", IMPORT)}
        factory = self._factory(part, where)
        if part.get("name") in self._entries:
            source: Source = factory(*context, **arguments)
            return source
        return _built(factory, arguments, f"{where}.{IMPORT if IMPORT in part else 'name'}: {_called(part)}")

    def _factory(self, part: Mapping[str, Any], where: str) -> Callable[..., Any]:
        if IMPORT in part:
            return import_factory(part[IMPORT], f"{where}.{IMPORT}")
        if part["name"] in self._entries:
            return self[part["name"]].load()
        return import_factory(self[part["name"]].factory, f"{where}.name: {part['name']}")


def _built(factory: Callable[..., Any], arguments: Mapping[str, Any], called: str) -> Source:
    """Call somebody else's factory and check what comes back."""
    from kd.data.source import Source

    try:
        found = factory(**arguments)
    except KDError:
        raise
    except Exception as error:  # whatever it raises, its user gets one line; Python shows the cause
        raise DataError(f"{called} failed: {placed(error)}") from error
    if not isinstance(found, Source):
        raise ConfigError(f"{called} returned {type(found).__name__}; it must return a kd.data.Source")
    return found.validate()


def _called(part: Mapping[str, Any]) -> str:
    return str(part[IMPORT] if IMPORT in part else part["name"])


def _entry(point: EntryPoint) -> Entry:
    package = point.dist
    stated = package is not None and "Summary" in package.metadata
    sentence = package.metadata["Summary"] if package is not None and stated else "a source of an installed package"
    origin = f"package {package.name} {package.version}" if package else "an installed package"
    return Entry(point.value.partition("[")[0].strip(), sentence, origin)
