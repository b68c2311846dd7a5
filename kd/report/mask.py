"""What a mask hides: its patterns and realised rates, in a terminal and as one page (`kd mask show`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from kd.data.mask import CELLS, LABELLED, Mask
from kd.data.source import Source
from kd.data.splits import Split
from kd.record import write_atomic
from kd.report.gaps import drawn, patterns, picture
from kd.report.page import flatten, render


def describe_mask(mask: Mask, source: Source, split: Split) -> dict[str, Any]:
    """Return what a mask leaves of the training rows, as JSON.

    Raises:
        MaskError: it is of another source or split, or leaves rows nothing without having meant to.
    """
    mask.check(source, split)
    available = mask.available(source)[split.train]
    return {
        "mechanism": mask.mechanism,
        "parameters": mask.parameters,
        "seed": mask.seed,
        "data": source.name,
        "rows": len(split.train),
        "modalities": source.modalities,
        "hidden": mask.realised,
        "missing by nature": _missing(source, split),
        "patterns": patterns(available, source.modalities),
        "fingerprint": mask.fingerprint,
        "data fingerprint": source.fingerprint,
        "split fingerprint": split.fingerprint,
    }


def _missing(source: Source, split: Split) -> dict[str, float]:
    lacking = (~source.observed[split.train]).double().mean(dim=0).tolist()
    return dict(zip(source.modalities, lacking, strict=True))


def lines(facts: Mapping[str, Any]) -> list[str]:
    """Return what `describe_mask` gave as lines for a terminal."""
    table = rates(facts)
    width = max(map(len, table["what"]))
    shown = [f"  {row.what:{width}}  {row.hidden:>7}  {row.nature:>7}" for row in table.itertuples()]
    head = f"  {'':{width}}  {'hidden':>7}  {'nature':>7}"
    return [
        _title(facts),
        "",
        *(f"  {line}" for line in drawn(facts["patterns"], facts["modalities"])),
        "",
        head,
        *shown,
        "",
        f"fingerprint  {facts['fingerprint']}",
    ]


def rates(facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return, for each modality, for labels and for values inside, what the mask hides and what nature left out."""
    names = {LABELLED: "labels"}
    rows = []
    for what, share in facts["hidden"].items():
        called = names.get(what, f"values in {what.removeprefix(CELLS)}" if what.startswith(CELLS) else what)
        nature = facts["missing by nature"].get(what)
        rows.append((called, f"{share:.1%}", "" if nature is None else f"{nature:.1%}"))
    return pd.DataFrame(rows, columns=["what", "hidden", "nature"])


def _title(facts: Mapping[str, Any]) -> str:
    return f"{facts['mechanism']}, seed {facts['seed']}, {facts['rows']:,} training rows of {facts['data']}"


def write_mask_page(facts: Mapping[str, Any], path: Path) -> Path:
    """Write one HTML page that needs no other file, and return its path.

    Raises:
        StorageError: the disk refused.
    """
    found = facts["patterns"]
    table = pd.DataFrame(
        {
            "pattern": [" + ".join(p["modalities"]) or "nothing" for p in found],
            "rows": [p["rows"] for p in found],
            "share": [f"{p['rows'] / facts['rows']:.1%}" for p in found],
        }
    )
    told = ("mechanism", "parameters", "seed", "data", "fingerprint", "data fingerprint", "split fingerprint")
    page = render(
        "mask.html.j2",
        title=f"Who sees what: {_title(facts)}",
        answer=_answer(facts),
        picture=Markup(picture(found, facts["modalities"], _title(facts))),
        patterns=table,
        rates=rates(facts),
        provenance=flatten({key: facts[key] for key in told}),
    )
    write_atomic(path, page)
    return path


def _answer(facts: Mapping[str, Any]) -> list[str]:
    """Say in two sentences how much is left."""
    whole = sum(p["rows"] for p in facts["patterns"] if len(p["modalities"]) == len(facts["modalities"]))
    nothing = sum(p["rows"] for p in facts["patterns"] if not p["modalities"])
    empty = f"; {nothing:,} keep none and go unused" if nothing else ""
    return [
        f"Of {facts['rows']:,} training rows {whole:,} keep all {len(facts['modalities'])} modalities{empty}.",
        "Validation and test rows keep whatever nature left: they are judged on every subset.",
    ]
