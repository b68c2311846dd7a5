"""Write the tables in README.md, paper_repro.md and docs/ from the registries and the committed records.

A document marks a generated place with `<!-- kd:NAME -->` and `<!-- /kd:NAME -->`. NAME is `registry:objectives` (or
another registry), `record:demo_summary`, which reads `docs/records/demo_summary.parquet`, `bench:statistics/level`,
which reads the table `level` of `docs/records/bench_statistics.json`, `verdicts:ONE+OTHER`, which puts the verdicts
of two ablations beside each other, `claims:ONE+OTHER`, which gathers the claims put to several,
`cards:objectives/ONE+OTHER`, a card per method with its verdicts, a number within a sentence
(`scripts/page_values.py`), or a picture in docs/figures (`scripts/page_figures.py`). `--check` writes nothing and
fails where a document or a picture differs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
for _folder in (ROOT, ROOT / "scripts"):  # the script runs from a checkout, installed or not
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

import page_figures  # noqa: E402
import page_values  # noqa: E402

from kd.errors import KDError, RecordError  # noqa: E402
from kd.registry import Registry  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

REGISTRIES = {
    "objectives": "kd.objectives:OBJECTIVES",
    "weightings": "kd.objectives:TEACHER_WEIGHTS",
    "encoders": "kd.models:ENCODERS",
    "fusions": "kd.models:FUSIONS",
    "stand-ins": "kd.models:STAND_INS",
    "mechanisms": "kd.data:MECHANISMS",
    "sources": "kd.data:SOURCES",
    "augmentations": "kd.distill:AUGMENTATIONS",
    "loggers": "kd.distill:LOGGERS",
    "baselines": "kd.baselines:BASELINES",
    "combinations": "kd.evaluate:COMBINATIONS",
    "passes": "kd.compress:PASSES",
}
INLINE = "value:"
"""Markers that stand within a sentence."""
MARKER = re.compile(r"<!-- (/?)kd:([^ ]+) -->")


class MarkerError(KDError):
    """A marker that no generator knows, or that is not closed."""


def main(arguments: list[str] | None = None) -> int:
    """Rewrite or check every document; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a document is stale")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this one)")
    options = parser.parse_args(arguments)
    try:
        return run_documents(options.root, write=not options.check)
    except KDError as error:
        print(f"make_docs: {error}", file=sys.stderr)
        return 2


def run_documents(root: Path, *, write: bool) -> int:
    """Bring every document up to date, or name the first stale place of each; return the exit status."""
    stale = 0
    for path in documents(root):
        old = path.read_text()
        new, changed = rewrite(old, root, str(path.relative_to(root)))
        changed += pictures(new, root, write=write)
        if not changed:
            continue
        if write:
            from kd.record import write_atomic

            if new != old:
                write_atomic(path, new)
                print(path.relative_to(root))
        else:
            stale = 1
            print(f"make_docs: {path.relative_to(root)}: kd:{changed[0]} is stale; run `make docs`", file=sys.stderr)
    return stale


def pictures(text: str, root: Path, *, write: bool) -> list[str]:
    """Draw the pictures of a document that show other records than those there are; return their markers."""
    from kd.record import write_atomic

    found = []
    named = dict.fromkeys(
        m[2] for m in MARKER.finditer(text) if m[2].partition(":")[0] in page_figures.KINDS and not m[1]
    )
    for marker in named:
        shown = page_figures.picture(marker, root)
        if not shown.stale:
            continue
        found.append(marker)
        if write:
            shown.file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(shown.file, shown.draw())
            print(shown.path)
    return found


def documents(root: Path) -> list[Path]:
    """Return the documents that may hold generated tables."""
    paths = [root / "README.md", root / "paper_repro.md", *sorted((root / "docs").glob("*.md"))]
    return [path for path in paths if path.is_file()]


def rewrite(text: str, root: Path, name: str) -> tuple[str, list[str]]:
    """Return the text with every marked place filled, and the markers whose content changed.

    Raises:
        MarkerError: a marker is unknown, or not closed by its own end.
    """
    pieces, changed, position = [], [], 0
    fenced = [match.span() for match in re.finditer(r"^```.*?^```", text, flags=re.MULTILINE | re.DOTALL)]
    fenced += [match.span() for match in re.finditer(r"`[^`\n]+`", text)]
    found = [m for m in MARKER.finditer(text) if not any(start <= m.start() < end for start, end in fenced)]
    if len(found) % 2:
        raise MarkerError(f"{name}: kd:{found[-1][2]} is not closed; end it with <!-- /kd:{found[-1][2]} -->")
    for start, end in zip(found[::2], found[1::2], strict=True):
        if start[1] or not end[1] or start[2] != end[2]:
            raise MarkerError(f"{name}: kd:{start[2]} is not closed; end it with <!-- /kd:{start[2]} -->")
        try:
            content = generate(start[2], root, (root / name).parent)
            if not start[2].startswith(INLINE):
                content = f"\n{content}\n"
        except KDError as error:
            raise type(error)(f"{name}: {error}") from error
        if content != text[start.end() : end.start()]:
            changed.append(start[2])
        pieces += [text[position : start.end()], content]
        position = end.start()
    return "".join([*pieces, text[position:]]), changed


def generate(marker: str, root: Path, folder: Path) -> str:
    """Return the Markdown that a marker asks for, in a document of a folder.

    Raises:
        MarkerError: nothing generates it.
        RecordError: its records are not there.
    """
    place = Place(marker, root, folder)
    make, spellings = MAKERS.get(place.kind, (None, ()))
    if make is None or not any(place.fits(spelling) for spelling in spellings):
        known = (f"{kind}:{spelling}" for kind, (_, spellings) in MAKERS.items() for spelling in spellings)
        raise MarkerError(f"unknown marker kd:{marker}; known: {', '.join(known)}")
    return make(place)


class Place(NamedTuple):
    """A marked place of a document.

    Args:
        marker: what it asks for, `KIND:NAME`.
        root: the checkout.
        folder: of the document.
    """

    marker: str
    root: Path
    folder: Path

    @property
    def kind(self) -> str:
        """Return what stands before the colon."""
        return self.marker.partition(":")[0]

    @property
    def name(self) -> str:
        """Return what stands behind the colon."""
        return self.marker.partition(":")[2]

    @property
    def records(self) -> Path:
        """Return the folder of committed records."""
        return self.root / "docs" / "records"

    def fits(self, spelling: str) -> bool:
        """Say whether the name begins as a spelling does, whose words in capitals stand for any."""
        own, word = self.name.partition("/")[0], spelling.partition("/")[0]
        return bool(own) and (word.isupper() or own == word)

    def committed(self, file: str, fix: str) -> Path:
        """Return a file of the committed records.

        Raises:
            RecordError: it is not there.
        """
        return page_figures.committed(self.marker, self.root, file, fix)


def words(place: Place) -> str:
    """Return sentences that a run wrote about itself, a paragraph each, as a quotation."""
    path = place.committed(f"{place.name}.json", "commit the records it shows")
    return "\n>\n".join(f"> {line}" for line in json.loads(path.read_text()))


def pictured(place: Place) -> str:
    """Return the line that shows a picture."""
    return page_figures.picture(place.marker, place.root).markdown(place.folder)


def registry_table(name: str) -> str:
    """Return a registry as a table of name, sentence and source."""
    import pandas as pd

    from kd.report.tables import markdown

    rows = [(f"`{part}`", entry.sentence, entry.source) for part, entry in registry_of(name).items()]
    return markdown(pd.DataFrame(rows, columns=["name", "what it does", "source"]))


def registry_of(name: str) -> Registry:
    """Return a registry by the name that markers call it."""
    module, _, attribute = REGISTRIES[name].partition(":")
    try:
        found: Registry = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise MarkerError(f"kd:registry:{name}: {REGISTRIES[name]} cannot be imported ({error})") from error
    return found


def verdicts_table(place: Place) -> str:
    """Return the verdicts of several ablations beside each other, a row per method."""
    import method_cards

    from kd.report.tables import markdown

    return markdown(method_cards.verdicts(place.records, place.name.split("+")))


def gathered_claims(place: Place) -> str:
    """Return the claims put to several ablations, a row per claim and data set, those of one sentence together."""
    import pandas as pd

    from kd.report.claims import claims_table
    from kd.report.tables import markdown

    frames = []
    for name in place.name.split("+"):
        files = (f"{name}_claims.parquet", f"{name}_provenance.json")
        path, about = (place.committed(file, "keep the sweep's records") for file in files)
        data = json.loads(about.read_text())["config of the first variant"]["data"]["name"]
        frames.append(claims_table(pd.read_parquet(path)).assign(data=data))
    found = pd.concat(frames, ignore_index=True)
    order = {sentence: place for place, sentence in enumerate(dict.fromkeys(found["claim"]))}
    found = found.sort_values("claim", key=lambda claim: claim.map(order), kind="stable")
    return markdown(found[["claim", "data", *(name for name in found if name not in ("claim", "data"))]])


def cards(place: Place) -> str:
    """Return a card per objective or weighting."""
    import method_cards

    kind, _, names = place.name.partition("/")
    return method_cards.cards(kind, registry_of(kind), place.records, names.split("+"))


def bench_table(place: Place) -> str:
    """Return one table of a bench's record; `figures` are its single numbers."""
    import pandas as pd

    from kd.report import tables

    bench, _, table = place.name.partition("/")
    path = place.committed(f"bench_{bench}.json", "run its bench without --quick")
    content = json.loads(path.read_text())
    found = {**content["tables"], "figures": [{"figure": k, "measured": v} for k, v in content["figures"].items()]}
    if table not in found:
        known = ", ".join(found)
        raise RecordError(f"kd:{place.marker}: docs/records/{path.name} has no table {table!r}; known: {known}")
    return tables.markdown(pd.DataFrame(found[table]))


def record_table(place: Place) -> str:
    """Return committed records as the table that reports show; its columns say which."""
    import pandas as pd

    from kd.report import tables
    from kd.report.claims import claims_table
    from kd.report.retained import retained_table

    frame = pd.read_parquet(place.committed(f"{place.name}.parquet", "commit the records it shows"))
    if "margin" in frame and "subset" in frame and "stage" in frame:
        return tables.markdown(retained_table(frame))
    if "encoder" in frame and "fusion" in frame:
        return tables.markdown(contracts_table(frame))
    if "claim" in frame:
        return tables.markdown(claims_table(frame))
    if "what" in frame:
        shown = [tables.summary_table(frame, metric) for metric in frame["metric"].unique()[:1]]
        return tables.markdown(shown[0]) if shown else tables.markdown(frame)
    if "verdict" in frame and "estimate" in frame:
        return tables.markdown(tables.contrast_table(frame))
    if "latency_ratio" in frame:
        return tables.markdown(tables.stage_table(frame))
    return tables.markdown(frame)


def contracts_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row per encoder and a column per fusion: the largest parity gap of the graph, the least agreement."""

    def cell(own: pd.DataFrame) -> str:
        graph, int8 = own[own["pass"] == "onnx"], own[own["int8_share"].notna()]
        return f"{graph['parity_max'].max():.0e}, {int8['agreement'].min():.0%}"

    found = frame.groupby(["encoder", "fusion"], sort=False).apply(cell, include_groups=False).unstack(sort=False)
    return found.reset_index()


MAKERS: dict[str, tuple[Callable[[Place], str], Sequence[str]]] = {
    "registry": (lambda place: registry_table(place.name), list(REGISTRIES)),
    "record": (record_table, ["NAME"]),
    "words": (words, ["NAME"]),
    "bench": (bench_table, ["NAME/TABLE"]),
    "verdicts": (verdicts_table, ["NAMES"]),
    "claims": (gathered_claims, ["NAMES"]),
    "figure": (pictured, ["RECORD/AXIS/complete/NODES"]),
    "heat": (pictured, ["RECORD/AXIS&AXIS/complete/NODE", "RECORD/subsets/NODES"]),
    "graph": (pictured, ["CONFIG/NODE"]),
    "scores": (lambda place: page_values.scores_table(place.name, place.root), ["RECORD/AXIS/complete/NODES"]),
    "cost": (lambda place: page_values.cost_table(place.name, place.root), ["RECORD/AXIS/NODES"]),
    "value": (
        lambda place: page_values.value(place.name, place.root),
        ["RECORD/bound", "RECORD/claims/NAME", "RECORD/NODE/complete/SETTING"],
    ),
    "cards": (cards, ["objectives/NAMES", "weightings/NAMES"]),
}
"""What makes each kind of marked place, and how its name is spelt: capitals stand for a name."""


if __name__ == "__main__":
    sys.exit(main())
