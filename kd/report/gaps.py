"""Which rows have which modalities: patterns with their counts, in a terminal and as a figure.

Form: Lex et al., UpSet, IEEE TVCG 2014, doi:10.1109/TVCG.2014.2346248 (sets as rows of dots, a bar per intersection).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from kd.errors import ConfigError, StorageError

MOST = 20
"""Patterns shown one by one, the most frequent first."""
BAR = 40
"""Characters of the longest bar."""
FORMATS = (".png", ".svg", ".pdf")


def patterns(observed: Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return `{modalities, rows}` for every pattern that occurs, the most frequent first.

    Args:
        observed: bool [N, M].
        names: M modalities.

    >>> import torch
    >>> patterns(torch.tensor([[True, True], [True, False], [True, True]]), ["lab", "scan"])
    [{'modalities': ['lab', 'scan'], 'rows': 2}, {'modalities': ['lab'], 'rows': 1}]
    """
    # Eight modalities to a byte, counted by hashing: many times faster than sorting rows.
    counts = pd.DataFrame(np.packbits(observed.numpy(), axis=1)).value_counts(sort=False)
    kinds = np.unpackbits(np.array(counts.index.to_list(), dtype=np.uint8), axis=1, count=len(names)).astype(bool)
    found = [
        {"modalities": [name for name, there in zip(names, kind, strict=True) if there], "rows": int(rows)}
        for kind, rows in zip(kinds.tolist(), counts, strict=True)
    ]
    return sorted(found, key=lambda pattern: (-pattern["rows"], -len(pattern["modalities"]), pattern["modalities"]))


def drawn(found: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Return the lines of the picture for a terminal: a dot per modality, a count and a bar per pattern.

    >>> print(*drawn([{"modalities": ["lab"], "rows": 3}], ["lab", "scan"]), sep="|")
    lab  scan    rows| ●    ○         3  ████████████████████████████████████████
    """
    shown, longest = found[:MOST], max(pattern["rows"] for pattern in found)
    widths = [max(3, len(name)) for name in names]
    lines = ["  ".join(name.ljust(width) for name, width in zip(names, widths, strict=True)) + f"{'rows':>8}"]
    for pattern in shown:
        dots = ["●" if name in pattern["modalities"] else "○" for name in names]
        row = "  ".join(f" {dot}".ljust(width) for dot, width in zip(dots, widths, strict=True))
        lines.append(f"{row}{pattern['rows']:>8}  {bar(pattern['rows'], longest)}")
    rest = found[MOST:]
    if rest:
        lines.append(f"{len(rest)} more patterns, {sum(pattern['rows'] for pattern in rest)} rows")
    return lines


def bar(count: int, longest: int) -> str:
    """Return a bar as long as a count is beside the longest; what is not 0 is never nothing."""
    return "█" * max(round(BAR * count / longest), 1 if count else 0)


def draw(found: Sequence[Mapping[str, Any]], names: Sequence[str], path: Path, title: str = "") -> Path:
    """Draw the patterns as a figure: bars above, dots below, each modality's own rows to the left.

    Args:
        found: what `patterns` gave.
        names: the modalities.
        path: a name that ends in .png, .svg or .pdf.
        title: written above.

    Raises:
        ConfigError: another ending.
        StorageError: it cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"picture={path}: expected a name that ends in {', '.join(FORMATS)}")
    with _figure(found, names, title) as figure:
        try:
            figure.savefig(path, dpi=160)
        except OSError as error:
            raise StorageError(
                f"{path}: cannot write ({error.strerror}); name a folder that you may write to"
            ) from None
    return path


def picture(found: Sequence[Mapping[str, Any]], names: Sequence[str], title: str = "") -> str:
    """Return the same figure as an SVG element for a page."""
    from kd.report.figures import svg

    with _figure(found, names, title) as figure:
        return svg(figure, "gaps", f"Which rows have which modalities: {title}")


@contextmanager
def _figure(found: Sequence[Mapping[str, Any]], names: Sequence[str], title: str) -> Iterator[Any]:
    from kd.report.figures import drawing

    shown, left = found[:MOST], 1.2 + 0.09 * max(map(len, names))
    width, height = max(left + 0.8 + 0.42 * len(shown), 4.0), 2.2 + 0.3 * len(names)
    with drawing("gaps", width, height) as figure:
        _bars(figure, shown, left, 0.3 * len(names) + 0.25)
        _dots(figure, shown, found, names, left)
        more = f", {len(found) - MOST} rarer patterns not drawn" if len(found) > MOST else ""
        figure.text(0.1 / width, 1 - 0.2 / height, f"{title}{more}", va="center")
        yield figure


def _place(figure: Any, left: float, bottom: float, right: float, top: float) -> Any:
    """Return axes placed in inches from the lower left corner; `right` and `top` from the upper right one."""
    width, height = figure.get_size_inches()
    return figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    )


def _bars(figure: Any, shown: Sequence[Mapping[str, Any]], left: float, bottom: float) -> None:
    from kd.report.figures import BLUE

    axes = _place(figure, left, bottom, 0.15, 0.4)
    counts = [pattern["rows"] for pattern in shown]
    axes.bar(range(len(counts)), counts, color=BLUE, width=0.62)
    for place, count in enumerate(counts):
        axes.text(place, count, f"{count:,}", ha="center", va="bottom", fontsize=8)
    axes.set(xlim=(-0.6, len(counts) - 0.4), ylim=(0, 1.12 * max(counts)), ylabel="rows")
    axes.set_xticks([])
    axes.locator_params(axis="y", nbins=4, integer=True)


def _dots(
    figure: Any,
    shown: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    left: float,
) -> None:
    from kd.report.figures import INK, PALE

    above = figure.get_figheight() - 0.15 - 0.3 * len(names)
    axes = _place(figure, left, 0.15, 0.15, above)
    for x, pattern in enumerate(shown):
        there = [y for y, name in enumerate(names) if name in pattern["modalities"]]
        axes.plot([x, x], [min(there, default=0), max(there, default=0)], color=INK, linewidth=1.6, zorder=1)
        for y in range(len(names)):
            axes.plot(x, y, "o", color=INK if y in there else PALE, markersize=7, zorder=2)
    rows = [sum(pattern["rows"] for pattern in found if name in pattern["modalities"]) for name in names]
    axes.set_yticks(range(len(names)), [f"{name}  {count:,}" for name, count in zip(names, rows, strict=True)])
    axes.set(xlim=(-0.6, len(shown) - 0.4), ylim=(len(names) - 0.5, -0.5))
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
