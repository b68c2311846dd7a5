"""Curves of committed scores, as SVG files that pages show: a line per method along an axis of an ablation."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from kd.errors import RecordError
from kd.record import file_digest

FIGURES = Path("docs") / "figures"
STAMP = re.compile(r"<!-- records ([0-9a-f]{64}) -->")
"""Which records a file shows; its bytes depend on the version of the library that drew it as well."""


class Curve:
    """A figure that a marker names: `RECORD/AXIS/complete|mean/NODE+NODE`.

    Args:
        name: what stands after `figure:`.
        root: the checkout.

    Raises:
        RecordError: the marker is spelt otherwise, or its scores are not there.
    """

    def __init__(self, name: str, root: Path) -> None:
        parts = name.split("/")
        if len(parts) != 4 or parts[2] not in ("complete", "mean"):
            raise RecordError(f"kd:figure:{name}: expected RECORD/AXIS/complete|mean/NODE+NODE")
        self.record, self.axis, self.what, nodes = parts
        self.nodes: Sequence[str] = nodes.split("+")
        self.scores = root / "docs" / "records" / f"{self.record}_scores.parquet"
        if not self.scores.is_file():
            raise RecordError(f"kd:figure:{name}: docs/records/{self.scores.name} is missing; keep the sweep's records")
        self.path = FIGURES / f"{self.record}_{self.axis.replace('*', 'every')}_{self.what}.svg"
        self.file = root / self.path

    @property
    def title(self) -> str:
        """What it shows, in words."""
        from kd.report.ablation import WHAT

        return f"Accuracy, {WHAT[self.what]}, along {self.axis}"

    @property
    def stamp(self) -> str:
        """Digest of the scores that it shows."""
        return file_digest(self.scores)

    @property
    def stale(self) -> bool:
        """Whether the file is missing or shows other scores or methods."""
        if not self.file.is_file():
            return True
        text = self.file.read_text()
        found = STAMP.search(text)
        return found is None or found[1] != self.stamp or f"<!-- methods {'+'.join(self.nodes)} -->" not in text

    def markdown(self, folder: Path) -> str:
        """Return the picture as a page in a folder of the checkout shows it."""
        return f"![{self.title}]({Path(os.path.relpath(self.file, folder)).as_posix()})"

    def draw(self) -> str:
        """Return the file's text: a line per method, its mean with the 95% t interval over seeds.

        Raises:
            RecordError: a method or the axis is none of the record's.
        """
        import pandas as pd

        from kd.report.axis import axis_chart
        from kd.report.setting import value_name
        from kd.statistics.intervals import mean_interval

        frame = pd.read_parquet(self.scores)
        unknown = [name for name in self.nodes if name not in set(frame["node"])]
        if unknown or self.axis not in frame:
            raise RecordError(f"kd:figure: {self.scores.name} has no {(*unknown, self.axis)[0]!r}")
        own = frame[frame["what"] == self.what]
        points = {
            node: [
                (
                    value if isinstance(value, int | float) else value_name(value),
                    *mean_interval(cell.groupby("seed")["value"].mean().to_numpy(float)),
                )
                for value, cell in own[own["node"] == node].groupby(self.axis, sort=False)
            ]
            for node in self.nodes
        }
        drawn = axis_chart(points, self.nodes, self.axis, self.title, 100.0, self.file.stem)
        head = f"<!-- records {self.stamp} -->\n<!-- methods {'+'.join(self.nodes)} -->\n"
        return head + drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).rstrip() + "\n"
