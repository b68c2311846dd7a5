"""The report itself: one self-contained HTML page and the same content as Markdown, from a run's folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from kd.record import write_atomic
from kd.report import tables, words
from kd.report.comparison import Pairs, divided, run_comparison
from kd.report.contests import contests_content, contests_markdown
from kd.report.costs import with_cost
from kd.report.diagram import graph_picture
from kd.report.evidence import Evidence, load_evidence
from kd.report.figures import stage_charts, training_curves
from kd.report.heatmap import subset_heat_map
from kd.report.matrix import LEGEND, matrix_table
from kd.report.opening import opening, versatile
from kd.report.retained import NOTE, retained_sentences, retained_table
from kd.report.robust import robust_content, sample_note
from kd.report.robust_figures import MOST_LINES, rate_chart, shapley_charts
from kd.report.stamps import warning
from kd.report.teaching import taught_content


def write_report(folder: Path) -> Path:
    """Write `report.html` and `report.md` into a finished run's folder and return the page's path.

    Raises:
        RecordError: the folder holds no finished run, or its tables are damaged.
        StorageError: the disk refused; older reports are untouched.
    """
    evidence = load_evidence(Path(folder))
    content = gather(evidence)
    page = Path(folder) / "report.html"
    write_atomic(Path(folder) / "report.md", markdown_report(content))
    write_atomic(page, html_report(content, evidence))
    return page


def gather(evidence: Evidence) -> dict[str, Any]:
    """Return the words and tables that both forms of the report show."""
    metric = evidence.metric
    return {
        "title": evidence.record.name,
        "id": evidence.record.id,
        "metric": tables.metric_name(metric),
        "rows": sorted(set(evidence.subsets["n"])),
        "seeds": words.count_seeds(evidence.subsets["seed"].nunique()),
        "answer": opening(
            *(evidence.subsets, evidence.summary, evidence.contrasts, evidence.stages), evidence.kinds, metric
        )
        + bound(evidence.provenance)
        + warning(evidence.subsets),
        "summary": with_cost(tables.summary_table(evidence.summary, metric), evidence.cost, evidence.stages),
        "costed": len(evidence.cost) > 0,
        "sample": sample_note(evidence.subsets),
        "robust": robust_content(evidence),
        "grid": tables.subset_grid(evidence.subsets, metric),
        "metrics": tables.metric_table(evidence.subsets),
        "contrasts": tables.contrast_table(evidence.contrasts),
        **contests_content(evidence.contests),
        **taught_content(evidence),
        "contrast_words": [words.contrast_sentence(row) for row in evidence.contrasts.to_dict("records")],
        "stages": tables.stage_table(evidence.stages),
        "stage_words": retained_sentences(evidence.retained),
        "retained": retained_table(evidence.retained),
        "retained_note": NOTE,
        "provenance": flatten(evidence.provenance),
        "subset_map": subset_heat_map(evidence.subsets, metric),
        **run_comparison(evidence),
        "legend": LEGEND,
    }


def bound(provenance: Mapping[str, Any]) -> list[str]:
    """Return the sentence on the Bayes rule, where the law of the data is known.

    >>> bound({"bayes_bound": "no method passes it"}), bound({})
    (['No method passes it.'], [])
    """
    said = str(provenance.get("bayes_bound", ""))
    return [f"{said[0].upper()}{said[1:]}."] if said else []


def html_report(content: Mapping[str, Any], evidence: Evidence) -> str:
    """Return the page; it names no other file and fetches nothing."""
    metric = evidence.metric
    curves = {node: Markup(svg) for node, svg in training_curves(evidence.curves).items()}
    charts = stage_charts(evidence.stages, evidence.subsets, metric) if len(evidence.stages) else []
    return render(
        "page.html.j2",
        **content,
        graph=Markup(graph_picture(evidence.graph)),
        curves=curves,
        charts=[Markup(svg) for svg in charts],
        **_robust_pictures(content["robust"], evidence),
    )


def _robust_pictures(robust: Mapping[str, Any], evidence: Evidence) -> dict[str, Any]:
    """Return the rate charts, and the panels of Shapley values: of students unfolded, of all others folded away."""
    if robust["table"] is None:
        return {"rates": "", "other_rates": [], "shares": {}, "other_shares": {}}
    metric, whole = robust["key"], versatile(evidence.subsets)
    nodes = [node for node in dict.fromkeys(evidence.robustness["node"]) if node in whole]
    first, rest = divided(nodes, evidence.validation, evidence.provenance.get("config"))
    panels = {node: Markup(svg) for node, svg in shapley_charts(evidence.shapley, metric).items()}
    students = [node for node in panels if evidence.kinds.get(node) == "student"] or list(panels)
    shown = [node for node in students if node not in rest]
    return {
        **_rate_pictures(evidence, first, rest, metric),
        "shares": {node: panels[node] for node in shown},
        "other_shares": {node: svg for node, svg in panels.items() if node not in shown},
    }


def _rate_pictures(evidence: Evidence, first: list[str], rest: list[str], metric: str) -> dict[str, Any]:
    charts = [first, *(rest[start : start + MOST_LINES] for start in range(0, len(rest), MOST_LINES))]
    drawn = [
        Markup(rate_chart(evidence.robustness, own, metric, "rates" if place == 0 else f"rates{place}"))
        for place, own in enumerate(charts)
    ]
    return {"rates": drawn[0], "other_rates": drawn[1:]}


def render(template: str, **content: Any) -> str:
    """Return a page of ours; every page has a title, an answer and provenance."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(
        **content, columns=column_classes, code=code_spans, stacked=stacked
    )


def code_spans(text: str) -> Markup:
    """Return text as HTML in which what stands between backticks is code.

    >>> code_spans("`a<b` wins")
    Markup('<code>a&lt;b</code> wins')
    """
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def stacked(subset: str) -> Markup:
    """Return a subset's name as HTML with a line for each of its modalities.

    >>> stacked("fou+zer")
    Markup('fou<br>zer')
    """
    return Markup("<br>").join(subset.split("+"))


def column_classes(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return each column's name and its CSS class: `n` for numbers, which stand to the right."""
    return [(str(name), "n" if tables.is_numeric(frame[name]) else "") for name in frame.columns]


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a nested mapping as dotted key -> text; a list of plain values stays on one line.

    >>> flatten({"split": {"hash": "ab"}, "seeds": [0, 1]})
    {'split.hash': 'ab', 'seeds': '0, 1'}
    """
    flat: dict[str, str] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            flat[f"{prefix}{key}"] = ", ".join(map(str, value))
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def markdown_report(content: Mapping[str, Any]) -> str:
    """Return the report as Markdown, without figures."""
    rows = ", ".join(map(str, content["rows"]))
    parts = [
        f"# {words.plain(content['title'])}",
        " ".join(map(words.rich, content["answer"])),
        *_advice_parts(content["paragraphs"]),
        f"Run `{content['id']}`, {content['seeds']}, {rows} test rows. Scores in percent, means over seeds with "
        "95% t intervals, conditional on these test rows.",
        f"## Complete, mean and worst: {content['metric']}",
        tables.markdown(content["summary"]),
        "## Every subset of modalities",
        content["sample"],
        tables.markdown(content["grid"]),
        "## Comparisons",
        _bullets(content["contrast_words"]) or "None was declared.",
        tables.markdown(content["contrasts"]) if len(content["contrasts"]) else "",
        *contests_markdown(content),
        *_pair_parts(content["matrices"]),
        *_teaching_parts(content),
        *_robust_parts(content["robust"]),
        *_mask_parts(content["test_mask_table"]),
        *_stage_parts(content),
        "## Every metric, on the largest subset a node answers",
        tables.markdown(content["metrics"]),
        "## Provenance",
        *(_provenance_part(key, value) for key, value in content["provenance"].items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _advice_parts(paragraphs: list[str]) -> list[str]:
    return ["## What should I use?", *map(words.rich, paragraphs)] if paragraphs else []


def _pair_parts(matrices: list[Pairs]) -> list[str]:
    if not matrices:
        return []
    shown = [part for own in matrices for part in (f"On the {own.place}:", tables.markdown(matrix_table(own.first)))]
    return ["## Every two methods", LEGEND, *shown]


def _teaching_parts(content: Mapping[str, Any]) -> list[str]:
    if not len(content["teaching"]):
        return []
    told = [_bullets(content["teaching_words"]), tables.markdown(content["teaching"]), content["teaching_note"]]
    known = (
        [tables.markdown(content["information"]), content["information_note"]] if len(content["information"]) else []
    )
    return ["## What was taught, and what became of it", *told, *known]


def _mask_parts(table: pd.DataFrame) -> list[str]:
    return ["## Under other masks at test", tables.markdown(table)] if len(table) else []


def _robust_parts(robust: Mapping[str, Any]) -> list[str]:
    if robust["table"] is None:
        return []
    sentences = [*robust["words"], *robust["unseen"], robust["line"]]
    return [
        f"## How robust: {robust['metric']}",
        "\n".join(f"- {words.rich(sentence)}" for sentence in sentences),
        tables.markdown(robust["table"]),
        f"Shapley values, {robust['game']}, with 95% intervals. {robust['orderings']}".strip(),
        tables.markdown(robust["shapley"]),
    ]


def _stage_parts(content: Mapping[str, Any]) -> list[str]:
    if not len(content["stages"]) and not content["stage_words"]:
        return []
    costs = tables.markdown(content["stages"]) if len(content["stages"]) else ""
    kept = [tables.markdown(content["retained"]), content["retained_note"]] if len(content["retained"]) else []
    return ["## Compression, stage by stage", _bullets(content["stage_words"]), costs, *kept]


def _bullets(sentences: list[str]) -> str:
    return "\n".join(f"- {words.plain(sentence)}" for sentence in sentences)


def _provenance_part(key: str, value: str) -> str:
    if "\n" in value:
        block = "\n".join(f"    {line}" for line in value.splitlines())
        return f"- **{words.plain(key)}**\n\n{block}"
    return f"- **{words.plain(key)}**: {words.plain(value)}"
