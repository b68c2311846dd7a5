"""What is measured of an int8 graph beside a float one that is not ours: outputs, bytes, time, kernels, batch-mates."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from kd.compress.context import Evidence, Model
from kd.compress.dynamic import MATES, batch_dependence
from kd.compress.foreign.graph import Left, Source
from kd.compress.foreign.rows import Graph, Questions
from kd.compress.graph import computing
from kd.compress.kernels import Feed, int8_share
from kd.compress.quantise import COMPARED, float_products, share_notes
from kd.evaluate.cost import latency

SECONDS = 4.0
"""Of timing, about, at each number of rows."""


def judged(
    source: Source, float_: Graph, graph: Model, questions: Questions, tables: Sequence[str], left: Sequence[Left]
) -> Evidence:
    """Return what was measured of an int8 graph beside its float one.

    Args:
        source: the file that it was made from.
        float_: that file's graph.
        graph: the int8 one.
        questions: what both are asked.
        tables: names of the tables of embeddings that are int8.
        left: what stays float.
    """
    int8 = Graph(graph, source.path)
    outputs = differences_by_output(float_, int8, questions.feeds(MATES, COMPARED))
    share = int8_share(graph, questions.first(questions.fixed or 1))
    return {
        "asked": {"origin": questions.origin, "rows": min(len(questions), COMPARED)},
        "outputs": outputs,
        "parity_max": max(outputs.values(), default=0.0),
        "bytes": {"float": source.bytes, "int8": int8.bytes, "ratio": int8.bytes / source.bytes},
        "times": [_times(float_, int8, questions, rows) for rows in ([questions.fixed] if questions.fixed else [1, 8])],
        "int8_share": share,
        "embeddings": list(tables),
        "not_quantised": [asdict(one) for one in left],
        "notes": _notes(left, share),
    }


def all_left(graph: Model, made: Model, left: Sequence[Left]) -> list[Left]:
    """Return what stays float, with what the quantiser left by itself.

    Args:
        graph: prepared.
        made: the int8 one.
        left: what was not given to the quantiser.
    """
    kinds = {node.name: node.op_type for node in computing(graph)}
    known = {one.node for one in left}
    # Without rows every Gemm is a product and a sum by now.
    names = [name if name in kinds else name.removesuffix("_MatMul") for name in float_products(made)]
    return [*left, *(Left(n, kinds.get(n, "MatMul"), "ONNX Runtime left it") for n in names if n not in known)]


def differences_by_output(float_: Graph, int8: Graph, feeds: Iterable[Feed]) -> dict[str, float]:
    """Return the greatest absolute difference of every output over its greatest absolute value.

    Where one is not finite, the other is not either, or the difference is infinite.
    """
    gaps: dict[str, float] = {}
    scales: dict[str, float] = {}
    for feed in feeds:
        got = int8.outputs(feed)
        for name, value in float_.outputs(feed).items():
            if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
                continue
            expected, other = value.astype(np.float64), got[name].astype(np.float64)
            finite = np.isfinite(expected)
            same = expected.shape == other.shape and (finite == np.isfinite(other)).all()
            gap = np.abs(expected - other)[finite].max(initial=0.0) if same else np.inf
            gaps[name] = max(gaps.get(name, 0.0), float(gap))
            scales[name] = max(scales.get(name, 1e-12), float(np.abs(expected[finite]).max(initial=0.0)))
    return {name: gap / scales[name] for name, gap in gaps.items()}


def _times(float_: Graph, int8: Graph, questions: Questions, rows: int) -> dict[str, float]:
    """Return milliseconds of both, and the ratio of int8 to float, as `latency` measures them."""
    feed = questions.first(rows)
    start = time.perf_counter()
    float_.outputs(feed)
    rounds = int(np.clip(SECONDS / 2 / (time.perf_counter() - start), 5, 200))
    found = latency({"float": float_, "int8": int8}, (feed, np.ones(rows)), rounds)
    return {
        "rows": rows,
        "float_ms": found["float"]["median_ms"],
        "int8_ms": found["int8"]["median_ms"],
        "ratio": found["int8"]["ratio"],
        "rounds": rounds,
    }


def _notes(left: Sequence[Left], share: float) -> list[str]:
    reasons = dict.fromkeys(one.reason for one in left)
    notes = [f"not quantised, {r}: {', '.join(str(one) for one in left if one.reason == r)}" for r in reasons]
    return notes + share_notes(share)


def among_mates(int8: Graph, questions: Questions) -> float:
    """Return the greatest `batch_dependence` of all outputs that are real and by row."""
    feed = questions.first(min(MATES, len(questions)))
    rows = len(next(iter(feed.values())))
    by_row = [name for name, value in int8.outputs(feed).items() if _real_by_row(value, rows)]

    def of(name: str) -> float:
        return batch_dependence(
            lambda part: int8.outputs({key: value[part] for key, value in feed.items()})[name], rows
        )

    return max(map(of, by_row), default=0.0)


def _real_by_row(value: Any, rows: int) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.shape[:1] == (rows,)
