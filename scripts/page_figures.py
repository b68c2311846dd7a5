"""Pictures of pages, as SVG files: curves and heat maps of committed records, and the graph of a method.

A marker names a picture. `figure:RECORD/AXIS/complete|mean/NODE+NODE` is a line per method along an axis of an
ablation; `ONE~OTHER` in a method's place is the first minus the second, and `AXIS=NAME` shows the axis under another
name, its values by what they do not share. `heat:RECORD/AXIS&AXIS/complete|mean/NODE` is a method's scores over two
axes, `heat:RECORD/subsets/NODE+NODE` methods by subsets of modalities, and `graph:CONFIG/NODE` what a node is made
from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kd.errors import RecordError
from kd.record import digest, file_digest

if TYPE_CHECKING:
    import pandas as pd

FIGURES = Path("docs") / "figures"
STAMP = re.compile(r"<!-- made from ([0-9a-f]{64}) -->")
"""Which marker and records a file shows; its bytes depend on the version of the library that drew it as well."""
KINDS = ("figure", "heat", "graph")
MINUS = "~"


def picture(marker: str, root: Path) -> Picture:
    """Return the picture that a marker names, in a checkout.

    Raises:
        RecordError: the marker is spelt otherwise, or what it shows is not there.
    """
    kind, _, name = marker.partition(":")
    if kind == "graph":
        return Graph(name, root)
    if kind == "figure":
        return Curve(name, root)
    return Subsets(name, root) if "/subsets/" in name else Heat(name, root)


class Picture:
    """A file below docs/figures that a marker names.

    Args:
        name: what stands in the marker after its kind.
        root: the checkout.

    Raises:
        RecordError: the marker is spelt otherwise, or what it shows is not there.
    """

    spelling = ""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root
        self.read(name.split("/"))
        self.path = FIGURES / f"{self.stem}.svg"
        self.file = root / self.path

    def read(self, parts: Sequence[str]) -> None:
        """Take the marker's parts."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """What it shows, in words."""
        raise NotImplementedError

    @property
    def stem(self) -> str:
        """Name of its file."""
        raise NotImplementedError

    @cached_property
    def stamp(self) -> str:
        """Digest of what it shows."""
        raise NotImplementedError

    def svg(self) -> str:
        """Draw it."""
        raise NotImplementedError

    @property
    def stale(self) -> bool:
        """Whether the file is missing or shows something else."""
        found = STAMP.search(self.file.read_text()) if self.file.is_file() else None
        return found is None or found[1] != self.stamp

    def markdown(self, folder: Path) -> str:
        """Return the picture as a page in a folder of the checkout shows it."""
        return f"![{self.title}]({Path(os.path.relpath(self.file, folder)).as_posix()})"

    def draw(self) -> str:
        """Return the file's text."""
        head, drawn = f"<!-- made from {self.stamp} -->\n", self.svg()
        namespace = "" if 'xmlns="' in drawn.split(">", 1)[0] else 'xmlns="http://www.w3.org/2000/svg" '
        return head + drawn.replace("<svg ", f"<svg {namespace}", 1).rstrip() + "\n"

    def refuse(self, why: str) -> RecordError:
        """Return the error that names the marker."""
        return RecordError(f"kd:{self.name}: {why}")


class Recorded(Picture):
    """One of the tables of an ablation's record."""

    table = "scores"

    def read(self, parts: Sequence[str]) -> None:
        self.record = parts[0]
        self.source = committed(self.name, self.root, f"{self.record}_{self.table}.parquet")

    @cached_property
    def stamp(self) -> str:
        return digest([self.name, file_digest(self.source)])

    def frame(self, needs: Sequence[str], nodes: Sequence[str]) -> pd.DataFrame:
        """Return the table, with these columns and methods."""
        return table_of(self.name, self.source, needs, nodes)


class Curve(Recorded):
    """Scores of methods, or differences of two, along an axis, each with its 95% t interval over seeds."""

    def read(self, parts: Sequence[str]) -> None:
        if len(parts) != 4 or parts[2] not in ("complete", "mean"):
            raise self.refuse("expected RECORD/AXIS/complete|mean/NODE+NODE")
        super().read(parts)
        self.axis, _, named = parts[1].partition("=")
        self.label, self.what, self.nodes = named.replace("_", " "), parts[2], parts[3].split("+")

    @property
    def gains(self) -> str:
        """The method whose differences to others are drawn; empty where lines are scores."""
        methods = {node.partition(MINUS)[0] for node in self.nodes}
        return methods.pop() if all(MINUS in node for node in self.nodes) and len(methods) == 1 else ""

    @property
    def title(self) -> str:
        from kd.report.ablation import WHAT

        return f"{f'Points that {self.gains} gains over' if self.gains else 'Accuracy'}, {WHAT[self.what]}"

    @property
    def stem(self) -> str:
        kind = "gain" if self.gains else self.what
        return f"{self.record}_{self.axis.replace('*', 'every')}_{kind}"

    def svg(self) -> str:
        from kd.report.ablation import points_along
        from kd.report.axis import axis_chart

        frame = self.frame([self.axis], self.nodes)
        frame = frame[frame["what"] == self.what]
        named = {node: node.partition(MINUS)[2] if self.gains else node.replace(MINUS, " − ") for node in self.nodes}
        points = {named[node]: points_along(difference(frame, node), self.axis) for node in self.nodes}
        if self.label:
            points = renamed(points)
        return axis_chart(points, list(points), self.label or self.axis, self.title, 100.0, self.file.stem)


class Heat(Recorded):
    """A method's scores over two axes."""

    def read(self, parts: Sequence[str]) -> None:
        if len(parts) != 4 or len(parts[1].split("&")) != 2 or parts[2] not in ("complete", "mean"):
            raise self.refuse("expected RECORD/AXIS&AXIS/complete|mean/NODE or RECORD/subsets/NODE+NODE")
        super().read(parts)
        pairs = [axis.partition("=") for axis in parts[1].split("&")]
        self.axes, self.labels = [axis for axis, _, _ in pairs], [name or axis for axis, _, name in pairs]
        self.what, self.node = parts[2], parts[3]

    @property
    def title(self) -> str:
        from kd.report.ablation import WHAT

        return f"Accuracy of {self.node}, {WHAT[self.what]}"

    @property
    def stem(self) -> str:
        return f"{self.record}_{self.node}_heat"

    def svg(self) -> str:
        from kd.report.heatmap import heat_picture, over_seeds

        frame = self.frame(self.axes, [self.node])
        own = frame[(frame["what"] == self.what) & (frame["node"] == self.node)]
        table = over_seeds(own, self.axes).pivot(index=self.axes[0], columns=self.axes[1], values="mean")
        return heat_picture(table, self.labels, self.title, 100.0, self.file.stem)


class Subsets(Recorded):
    """Methods by subsets of modalities, the mean over seeds and settings."""

    table = "subsets"
    title = "Accuracy on every subset of modalities"

    def read(self, parts: Sequence[str]) -> None:
        if len(parts) != 3:
            raise self.refuse("expected RECORD/subsets/NODE+NODE")
        super().read(parts)
        self.nodes = parts[2].split("+")

    @property
    def stem(self) -> str:
        return f"{self.record}_subsets"

    def svg(self) -> str:
        from kd.report.heatmap import heat_picture
        from kd.report.tables import subset_order

        frame = self.frame(["subset"], self.nodes)
        table = frame.pivot(index="node", columns="subset", values="mean")
        table = table.loc[self.nodes, subset_order(table.columns)]
        return heat_picture(table, ["", "modalities present"], self.title, 100.0, self.file.stem)


class Graph(Picture):
    """The part of a config's graph that a node is made from."""

    def read(self, parts: Sequence[str]) -> None:
        self.config, self.node = "/".join(parts[:-1]), parts[-1]
        if not (self.root / self.config).is_file():
            raise self.refuse("expected CONFIG/NODE, the config a file of this checkout")

    @property
    def title(self) -> str:
        return f"What {self.node} is made from"

    @property
    def stem(self) -> str:
        return f"graph_{Path(self.config).stem}_{self.node}"

    @cached_property
    def stamp(self) -> str:
        return digest([self.name, self.svg()])

    def svg(self) -> str:
        from kd.ablate.grid import load_grid
        from kd.distill.graph import made_from
        from kd.report.diagram import graph_picture
        from kd.study.run import describe_graph

        study = load_grid(self.root / self.config).first
        if self.node not in study.nodes:
            raise self.refuse(f"{self.config} has no node {self.node!r}")
        found, left = set[str](), [self.node]
        while left:
            found.add(name := left.pop())
            left += made_from(study, name) - found
        graph = describe_graph(study)
        own = {
            "nodes": {name: node for name, node in graph["nodes"].items() if name in found},
            "edges": {name: edge for name, edge in graph["edges"].items() if edge["student"] in found},
        }
        return graph_picture(own).replace('font-family="inherit"', 'font-family="sans-serif"')


def committed(marker: str, root: Path, name: str, fix: str = "keep the sweep's records") -> Path:
    """Return a file of the committed records.

    Raises:
        RecordError: it is not there; the marker is named.
    """
    path = root / "docs" / "records" / name
    if not path.is_file():
        raise RecordError(f"kd:{marker}: docs/records/{name} is missing; {fix}")
    return path


def table_of(marker: str, path: Path, columns: Sequence[str], nodes: Sequence[str]) -> pd.DataFrame:
    """Return a committed table that has these columns and methods, `ONE~OTHER` being two of them.

    A marker is one word, and so are the methods in it: the Bayes rule is `Bayes_rule`.

    Raises:
        RecordError: it lacks one; the marker is named.
    """
    import pandas as pd

    found = pd.read_parquet(path)
    found["node"] = found["node"].str.replace(" ", "_")
    missing = [name for name in columns if name not in found]
    missing += [one for name in nodes for one in name.split(MINUS) if one not in set(found["node"])]
    if missing:
        raise RecordError(f"kd:{marker}: {path.name} has no {missing[0]!r}")
    return found


def difference(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a method's scores, or under `ONE~OTHER` the differences of two of the same setting and seed."""
    method, _, baseline = name.partition(MINUS)
    own = frame[frame["node"] == method].drop(columns="node")
    if not baseline:
        return own
    keys = [column for column in own if column != "value"]
    both = own.merge(frame[frame["node"] == baseline], on=keys, suffixes=("", "_other"))
    return both.assign(value=both["value"] - both["value_other"])


def renamed(
    points: Mapping[str, Sequence[tuple[object, float, float, float]]],
) -> dict[str, list[tuple[object, float, float, float]]]:
    """Return points whose values are the numbers that their names end in; as they are where a name ends in none.

    >>> renamed({"a": [("complete_20", 1.0, 1.0, 1.0), ("complete_200", 1.0, 1.0, 1.0)]})
    {'a': [(20.0, 1.0, 1.0, 1.0), (200.0, 1.0, 1.0, 1.0)]}
    """
    ends = {point[0]: re.search(r"[0-9.]+$", str(point[0])) for own in points.values() for point in own}
    if not all(ends.values()):
        return {node: list(own) for node, own in points.items()}
    number = {value: float(found[0]) for value, found in ends.items() if found}
    return {node: [(number[value], *rest) for value, *rest in own] for node, own in points.items()}
