"""What `*` stands for in a config: every modality named under `data.modalities`, so that one fragment fits any data.

In `nodes`, `baselines`, `edges`, `ensembles`, `contrasts` and `contests`

- an entry whose key holds `*` is a template: one entry per modality, `*` replaced by its name in every key and string;
- elsewhere an item of a list that holds `*` becomes one per modality, and so does an entry of a mapping whose key does.

Plain trees in, plain trees out: no schema is known here and no data are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kd.errors import ConfigError
from kd.tree import merge

STAR = "*"
ENTRIES = {
    "nodes": ("sees",),
    "baselines": ("sees",),
    "edges": ("teacher", "student"),
    "ensembles": ("members",),
    "contrasts": ("method", "baseline"),
    "contests": ("method", "against"),
}
"""Section -> what every entry of it needs: one that has all of it stands by itself, others change a template's."""
SETTINGS = ("defaults", "family", "simple")
"""Further places where `*` stands for the modalities; they hold no entries by name."""


def written_out(tree: Mapping[str, Any], source: str = "") -> dict[str, Any]:
    """Return a config's tree with its templates written out; one without `*` stays as it is.

    What is written for a name lies over what the template gives it, so that `nodes.fou.steps=100` changes one node.

    Raises:
        ConfigError: `data.modalities` names none, or a template's entry has the name of another one.

    >>> tree = {"data": {"modalities": ["a", "b"]}, "nodes": {"*": {"sees": ["*"]}, "both": {"sees": ["*"]}}}
    >>> written_out(tree)["nodes"]
    {'a': {'sees': ['a']}, 'b': {'sees': ['b']}, 'both': {'sees': ['a', 'b']}}
    """
    own = [section for section in (*ENTRIES, *SETTINGS) if uses_star(tree.get(section))]
    if not own:
        return dict(tree)
    names = modality_names(tree.get("data"))
    if not names:
        raise ConfigError("'*' stands for the modalities named under data.modalities; name them there", source)
    found, faults = dict(tree), list[str]()
    for section in own:
        if section in ENTRIES and isinstance(tree[section], Mapping):
            found[section] = _entries(section, tree[section], names, faults)
        else:
            found[section] = spread(tree[section], names)
    if faults:
        raise ConfigError(faults, source)
    return found


def modality_names(data: Any) -> list[str]:
    """Return the modalities that a data part names: a list, a mapping's keys, or a number of synthetic ones.

    >>> modality_names({"name": "synthetic", "modalities": 2}), modality_names({"modalities": {"scan": {}, "lab": {}}})
    (['m0', 'm1'], ['scan', 'lab'])
    """
    named = data.get("modalities") if isinstance(data, Mapping) else None
    if isinstance(named, int) and not isinstance(named, bool) and data.get("name") == "synthetic":
        return [f"m{place}" for place in range(named)]
    return [str(name) for name in named] if isinstance(named, Sequence | Mapping) and not isinstance(named, str) else []


def uses_star(tree: Any) -> bool:
    """Say whether a key of a mapping or an item of a list, at any depth, holds `*`.

    >>> uses_star({"both": {"sees": ["*"]}}), uses_star({"both": {"sees": ["fou"], "note": "*"}})
    (True, False)
    """
    if isinstance(tree, Mapping):
        return any(STAR in str(key) or uses_star(value) for key, value in tree.items())
    return isinstance(tree, list) and any(STAR in item if isinstance(item, str) else uses_star(item) for item in tree)


def spread(tree: Any, names: Sequence[str]) -> Any:
    """Return a tree whose items and entries with `*` are one per name.

    >>> spread({"init": {"*": "*"}, "members": ["linear_*", "late"]}, ["a", "b"])
    {'init': {'a': 'a', 'b': 'b'}, 'members': ['linear_a', 'linear_b', 'late']}
    """
    if isinstance(tree, Mapping):
        below = {own: named(value, name) for key, value in tree.items() for own, name in _made(key, names)}
        above = {key: spread(value, names) for key, value in tree.items() if not _made(key, names)}
        order = [own for key in tree for own in ([made for made, _ in _made(key, names)] or [key])]
        return {key: merge(below.get(key, {}), above[key]) if key in above else below[key] for key in order}
    if isinstance(tree, list):
        return [one for item in tree for one in _items(item, names)]
    return tree


def _made(key: Any, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the keys that a template's key makes, each with the name in it; none for any other key."""
    return [(key.replace(STAR, name), name) for name in names] if isinstance(key, str) and STAR in key else []


def _items(item: Any, names: Sequence[str]) -> list[Any]:
    if isinstance(item, str):
        return [item.replace(STAR, name) for name in names] if STAR in item else [item]
    return [spread(item, names)]


def named(tree: Any, name: str) -> Any:
    """Return a tree with `*` replaced by a name in every key and string.

    >>> named({"sees": ["*"], "init": {"*": "wide_*"}}, "fou")
    {'sees': ['fou'], 'init': {'fou': 'wide_fou'}}
    """
    if isinstance(tree, Mapping):
        return {named(key, name): named(value, name) for key, value in tree.items()}
    if isinstance(tree, list):
        return [named(item, name) for item in tree]
    return tree.replace(STAR, name) if isinstance(tree, str) else tree


def _entries(section: str, entries: Mapping[str, Any], names: Sequence[str], faults: list[str]) -> dict[str, Any]:
    """Return a section's entries, each template's in its place; add what is wrong with them to `faults`."""
    origin: dict[str, str] = {}
    for key in entries:
        for made, name in _made(key, names):
            if made in origin:
                faults.append(f"{section}.{key}: makes {made!r}, and so does {section}.{origin[made]}; rename one")
            elif made in entries and _stands_alone(section, entries[made], named(entries[key], name)):
                faults.append(f"{section}.{key}: makes {made!r}, which is another entry's name; rename one")
            origin[made] = str(key)
    return dict(spread(entries, names))


def _stands_alone(section: str, entry: Any, made: Any) -> bool:
    """Say whether an entry is one of its own, and no change of what a template makes."""
    needs = ENTRIES[section]
    if not isinstance(entry, Mapping) or not isinstance(made, Mapping):
        return False
    return all(key in entry for key in needs) and any(entry[key] != made.get(key) for key in needs)
