"""Post-training int8 by ONNX Runtime: weights per channel and activations, scales fixed beforehand.

Static, because dynamic scales are one per tensor: a row's answer would depend on who shares its batch. The file holds
QuantizeLinear / DequantizeLinear pairs, which other runtimes read too: TensorRT those with signed activations.
Source: Jacob et al. 2018 (1712.05877).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from kd.compress.dependence import products_before_encoders, tells_absence_apart
from kd.compress.export import quiet, strip
from kd.compress.kernels import CONVOLUTIONS, PRODUCTS, int8_share
from kd.compress.package import GRAPH, Context, Kind, Package, differences, every_pattern, save_graph, take
from kd.errors import ConfigError, KDError
from kd.evaluate.predictor import PRESENT, OnnxPredictor

BESIDE_CONVOLUTIONS = (*PRODUCTS, *CONVOLUTIONS, "Add", "Relu", "MaxPool")
"""What is quantised where convolutions are: between them nothing goes back to float."""
Activations = Literal["auto", "signed", "unsigned"]


@dataclass(frozen=True, kw_only=True)
class StaticInt8:
    """Quantise every matrix product and convolution of an ONNX package.

    Args:
        rows: calibration rows at most, shared among all missing patterns.
        activations: `signed` and symmetric, the only form that TensorRT reads; `unsigned` with a zero point, the only
            one in which ONNX Runtime on x86 runs a convolution and its ReLU as one int8 kernel; `auto` is unsigned
            where there are convolutions.
        percentile: of activations over the calibration rows that their range holds, in (50, 100]; below 100 it cuts
            outliers off.
    """

    rows: int = 512
    activations: Activations = "auto"
    percentile: float = 100.0
    stage: ClassVar[str] = "int8"
    takes: ClassVar[Kind] = "onnx"
    gives: ClassVar[Kind] = "onnx"

    def __post_init__(self) -> None:
        if not 50 < self.percentile <= 100:
            raise ConfigError(f"static_int8.percentile: expected a number in (50, 100], got {self.percentile}")

    def __call__(self, package: Package, context: Context, folder: Path) -> Package:
        """Write an int8 package; its card says what share runs int8 kernels and how far it moved from float.

        Raises:
            KDError: nothing could be quantised.
        """
        evidence: dict[str, Any] = {}

        def write(path: Path) -> None:
            feeds = calibration(context, package.modalities, self.rows)
            quantise(package.folder / GRAPH, path, feeds, activations=self.activations, percentile=self.percentile)
            left = float_products(path)
            task = package.card["task"]
            evidence.update(differences(package.predictor(), OnnxPredictor(path), context.example, task, limit=256))
            evidence["int8_share"] = int8_share(path)
            evidence["notes"] = [f"not quantised: {', '.join(left)}"] if left else []
            if evidence["int8_share"] < 1:
                floating = f"{1 - evidence['int8_share']:.0%} of the products and convolutions"
                evidence["notes"].append(f"{floating} run in float")
            if evidence["int8_share"] == 0:
                raise KDError("static_int8: no product or convolution runs in int8 here; drop the pass")

        return save_graph(write, folder, stage=self.stage, parent=package, evidence=evidence)


def calibration(context: Context, modalities: list[str], rows: int) -> list[dict[str, np.ndarray[Any, Any]]]:
    """Return feeds of training rows, each row under one of the missing patterns in turn.

    What is hidden or missing holds another row's value of that modality, so that a branch is calibrated on real values
    only (see `quantise`); a row that a pattern leaves nothing keeps what it has.

    Raises:
        KDError: there are no rows.
    """
    held = context.example.present
    if len(held) == 0 or rows < 1:
        raise KDError("static_int8: expected calibration rows, got none; give training rows in the context")
    draw = torch.Generator().manual_seed(context.seed)
    chosen = torch.randperm(len(held), generator=draw)[:rows]
    patterns = every_pattern(modalities)
    patterns = patterns[torch.randperm(len(patterns), generator=draw)]
    wanted = held[chosen] & patterns[torch.arange(len(chosen)) % len(patterns)]
    present = torch.where(wanted.any(1, keepdim=True), wanted, held[chosen])
    shown = take(context.example, chosen)
    inputs = {name: _filled(shown.inputs[name], shown.present[:, m], draw) for m, name in enumerate(modalities)}
    return [
        {**{name: value[part].numpy() for name, value in inputs.items()}, PRESENT: present[part].numpy()}
        for part in torch.arange(len(chosen)).split(64)
    ]


def _filled(x: Tensor, present: Tensor, draw: torch.Generator) -> Tensor:
    """Return x [B, ...] with values of random present rows in the rows that are absent, zeros if there are none."""
    donors = present.nonzero().flatten()
    if len(donors) == 0:
        return torch.zeros_like(x)
    borrowed = donors[torch.randint(len(donors), (len(x),), generator=draw)]
    return x[torch.where(present, torch.arange(len(x)), borrowed)]


def quantise(
    source: Path,
    target: Path,
    feeds: list[dict[str, np.ndarray[Any, Any]]],
    *,
    activations: Activations = "auto",
    percentile: float = 100.0,
) -> None:
    """Write the int8 form of a float ONNX file: pairs, weights signed and per channel.

    Rows that lack a modality must not set its branch's range: a filler 0 is far outside standardised data wherever the
    mean is far from 0. So the masks on the inputs stand open while ranges are measured; those after the branches, on
    which the fusion depends, stay, and all are closed in the file written. Where no mask comes after the branches, they
    read what stands in for the absent rows, and ranges are measured on it.

    What computes an absent input from the others stays float: distances in 8 bits choose other neighbours.

    Results of hidden products are rounded too: without that pair ONNX Runtime fuses product and ReLU first, in float
    (seen with 1.32: 1 of 7 products in int8 instead of 7). Logits stay float: rounding them would tie decisions.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds: Iterator[dict[str, np.ndarray[Any, Any]]] = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
            return next(self.feeds, None)

    with quiet(), tempfile.TemporaryDirectory() as scratch:
        opened = Path(scratch) / GRAPH
        model = onnx.load(str(source))
        masks = _open_masks(model.graph) if tells_absence_apart(model.graph) else {}
        onnx.save(model, str(opened))
        convolves = any(node.op_type in CONVOLUTIONS for node in model.graph.node)
        unsigned = activations == "unsigned" or (activations == "auto" and convolves)
        quantize_static(
            str(opened),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8 if unsigned else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax if percentile == 100 else CalibrationMethod.Percentile,
            op_types_to_quantize=list(BESIDE_CONVOLUTIONS if unsigned and convolves else (*PRODUCTS, *CONVOLUTIONS)),
            nodes_to_exclude=products_before_encoders(model.graph, PRODUCTS),
            extra_options={
                "ActivationSymmetric": not unsigned,
                "WeightSymmetric": True,
                "CalibPercentile": percentile,
            },
        )
    model = onnx.load(str(target))
    _close_masks(model.graph, masks)
    _float_output(model.graph)
    strip(model)
    onnx.save(model, str(target))


def _open_masks(graph: Any) -> dict[str, Any]:
    """Let `Where(present, input, filler)` pass the input, in place; return the fillers by the node's output."""
    inputs = {value.name for value in graph.input}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    fillers = {}
    for node in graph.node:
        if node.op_type == "Where" and node.input[1] in inputs and node.input[2] in constants:
            fillers[node.output[0]] = constants[node.input[2]]
            node.input[2] = node.input[1]
    return fillers


def _close_masks(graph: Any, fillers: dict[str, Any]) -> None:
    """Undo `_open_masks`, in place."""
    known = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        filler = fillers.get(node.output[0])
        if filler is None:
            continue
        node.input[2] = filler.name
        if filler.name not in known:
            graph.initializer.append(filler)
            known.add(filler.name)


def _float_output(graph: Any) -> None:
    """Take the rounding pair off the graph's output."""
    name = graph.output[0].name
    maker = {output: node for node in graph.node for output in node.output}
    last = maker[name]
    if last.op_type != "DequantizeLinear":
        return
    rounding = maker[last.input[0]]
    product = maker[rounding.input[0]]
    product.output[0] = name
    graph.node.remove(last)
    graph.node.remove(rounding)


def float_products(path: Path) -> list[str]:
    """Return the names of products and convolutions whose inputs are not both dequantised int8."""
    import onnx

    graph = onnx.load(str(path)).graph
    quantised = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    products = [node for node in graph.node if node.op_type in (*PRODUCTS, *CONVOLUTIONS)]
    return [node.name for node in products if not quantised.issuperset(node.input[:2])]
