"""Int8 for any float ONNX file: static where rows are given, else dynamic, judged by outputs, bytes, time and kernels.

What comes out is a folder: the graph, and a card that says what it was made from, how, and what was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kd.compress import PASSES
from kd.compress.calibration import BATCH, Calibrated, fitting
from kd.compress.context import Evidence, Model
from kd.compress.dynamic import MATES, DynamicInt8, told
from kd.compress.dynamic import quantised as quantised_dynamically
from kd.compress.embeddings import quantise_embeddings
from kd.compress.foreign.evidence import all_left, among_mates, judged
from kd.compress.foreign.graph import Left, Source, multiplying, obstacles, prepared, read
from kd.compress.foreign.rows import Graph, Questions, from_file, made_up
from kd.compress.graph import computing
from kd.compress.package import GRAPH, graph_versions
from kd.compress.quantise import StaticInt8
from kd.errors import ConfigError, DataError, KDError
from kd.importing import in_words
from kd.models.package import CARD
from kd.record import file_digest, machine, package_versions, staged_folder, write_atomic
from kd.registry import suggest

SETTINGS = {"static_int8": ("activations", "percentile", "embeddings"), "dynamic_int8": ("embeddings",)}
"""What of a pass can be set for a graph that is not ours."""
SHOWN = 5
"""Nodes that an error names."""


def compress_file(
    path: Path, *, to: Path | None = None, rows: Path | None = None, settings: Mapping[str, Any] | None = None
) -> tuple[Path, dict[str, Any]]:
    """Quantise a file and return the folder written, whole or not at all, and its card.

    Args:
        path: a float ONNX model.
        to: the folder; by default `NAME-int8` beside the file.
        rows: npz, an array per input, first axis rows; without it scales are taken from each batch.
        settings: `embeddings`; with rows also `activations` and `percentile`, see `StaticInt8`.

    Raises:
        ConfigError: a setting is unknown or out of range.
        RecordError: the model or the rows cannot be read.
        DataError: the rows are not what the graph takes.
        KDError: the folder holds something else, the model is quantised already, or nothing of it can be.
    """
    pass_ = _pass(settings or {}, "static_int8" if rows else "dynamic_int8")
    folder = _destination(path, to)
    source = read(path)
    float_ = Graph(source.graph, path)
    inputs, ready = float_.inputs(), prepared(source)
    left = obstacles(source, ready, calibrated=rows is not None)
    _refuse_nothing(ready, left, pass_, path)
    questions = from_file(inputs, rows, path) if rows else made_up(inputs, ready, path)
    _ask_all(float_, questions, rows or path)
    if isinstance(pass_, StaticInt8):
        pass_ = StaticInt8(**_chosen(pass_) | {"activations": fitting(ready, pass_.activations)})
    graph, tables = _quantised(ready, pass_, questions, left, path)
    evidence = judged(source, float_, graph, questions, tables, all_left(ready, graph, left))
    if isinstance(pass_, DynamicInt8) and questions.fixed is None:
        evidence["batch_dependence"] = among_mates(Graph(graph, path), questions)
        evidence["notes"].append(told(evidence["batch_dependence"]))
    return folder, _write(folder, source, graph, {"pass": _name(pass_), "settings": _chosen(pass_)}, evidence, rows)


def _pass(settings: Mapping[str, Any], name: str) -> StaticInt8 | DynamicInt8:
    for key in settings:
        if key not in SETTINGS[name]:
            hint = "only with rows=FILE.npz" if key in SETTINGS["static_int8"] else suggest(key, SETTINGS[name])
            raise ConfigError(f"kd compress: {key}: no setting here; {hint}")
    built: StaticInt8 | DynamicInt8 = PASSES.build({"name": name, **settings}, where="compress")
    return built


def _name(pass_: StaticInt8 | DynamicInt8) -> str:
    return "static_int8" if isinstance(pass_, StaticInt8) else "dynamic_int8"


def _chosen(pass_: StaticInt8 | DynamicInt8) -> dict[str, Any]:
    return {key: value for key, value in asdict(pass_).items() if key in SETTINGS[_name(pass_)]}


def _destination(path: Path, to: Path | None) -> Path:
    """Return the folder to write, which is new, empty or an earlier result.

    Raises:
        KDError: it holds anything else, which would be lost.
    """
    folder = to or path.with_name(f"{path.stem}-int8")
    holds_source = path.resolve().parent == folder.resolve()
    if holds_source or (folder.exists() and not _is_result(folder)):
        raise KDError(f"{folder}: exists and is no earlier result of kd compress; name another with to=FOLDER")
    return folder


def _is_result(folder: Path) -> bool:
    """Say whether a folder is empty or holds what this verb writes and nothing else."""
    files = {file.name for file in folder.iterdir()} if folder.is_dir() else {""}
    try:
        return not files or (files == {GRAPH, CARD} and "made_from" in json.loads((folder / CARD).read_text()))
    except ValueError:
        return False


def _refuse_nothing(graph: Model, left: Sequence[Left], pass_: StaticInt8 | DynamicInt8, path: Path) -> None:
    """Refuse a graph of which nothing can be quantised.

    Raises:
        KDError: naming up to five nodes that stay float, and why.
    """
    if len(multiplying(graph)) > len(left) or (pass_.embeddings and quantise_embeddings(graph)[1]):
        return
    if not left:
        raise KDError(f"{path}: nothing to quantise: no product, convolution or table of embeddings")
    named = "; ".join(f"{one} ({one.reason})" for one in left[:SHOWN])
    more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
    raise KDError(f"{path}: nothing of it can be quantised: {named}{more}")


def _ask_all(float_: Graph, questions: Questions, where: Path) -> None:
    """See that the graph can compute with all rows.

    Raises:
        DataError: it cannot.
    """
    try:
        for feed in questions.feeds(MATES):
            float_.outputs(feed)
    except DataError as error:
        raise DataError(error.faults, str(where)) from None


def _quantised(
    graph: Model, pass_: StaticInt8 | DynamicInt8, questions: Questions, left: Sequence[Left], path: Path
) -> tuple[Model, list[str]]:
    """Return the int8 graph and the names of its int8 tables.

    Raises:
        KDError: ONNX Runtime cannot make or run it.
    """
    leaving = [one.node for one in left]
    try:
        if all(node.name in leaving for node in computing(graph)):
            made = graph  # only tables are left to do
        elif isinstance(pass_, DynamicInt8):
            made = quantised_dynamically(graph, leaving=leaving)
        else:
            made = _calibrated(graph, pass_, questions, leaving)
        made, tables = quantise_embeddings(made) if pass_.embeddings else (made, [])
        Graph(made, path).outputs(next(questions.feeds(MATES)))
    except Exception as error:  # what the quantiser raises shares no base class below Exception
        raise KDError(f"{path}: ONNX Runtime cannot quantise it ({in_words(error)})") from error
    return made, tables


def _calibrated(graph: Model, pass_: StaticInt8, questions: Questions, leaving: Sequence[str]) -> Model:
    feeds = list(questions.feeds(BATCH))
    with Calibrated(graph, feeds, activations=pass_.activations, percentile=pass_.percentile) as calibrated:
        return calibrated.quantised(leaving)


def _write(
    folder: Path, source: Source, graph: Model, how: Mapping[str, Any], evidence: Evidence, rows: Path | None
) -> dict[str, Any]:
    with staged_folder(folder) as place:
        write_atomic(place / GRAPH, graph.SerializeToString())
        card = {
            "kind": "onnx",
            "made_from": {file.name: file_digest(file) for file in source.files},
            "rows": {rows.name: file_digest(rows)} if rows else {},
            **how,
            **graph_versions(graph),
            "packages": package_versions(),
            "machine": machine(),
            "evidence": evidence,
            "checksums": {GRAPH: file_digest(place / GRAPH)},
        }
        write_atomic(place / CARD, json.dumps(card, indent=1, sort_keys=True) + "\n")
    return card
