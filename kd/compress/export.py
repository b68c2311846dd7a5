"""Export to ONNX: the modalities by name and `present` in, `logits` out, any number of rows.

The graph is refused unless it gives the network's own logits on every subset, NaN in all that is hidden.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from kd.compress.context import Context, Evidence, Kind, Model
from kd.compress.graph import LAYER_END, everywhere, note_ranges
from kd.compress.rows import answers, differences
from kd.errors import KDError
from kd.evaluate.predictor import LOGITS, PRESENT, OnnxPredictor, TorchPredictor
from kd.models.network import blank_rows
from kd.types import Modality

SCOPES = "pkg.torch.onnx.name_scopes"
"""Note of the exporter's on every node: the paths of the modules that it stands in, outermost first."""
PARITY_ROWS = 64
"""Rows on which graph and network are compared, under every pattern."""
USUAL, SEVERE = 2, 3
"""From where on ONNX Runtime's own log speaks: warnings, or errors alone."""
ROUNDING = 10.0
"""How many times the network's own error in float32 a graph may be off, where that is more than the tolerance."""


@dataclass(frozen=True, kw_only=True)
class Onnx:
    """Export a network and prove parity.

    Args:
        tolerance: greatest difference of logits allowed, relative to the greatest logit; where the network in float32
            is itself off from float64 by more than a tenth of it, ten times that: sums in another order.
    """

    tolerance: float = 1e-6
    takes: ClassVar[Kind] = "torch"
    gives: ClassVar[Kind] = "onnx"

    def __call__(self, model: Model, context: Context) -> tuple[Model, Evidence]:
        """Return the graph and its `parity_max`.

        Raises:
            KDError: the graph differs from the network.
        """
        graph = export(model)
        expected = answers(TorchPredictor(model), context.rows, limit=PARITY_ROWS)
        got = answers(OnnxPredictor(graph, threads=context.threads), context.rows, limit=PARITY_ROWS)
        evidence: Evidence = differences(expected, got, context.task)
        if not evidence["parity_max"] <= self.tolerance:
            evidence["rounding"] = _rounding(model, context, expected)
        if not evidence["parity_max"] <= max(self.tolerance, ROUNDING * evidence.get("rounding", 0.0)):
            raise KDError(
                f"onnx: the exported graph differs by {evidence['parity_max']:.1e} of the logits' scale, more than "
                f"{self.tolerance:g}; raise onnx.tolerance only if you know why"
            )
        return graph, evidence


def _rounding(model: nn.Module, context: Context, expected: Tensor) -> float:
    """Return how far float32 answers are from float64 ones, relative to their scale; 0 where it cannot be told."""
    try:
        exact = answers(TorchPredictor(copy.deepcopy(model).double()), context.rows, limit=PARITY_ROWS)
    except RuntimeError:  # a network that makes float32 tensors of its own
        return 0.0
    return differences(exact, expected.double(), None)["parity_max"]


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> Tensor:
        return self.model(inputs, present).logits


class _LogitsOfAll(_Logits):
    """Without availability, for a network that cannot do without anything."""

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:  # type: ignore[override]
        return self.model(inputs, torch.empty(0)).logits


def export(model: nn.Module) -> Model:
    """Return a network as an ONNX graph, its weights and learnt ranges inside; rows may be many, and texts shorter.

    Raises:
        KDError: torch cannot trace the network.
    """
    model, (inputs, present) = foldable(model), blank_rows(model)
    modality: Mapping[str, Modality] = model.modality  # type: ignore[assignment]
    shapes: dict[str, Any] = {"inputs": {name: _free(modality[name]) for name in inputs}}
    asked: dict[str, Any] = {"inputs": inputs}
    wrapper: nn.Module = _LogitsOfAll(model)
    names = [*inputs]
    if getattr(model, "takes_present", True):
        shapes["present"], asked["present"] = {0: torch.export.Dim.DYNAMIC}, present
        wrapper, names = _Logits(model), [*names, PRESENT]
    try:
        with quiet():
            program = torch.onnx.export(
                wrapper.eval(),
                kwargs=asked,
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=[LOGITS],
                dynamic_shapes=shapes,
            )
            assert program is not None  # None only where the old exporter writes the file itself
            graph = program.model_proto
    except torch.onnx.errors.OnnxExporterError as error:
        reason = " ".join(str(error).split())[:200]
        raise KDError(f"onnx: this network does not export ({reason}); it must be tensor-only") from error
    name_by_layer(graph)
    name_axes(graph)
    strip(graph)
    if ranges := getattr(model, "ranges", {}):
        note_ranges(graph, ranges)
    return graph


def name_axes(graph: Model) -> None:
    """Call the open axes of inputs and outputs `rows` and, by the text, `words_length`, in place."""
    for value in (*graph.graph.input, *graph.graph.output):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if size.dim_param:
                size.dim_param = "rows" if axis == 0 else f"{value.name}_length"


def _free(modality: Modality) -> dict[int, Any]:
    """Return the axes whose length a graph leaves open: the rows, and the tokens of a text where its network can."""
    rows = {0: torch.export.Dim.DYNAMIC}
    return {**rows, 1: torch.export.Dim.AUTO} if modality.kind == "text" else rows


@torch.no_grad()
def foldable(model: nn.Module) -> nn.Module:
    """Return a copy whose frozen norms have the form that the exporter folds into the convolutions before them."""
    twin = copy.deepcopy(model).eval()
    for path, norm in [(path, layer) for path, layer in twin.named_modules() if isinstance(layer, FrozenBatchNorm2d)]:
        plain = nn.BatchNorm2d(len(norm.weight), eps=norm.eps).eval()
        for name, value in norm.named_buffers():
            plain.get_parameter(name).copy_(value) if name in ("weight", "bias") else plain.get_buffer(name).copy_(
                value
            )
        twin.set_submodule(path, plain)
    return twin


def name_by_layer(graph: Model) -> None:
    """Call every node after the layer that it computes, in place: `encoders.fou.layers.0/linear`."""
    seen: Counter[str] = Counter()
    for node in graph.graph.node:
        scopes = next((note.value for note in node.metadata_props if note.key == SCOPES), "")
        if not scopes:
            continue
        *_, layer, operation = ast.literal_eval(scopes)
        name = f"{layer.removeprefix('model').removeprefix('.')}{LAYER_END}{operation}"
        node.name = f"{name}.{seen[name]}" if seen[name] else name
        seen[name] += 1


def strip(model: Any) -> None:
    """Drop stack traces, shapes of intermediates, unused constants and opsets, in place: half of a small file."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        for note in ("metadata_props", "doc_string"):
            part.ClearField(note)
    graph.ClearField("value_info")
    used = {node.domain for node in graph.node} | {""}
    read = {value.name for value in graph.output}.union(*(node.input for node, _ in everywhere(graph)))
    constants = [tensor for tensor in graph.initializer if tensor.name in read]
    graph.ClearField("initializer")
    graph.initializer.extend(constants)
    kept = [entry for entry in model.opset_import if entry.domain in used]
    model.ClearField("opset_import")
    model.opset_import.extend(kept)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence exporters and quantisers, which print and log what no user can act on."""
    import onnxruntime

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(SEVERE)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        onnxruntime.set_default_logger_severity(USUAL)
