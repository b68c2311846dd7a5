"""Post-training int8 without calibration: ONNX Runtime takes the scale of every activation from the batch at hand.

One scale per tensor and batch: a row's answer depends on who shares its batch, which the pass measures and states.
Convolutions stay float: the integer convolution that ONNX Runtime has for dynamic scales is slower than its float one.
Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, dynamic quantization.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from kd.compress.context import Context, Evidence, Kind, Model
from kd.compress.embeddings import quantise_embeddings
from kd.compress.graph import PRODUCTS, products_before_encoders
from kd.compress.quantise import judged, moved_from
from kd.compress.rows import differences, hidden, take
from kd.evaluate.predictor import OnnxPredictor

MATES = 16
"""Rows asked together and each alone, at most."""


@dataclass(frozen=True, kw_only=True)
class DynamicInt8:
    """Quantise every matrix product by a constant, and tables of embeddings; convolutions stay float.

    Args:
        embeddings: quantise tables of embeddings as well.
    """

    embeddings: bool = True
    takes: ClassVar[Kind] = "onnx"
    gives: ClassVar[Kind] = "onnx"

    def __call__(self, model: Model, context: Context) -> tuple[Model, Evidence]:
        """Return the int8 graph; besides what `StaticInt8` says, its evidence has `batch_dependence`.

        Raises:
            KDError: nothing could be quantised.
        """
        graph = quantised(model, leaving=products_before_encoders(model))
        graph, tables = quantise_embeddings(graph) if self.embeddings else (graph, [])
        evidence = judged("dynamic_int8", graph, moved_from(model, context)(graph), tables)
        evidence["batch_dependence"] = _among_mates(graph, context)
        evidence["notes"].append(told(evidence["batch_dependence"]))
        return graph, evidence


def quantised(graph: Model, *, leaving: Sequence[str] = ()) -> Model:
    """Return a graph whose products by constants are int8: weights of 7 bits per channel, activations by the batch.

    Args:
        graph: float; stays as it is.
        leaving: names of nodes that stay float.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from kd.compress.export import quiet, strip

    with quiet(), tempfile.TemporaryDirectory() as scratch:
        file = str(Path(scratch) / "int8.onnx")
        quantize_dynamic(
            graph,
            file,
            op_types_to_quantize=list(PRODUCTS),
            per_channel=True,
            reduce_range=True,  # as in Calibrated.quantised
            weight_type=QuantType.QInt8,
            # The quantiser splits every Gemm first, and excludes by the names that it gives then.
            nodes_to_exclude=[name + end for name in leaving for end in ("", "_MatMul")],
        )
        made = onnx.load(file)
    strip(made)
    return made


def batch_dependence(ask: Callable[[slice], Any], rows: int) -> float:
    """Return the greatest difference between rows asked together and each asked alone, relative to the answers' scale.

    Args:
        ask: returns the answers [B, ...] of some rows.
        rows: how many there are.
    """
    together = torch.as_tensor(ask(slice(0, rows)))
    alone = torch.cat([torch.as_tensor(ask(slice(row, row + 1))) for row in range(rows)])
    return differences(alone, together, None)["parity_max"]


def told(dependence: float) -> str:
    """Say in one sentence what `batch_dependence` found."""
    return f"scales are taken from each batch: batch-mates moved an answer by up to {dependence:.1e} of the scale"


def _among_mates(graph: Model, context: Context) -> float:
    """Return the dependence on batch-mates of context rows, with everything present as the rows have it."""
    predictor = OnnxPredictor(graph, threads=context.threads)
    shown = take(context.rows, slice(MATES))
    present = shown.present if predictor.takes_present else torch.ones_like(shown.present)
    inputs = hidden(shown, predictor.modalities, present)
    return batch_dependence(
        lambda rows: predictor({name: value[rows] for name, value in inputs.items()}, present[rows]), len(present)
    )
