"""A grid over the fields of a config: every combination of its values is a study of its own, a variant.

The values of the axis `use` are fragments, named by their files: settings that differ in more than one field.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any

from kd.ablate.claims import Claim, claim_faults, read_claims
from kd.config import Study
from kd.errors import ConfigError
from kd.parsing import parse
from kd.registry import suggest
from kd.tree import fragment, load_tree, merge

REPLICAS = 128
"""Trainings of one stack at most, where a config does not say: more cost hardly less each, and take more memory."""
FRAGMENTS = "use"
"""The axis whose values are files."""
SAME = ("seeds", "first_seed", *(item.name for item in fields(Study) if not item.metadata.get("decides", True)))
"""Fields that all variants have alike."""


@dataclass
class Variant:
    """One point of the grid.

    Attributes:
        values: axis -> value.
        study: the config with these values.
    """

    values: dict[str, Any]
    study: Study

    @property
    def name(self) -> str:
        """What people call it: `mask.rate=0.3 edges.*.weight=2`."""
        return " ".join(f"{axis}={shown(value)}" for axis, value in self.values.items()) or "the config"


@dataclass
class Grid:
    """A config with a grid.

    Attributes:
        variants: in the order of the axes, the last one fastest.
        axes: dotted field, `*` for every name -> its values; `use` -> names of fragments, those of their files.
        replicas: trainings of one stack at most; 1 trains each alone.
        source: the file, for errors.
        claims: sentences of a paper, put to the whole grid.
    """

    variants: list[Variant]
    axes: dict[str, list[Any]]
    replicas: int
    source: str = ""
    claims: dict[str, Claim] = field(default_factory=dict)

    @property
    def first(self) -> Study:
        """The first variant's study: what all share is there."""
        return self.variants[0].study


def shown(value: Any) -> str:
    """Return a value of an axis as one word.

    >>> shown(0.3), shown({"name": "mcar", "rate": 0.3})
    ('0.3', '{"name": "mcar", "rate": 0.3}')
    """
    return value if isinstance(value, str) else json.dumps(value)


def load_grid(path: str | Path, overrides: Sequence[str] = ()) -> Grid:
    """Read a config file with a grid, as `kd.parsing.load` reads one without.

    Args:
        path: YAML file; without `grid` it is a grid of one variant.
        overrides: dotted `key=value`, also of `grid.FIELD=[...]` and `replicas`.

    Raises:
        ConfigError: every fault at once, each naming its field and the fix.
    """
    return make_grid(load_tree(path, overrides), source=str(path))


def make_grid(tree: Mapping[str, Any], source: str = "") -> Grid:
    """Return the grid of a config read as plain data.

    Raises:
        ConfigError: an axis names no field or has no values, or a variant's study has a fault.
    """
    tree = dict(tree)
    replicas = tree.pop("replicas", REPLICAS)
    axes = dict(_axes(tree.pop("grid", None) or {}, "grid"))
    claims, unread = read_claims(tree.pop("claims", None) or {})
    found = [*unread, *(fault for axis, values in axes.items() for fault in _axis_faults(axis, values, tree))]
    fragments: dict[str, dict[str, Any]] = {}
    if FRAGMENTS in axes and not found:
        fragments, found = _fragments(axes[FRAGMENTS], source)
        axes[FRAGMENTS] = list(fragments)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 1:
        found.append(f"replicas: expected a whole number of at least 1, got {replicas!r}")
    if found:
        raise ConfigError(found, source)
    variants, faults = [], []
    for chosen in product(*axes.values()):
        values = dict(zip(axes, chosen, strict=True))
        try:
            variants.append(Variant(values, parse(_with(tree, values, fragments))))
        except ConfigError as error:
            faults += [fault for fault in error.faults if fault not in faults]
    faults = faults or claim_faults(claims, axes, [variant.study for variant in variants])
    if faults:
        raise ConfigError(faults, source)
    return Grid(variants, axes, replicas, source, claims)


def _axes(tree: Any, where: str) -> list[tuple[str, Any]]:
    """Return dotted field -> values of a mapping that may be nested, as the command line nests it."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{where}: expected a mapping, field -> list of values, got {tree!r}")
    found = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found += [(f"{key}.{rest}", values) for rest, values in _axes(value, f"{where}.{key}")]
        else:
            found.append((str(key), value))
    return found


def _axis_faults(axis: str, values: Any, tree: Mapping[str, Any]) -> list[str]:
    top = axis.split(".")[0]
    known = [item.name for item in fields(Study)] + ["defaults", FRAGMENTS]
    if top in SAME:
        return [f"grid.{axis}: one for all variants; set {top} itself"]
    if top not in known:
        return [f"grid.{axis}: unknown key; {suggest(top, known)}"]
    if not isinstance(values, list) or not values:
        return [f"grid.{axis}: expected a list of values, got {values!r}"]
    if len({json.dumps(value, sort_keys=True) for value in values}) != len(values):
        return [f"grid.{axis}: names a value twice"]
    if not _paths(tree, axis.split(".")):
        return [f"grid.{axis}: there is nothing for '*' to stand for; name the field"]
    return []


def _fragments(files: Sequence[Any], source: str) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the name of each fragment -> what it sets, and one sentence for each that no variant can use."""
    if not all(isinstance(file, str) for file in files):
        return {}, [f"grid.{FRAGMENTS}: expected names of files, got {list(files)!r}"]
    found = {Path(file).stem: fragment(Path(source), file) for file in files}
    faults = [
        f"grid.{FRAGMENTS}: {name} sets {key}, which all variants have alike; set {key} in the config itself"
        for name, tree in found.items()
        for key in ("grid", "claims", "replicas", "quick", *SAME)
        if key in tree
    ]
    if len(found) < len(files):
        faults.append(f"grid.{FRAGMENTS}: two files of one name; tables tell settings by it, so rename one")
    return found, faults


def _paths(tree: Any, keys: Sequence[str]) -> list[list[str]]:
    """Return the paths that a dotted field with `*` stands for."""
    if not keys:
        return [[]]
    below = tree if isinstance(tree, Mapping) else {}
    names = list(below) if keys[0] == "*" else [keys[0]]
    return [[name, *rest] for name in names for rest in _paths(below.get(name), keys[1:])]


def _with(
    tree: Mapping[str, Any], values: Mapping[str, Any], fragments: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a config with some fields set, merged as the command line would; fragments first."""
    single = dict(values)
    below = merge(tree, fragments[single.pop(FRAGMENTS)]) if FRAGMENTS in single else tree
    found = copy.deepcopy(dict(below))
    for axis, value in single.items():
        for path in _paths(below, axis.split(".")):
            above: Any = copy.deepcopy(value)
            for key in reversed(path):
                above = {key: above}
            found = merge(found, above)
    return found
