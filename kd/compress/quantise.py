"""Post-training int8 by ONNX Runtime: weights per channel, embeddings, and activations with scales fixed beforehand.

Static, because dynamic scales are one per tensor: a row's answer would depend on who shares its batch. The graph holds
QuantizeLinear / DequantizeLinear pairs, which other runtimes read too: TensorRT those with signed activations.
Source: Jacob et al. 2018 (1712.05877).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from kd.compress.calibration import Activations, Calibrated, calibration
from kd.compress.context import Context, Evidence, Kind, Model
from kd.compress.embeddings import quantise_embeddings
from kd.compress.graph import computing, layer_of
from kd.compress.kernels import int8_share
from kd.compress.rows import answers, differences
from kd.compress.sensitivity import Moved, Sensitivity, leave_float
from kd.errors import ConfigError, KDError
from kd.evaluate.predictor import OnnxPredictor

COMPARED = 256
"""Rows on which the int8 graph is compared with the float one, under every pattern."""


@dataclass(frozen=True, kw_only=True)
class StaticInt8:
    """Quantise every matrix product, convolution and table of embeddings of a graph.

    Args:
        rows: calibration rows at most, shared among all missing patterns.
        activations: `signed` and symmetric, the only form that TensorRT reads; `unsigned` with a zero point, the only
            one in which ONNX Runtime on x86 runs in int8 a convolution with its ReLU, and products that read the same;
            `auto` is unsigned where there are such.
        percentile: of activations over the calibration rows that their range holds, in (50, 100]; below 100 it cuts
            outliers off.
        budget: most decisions that may differ from the float graph's, as a share in [0, 1) over training rows and
            patterns; where more do, the most sensitive layers stay float until it holds. Accuracy on those rows cannot
            fall by more. Of regression, the greatest difference relative to the scale of the answers.
        embeddings: quantise tables of embeddings as well.
    """

    rows: int = 512
    activations: Activations = "auto"
    percentile: float = 100.0
    budget: float | None = None
    embeddings: bool = True
    takes: ClassVar[Kind] = "onnx"
    gives: ClassVar[Kind] = "onnx"

    def __post_init__(self) -> None:
        faults = []
        if not 50 < self.percentile <= 100:
            faults.append(f"static_int8.percentile: expected a number in (50, 100], got {self.percentile}")
        if self.budget is not None and not 0 <= self.budget < 1:
            faults.append(f"static_int8.budget: expected a share in [0, 1), got {self.budget}")
        if faults:
            raise ConfigError(faults)

    def __call__(self, model: Model, context: Context) -> tuple[Model, Evidence]:
        """Return the int8 graph; its evidence says what share runs int8 kernels and how far it moved from float.

        Raises:
            KDError: nothing could be quantised, or nothing within the budget.
        """
        feeds = calibration(context, [value.name for value in model.graph.input], self.rows)
        moved = moved_from(model, context)
        with Calibrated(model, feeds, activations=self.activations, percentile=self.percentile) as calibrated:
            found = Sensitivity()
            if self.budget is not None:
                nodes = [node.name for node in computing(model) if node.name not in calibrated.always_float]
                found = leave_float(nodes, calibrated.quantised, moved, self.budget)
            graph = calibrated.quantised(found.left)
        graph, tables = quantise_embeddings(graph) if self.embeddings else (graph, [])
        sensitive = {"branches": found.branches, "layers": found.layers} if found.layers else None
        evidence = judged("static_int8", graph, moved(graph), tables)
        return graph, evidence | ({"sensitivity": sensitive} if sensitive else {})


def moved_from(model: Model, context: Context) -> Moved:
    """Return what measures how far a graph's answers are from those of a float one, on training rows.

    Args:
        model: the float graph.
        context: rows and task.
    """
    expected = _answers(model, context)
    return lambda graph: differences(expected, _answers(graph, context), context.task)


def _answers(graph: Model, context: Context) -> Tensor:
    return answers(OnnxPredictor(graph, threads=context.threads), context.rows, limit=COMPARED)


def judged(name: str, graph: Model, moved: Mapping[str, float], tables: Sequence[str]) -> Evidence:
    """Return the evidence that every int8 graph gives: how far it moved, what runs in int8, what stayed float.

    Args:
        name: of the pass.
        graph: what it made.
        moved: as `moved_from` measures it.
        tables: names of the tables of embeddings that are int8.

    Raises:
        KDError: nothing of the graph is int8.
    """
    share = int8_share(graph)
    if share == 0 and not tables:
        raise KDError(f"{name}: no product or convolution runs in int8 here; drop the pass")
    return {**moved, "int8_share": share, "embeddings": list(tables), "notes": _notes(float_products(graph), share)}


def _notes(left: Sequence[str], share: float) -> list[str]:
    notes = [f"not quantised: {', '.join(dict.fromkeys(map(layer_of, left)))}"] if left else []
    return notes + share_notes(share)


def share_notes(share: float) -> list[str]:
    """Say what share of the products and convolutions runs in float; nothing where all run in int8."""
    return [f"{1 - share:.0%} of the products and convolutions run in float"] if share < 1 else []


def float_products(graph: Any) -> list[str]:
    """Return the names of products and convolutions whose inputs are not both dequantised int8."""
    quantised = {name for node in computing(graph, ["DequantizeLinear"]) for name in node.output}
    return [node.name for node in computing(graph) if not quantised.issuperset(node.input[:2])]
