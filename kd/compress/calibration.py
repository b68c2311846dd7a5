"""What a quantiser is shown: training rows under every missing pattern, and the ranges of activations on them."""

from __future__ import annotations

import copy
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from kd.compress.context import Context, Model
from kd.compress.graph import (
    CONVOLUTIONS,
    PRODUCTS,
    computing,
    constants,
    noted_ranges,
    products_before_encoders,
    tells_absence_apart,
)
from kd.compress.kernels import Feed
from kd.compress.rows import every_pattern, take
from kd.errors import KDError
from kd.evaluate.predictor import PRESENT

BESIDE_CONVOLUTIONS = ("Add", "Relu", "MaxPool")
"""What is quantised between convolutions, where nothing goes back to float."""
Activations = Literal["auto", "signed", "unsigned"]
BATCH = 64


def calibration(context: Context, names: Sequence[str], rows: int) -> list[Feed]:
    """Return feeds of training rows, each row under one of the missing patterns in turn.

    What is hidden or missing holds another row's value of that modality, so that a branch is calibrated on real values
    only (see `Calibrated`); a row that a pattern leaves nothing keeps what it has.

    Args:
        context: rows and seed.
        names: inputs of the graph; without `present` among them every row is shown whole.
        rows: at most.

    Raises:
        KDError: there are no rows.
    """
    modalities = [name for name in names if name != PRESENT]
    held = context.rows.present
    if len(held) == 0 or rows < 1:
        raise KDError("rows: expected calibration rows, got none; give training rows in the context")
    draw = torch.Generator().manual_seed(context.seed)
    chosen = torch.randperm(len(held), generator=draw)[:rows]
    patterns = every_pattern(modalities)
    patterns = patterns[torch.randperm(len(patterns), generator=draw)]
    wanted = held[chosen] & patterns[torch.arange(len(chosen)) % len(patterns)]
    present = torch.where(wanted.any(1, keepdim=True), wanted, held[chosen])
    shown = take(context.rows, chosen)
    inputs = {name: _filled(shown.inputs[name], shown.present[:, m], draw) for m, name in enumerate(modalities)}
    if PRESENT in names:
        inputs[PRESENT] = present
    return [
        {name: value[part].numpy() for name, value in inputs.items()} for part in torch.arange(len(chosen)).split(BATCH)
    ]


def _filled(x: Tensor, present: Tensor, draw: torch.Generator) -> Tensor:
    """Return x [B, ...] with values of random present rows in the rows that are absent, zeros if there are none."""
    donors = present.nonzero().flatten()
    if len(donors) == 0:
        return torch.zeros_like(x)
    borrowed = donors[torch.randint(len(donors), (len(x),), generator=draw)]
    return x[torch.where(present, torch.arange(len(x)), borrowed)]


def fitting(graph: Model, wanted: Activations) -> Activations:
    """Return unsigned for auto where convolutions are, products that share what they read, or ranges that were learnt.

    ONNX Runtime on x86 makes unsigned what is signed, but not where several read it: those products stayed float (seen
    with 1.32: 9 of 17 products of a BERT in int8 instead of 17).
    """
    if wanted != "auto":
        return wanted
    readers = Counter(name for node in graph.graph.node for name in node.input)
    shared = any(readers[node.input[0]] > 1 for node in computing(graph, PRODUCTS))
    return "unsigned" if shared or computing(graph, CONVOLUTIONS) or noted_ranges(graph) else "signed"


class Calibrated:
    """A float graph and the ranges of its activations, from which int8 graphs are made; a context manager.

    Rows that lack a modality must not set its branch's range: a filler 0 is far outside standardised data wherever the
    mean is far from 0. So the masks on the inputs stand open while ranges are measured; those after the branches, on
    which the fusion depends, stay, and all are closed in the graphs made. Where no mask comes after the branches, they
    read what stands in for the absent rows, and ranges are measured on it. Where a graph notes learnt ranges, those are
    used.

    Args:
        graph: float.
        feeds: calibration rows.
        activations: see `kd.compress.quantise.StaticInt8`.
        percentile: of activations that their range holds.
    """

    def __init__(self, graph: Model, feeds: Sequence[Feed], *, activations: Activations, percentile: float) -> None:
        import onnx

        self.feeds, self.percentile = feeds, percentile
        opened = copy.deepcopy(graph)
        self.masks = _open_masks(opened) if tells_absence_apart(graph) else {}
        self.unsigned = fitting(graph, activations) == "unsigned"
        self.learnt = noted_ranges(graph)
        # What computes an absent input from the others stays float: distances in 8 bits choose other neighbours.
        self.always_float = [*products_before_encoders(graph), *_apart_from_convolutions(graph)]
        self._scratch = tempfile.TemporaryDirectory()
        self._folder = Path(self._scratch.name)
        onnx.save(opened, str(self._folder / "float.onnx"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()

    def quantised(self, leaving: Sequence[str] = ()) -> Model:
        """Return the int8 graph: weights signed, 7 bits, per channel; pairs around every product and convolution.

        Seven, so that x86 before VNNI, which adds two products of bytes in 16 bits, answers as every other processor.

        Results of hidden products are rounded too: without that pair ONNX Runtime fuses product and ReLU first, in
        float (seen with 1.32: 1 of 7 products in int8 instead of 7). Logits stay float: rounding would tie decisions.

        Args:
            leaving: names of nodes that stay float.
        """
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        from kd.compress.export import quiet, strip

        folder = self._folder
        kinds = [*PRODUCTS, *CONVOLUTIONS, *(BESIDE_CONVOLUTIONS if self.unsigned else ())]
        with quiet():
            quantize_static(
                str(folder / "float.onnx"),
                str(folder / "int8.onnx"),
                _reader(self.feeds),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8 if self.unsigned else QuantType.QInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=True,
                calibrate_method=CalibrationMethod.MinMax if self.percentile == 100 else CalibrationMethod.Percentile,
                op_types_to_quantize=kinds,
                nodes_to_exclude=[*self.always_float, *leaving],
                # Measured once: later graphs of the same calibration read them.
                calibration_cache_path=folder / "ranges.json",
                extra_options={
                    "ActivationSymmetric": not self.unsigned,
                    "WeightSymmetric": True,
                    "CalibPercentile": self.percentile,
                    "TensorQuantOverrides": _overrides(self.learnt),
                },
            )
        made = onnx.load(str(folder / "int8.onnx"))
        _close_masks(made, self.masks)
        for value in made.graph.output:
            _float_output(made.graph, value.name)
        strip(made)
        return made


def _apart_from_convolutions(graph: Model) -> list[str]:
    """Return the names of additions, ReLUs and poolings that read nothing of a convolution, not even through others.

    In 8 bits they would only round: a sum of tokens to the scale of the largest, which the next normalisation enlarges.
    """
    near = {name for node in computing(graph, CONVOLUTIONS) for name in node.output}
    apart = []
    for node in computing(graph, BESIDE_CONVOLUTIONS):  # what makes an input comes before what reads it
        if near.isdisjoint(node.input):
            apart.append(node.name)
        else:
            near.update(node.output)
    return apart


def _overrides(ranges: Mapping[str, tuple[float, float]]) -> dict[str, list[dict[str, Any]]]:
    return {name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in ranges.items()}


def _reader(feeds: Sequence[Feed]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds: Iterator[Feed] = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self.feeds, None)

    return Reader()


def _open_masks(graph: Model) -> dict[str, Any]:
    """Let `Where(present, input, filler)` pass the input, in place; return the fillers by the node's output.

    Without `present` a graph has no such masks: what it fills in itself, its ranges are to hold.
    """
    inputs, known = {value.name for value in graph.graph.input}, constants(graph)
    if PRESENT not in inputs:
        return {}
    fillers = {}
    for node in computing(graph, ["Where"]):
        if node.input[1] in inputs and node.input[2] in known:
            fillers[node.output[0]] = known[node.input[2]]
            node.input[2] = node.input[1]
    return fillers


def _close_masks(graph: Model, fillers: Mapping[str, Any]) -> None:
    """Undo `_open_masks`, in place."""
    known = set(constants(graph))
    for node in graph.graph.node:
        filler = fillers.get(node.output[0])
        if filler is None:
            continue
        node.input[2] = filler.name
        if filler.name not in known:
            graph.graph.initializer.append(filler)
            known.add(filler.name)


def _float_output(graph: Any, name: str) -> None:
    """Take the rounding pair off an output, where nothing else reads what it rounds."""
    maker = {output: node for node in graph.node for output in node.output}
    readers = [read for node in graph.node for read in node.input]
    last = maker.get(name)
    if last is None or last.op_type != "DequantizeLinear" or last.input[0] not in maker:
        return
    rounding = maker[last.input[0]]
    product = maker.get(rounding.input[0])
    if product is None or readers.count(last.input[0]) > 1 or readers.count(rounding.input[0]) > 1:
        return
    place = list(product.output).index(rounding.input[0])
    product.output[place] = name
    graph.node.remove(last)
    graph.node.remove(rounding)
