"""Plain trees into the configuration's dataclasses: every key and type is checked, and all faults are told at once.

`kd.tree` reads files and merges them, `kd.templates` writes out what `*` stands for; both know nothing of the schema.
"""

from __future__ import annotations

import functools
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from kd.config import EDGE_PARTS, NODE_PARTS, Study, family_contrasts
from kd.errors import ConfigError
from kd.registry import fits, spell, suggest
from kd.templates import written_out
from kd.tree import load_tree, merge

T = TypeVar("T")


def load(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Read a config file, merge what it uses and the overrides, check the schema, and return the study.

    Args:
        path: YAML file.
        overrides: dotted `key=value`, values as YAML.

    Raises:
        ConfigError: every fault at once, each naming its field and the fix.
    """
    return parse(load_tree(path, overrides), source=str(path))


def parse(tree: Mapping[str, Any], source: str = "") -> Study:
    """Turn a plain mapping into a study: templates are written out, `defaults` fills in for every node."""
    tree = written_out(tree, source)
    for key, what in {"grid": "many studies at once", "claims": "put to a grid"}.items():
        if key in tree:
            raise ConfigError(f"{key}: {what}; run them with `kd ablate`", source)
    defaults = tree.pop("defaults", None) or {}
    if not isinstance(defaults, Mapping):
        raise ConfigError(f"defaults: expected a mapping of node fields, got {defaults!r}", source)
    tree = _filled(_filled(tree, "nodes", merge(NODE_PARTS, defaults)), "edges", EDGE_PARTS)
    found = schema_faults(Study, tree, "")
    if found:
        raise ConfigError(found, source)
    return with_family(_build(Study, tree), source)


def with_family(study: Study, source: str = "") -> Study:
    """Return a study whose `family` is spelt out into its contrasts, which come after those that are declared.

    A comparison that is declared as well keeps the name it has there.

    Raises:
        ConfigError: a contrast of that name is another comparison.
    """
    declared = [asdict(contrast) for contrast in study.contrasts.values()]
    spelt = {key: one for key, one in family_contrasts(study).items() if asdict(one) not in declared}
    taken = [key for key in spelt if key in study.contrasts]
    if taken:
        raise ConfigError(
            [f"contrasts.{key}: family has another comparison of this name; rename it" for key in taken], source
        )
    return replace(study, contrasts={**study.contrasts, **spelt})


def _filled(tree: dict[str, Any], key: str, below: Mapping[str, Any]) -> dict[str, Any]:
    items = tree.get(key)
    if not isinstance(items, Mapping):
        return tree
    return tree | {key: {k: merge(below, v) if isinstance(v, Mapping) else v for k, v in items.items()}}


@functools.cache  # a grid asks for the same few schemas thousands of times
def _hints(schema: type) -> Mapping[str, Any]:
    return typing.get_type_hints(schema)


def schema_faults(schema: type, tree: Any, where: str) -> list[str]:
    """Return one sentence for every unknown key, missing key and ill-typed value below `where`."""
    if not isinstance(tree, Mapping):
        return [f"{where or 'config'}: expected a mapping, got {tree!r}"]
    hints = _hints(schema)
    prefix = f"{where}." if where else ""
    found = [f"{prefix}{key}: unknown key; {suggest(str(key), hints)}" for key in tree if key not in hints]
    for item in fields(schema):
        if item.name in tree:
            found += _value_faults(hints[item.name], tree[item.name], prefix + item.name)
        elif item.default is MISSING and item.default_factory is MISSING:
            found.append(f"{prefix}{item.name}: required key is missing")
    return found


def _value_faults(hint: Any, value: Any, where: str) -> list[str]:
    nested, by_name = _schemas(hint)
    if nested is not None and value is not None:
        return schema_faults(nested, value, where)
    if by_name is not None:
        if not isinstance(value, Mapping):
            return [f"{where}: expected a mapping by name, got {value!r}"]
        named = [fault for key in value if (fault := name_fault(key, where))]
        if named:
            return named
        inner = by_name
        return [fault for key, item in value.items() for fault in schema_faults(inner, item, f"{where}.{key}")]
    return [] if fits(value, hint) else [f"{where}: expected {spell(hint)}, got {value!r}"]


def name_fault(name: Any, where: str) -> str | None:
    """Return a sentence when a key cannot be a name: names become file names and table rows."""
    if isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        return None
    return f"{where}: expected names of letters, digits, '_', '-' and '.', got {name!r}"


def _build(schema: type[T], tree: Mapping[str, Any]) -> T:
    hints = _hints(typing.cast(type, schema))
    return schema(**{key: _value(hints[key], value) for key, value in tree.items()})


def _value(hint: Any, value: Any) -> Any:
    nested, by_name = _schemas(hint)
    if nested is not None and value is not None:
        return _build(nested, value)
    if by_name is not None:
        return {key: _build(by_name, item) for key, item in value.items()}
    return value


def _schemas(hint: Any) -> tuple[type | None, type | None]:
    """Return the dataclass a value of this type is parsed as, or the one that a mapping's values are."""
    if is_dataclass(hint):
        return typing.cast(type, hint), None
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is dict:
        return None, typing.cast(type, arguments[1]) if is_dataclass(arguments[1]) else None
    nested = next((option for option in arguments if is_dataclass(option)), None)
    return typing.cast("type | None", nested), None
