"""Several mechanisms at once: what one of them hides is hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kd.data import MECHANISMS
from kd.data.mechanisms.at_random import Shown
from kd.data.source import Source
from kd.data.splits import Split
from kd.seeding import derive


def joint(
    source: Source, split: Split, seed: int, *, parts: Mapping[str, Mapping[str, Any]], allow_empty: bool = False
) -> Shown:
    """Hide what any of several mechanisms hides, each drawn by itself.

    Args:
        parts: a name of your own -> mechanism, `{scans: {name: mcar, rate: 0.3}, labels: {name: unlabelled, labels:
            100}}`; the name decides the draw.
        allow_empty: rows may lose everything between the mechanisms.

    Raises:
        MaskError: what one of them refuses.
    """
    found = Shown(source.observed.new_ones(source.observed.shape))
    for key in sorted(parts):
        part = {k: v for k, v in parts[key].items() if k != "name"}
        drawn = MECHANISMS[parts[key]["name"]].load()(source, split, derive(seed, "mask", "joint", key), **part)
        found = _both(found, drawn if isinstance(drawn, Shown) else Shown(drawn))
    return found


def faults(arguments: Mapping[str, Any], where: str) -> list[str]:
    """Return every fault of the mechanisms inside, each by its name."""
    parts = arguments.get("parts")
    if not isinstance(parts, Mapping) or not parts:
        return [f"{where}.parts: expected mechanisms by a name of your own, {{scans: {{name: mcar, rate: 0.3}}}}"]
    return [fault for key, part in parts.items() for fault in MECHANISMS.faults(part, f"{where}.parts.{key}")]


def _both(one: Shown, two: Shown) -> Shown:
    cells = {m: _and(one.cells.get(m), two.cells.get(m)) for m in (*one.cells, *two.cells)}
    return Shown(one.keep & two.keep, _and(one.labelled, two.labelled), cells)  # type: ignore[arg-type]


def _and(one: Tensor | None, two: Tensor | None) -> Tensor | None:
    if one is None or two is None:
        return two if one is None else one
    return one & two
