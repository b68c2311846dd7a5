"""Export to ONNX: the modalities by name and `present` in, `logits` out, any number of rows.

The graph is refused unless it gives the network's own logits on every subset, NaN in all that is hidden.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kd.compress.package import Context, Kind, Package, differences, save_graph
from kd.errors import KDError
from kd.evaluate.predictor import LOGITS, PRESENT, OnnxPredictor, TorchPredictor
from kd.models.network import blank_rows


@dataclass(frozen=True, kw_only=True)
class Onnx:
    """Export a torch package and prove parity.

    Args:
        tolerance: greatest difference of logits allowed, relative to the greatest logit.
    """

    tolerance: float = 1e-6
    stage: ClassVar[str] = "onnx"
    takes: ClassVar[Kind] = "torch"
    gives: ClassVar[Kind] = "onnx"

    def __call__(self, package: Package, context: Context, folder: Path) -> Package:
        """Write an ONNX package with `parity_max` on its card.

        Raises:
            KDError: the graph differs from the network; nothing is written.
        """
        model = package.model()
        evidence: dict[str, float] = {}

        def write(path: Path) -> None:
            export(model, path)
            exported = OnnxPredictor(path, threads=context.threads)
            found = differences(TorchPredictor(model), exported, context.example, package.card["task"])
            if not found["parity_max"] <= self.tolerance:
                raise KDError(
                    f"onnx: the exported graph differs by {found['parity_max']:.1e} of the logits' scale, more than "
                    f"{self.tolerance:g}; raise onnx.tolerance only if you know why"
                )
            evidence.update(found)

        return save_graph(write, folder, stage=self.stage, parent=package, evidence=evidence)


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> Tensor:
        return self.model(inputs, present).logits


def export(model: nn.Module, path: Path) -> None:
    """Write a network as one ONNX file with dynamic rows, its weights inside.

    Raises:
        KDError: torch cannot trace the network.
    """
    import onnx

    inputs, present = blank_rows(model)
    rows = torch.export.Dim.DYNAMIC
    try:
        with quiet():
            program = torch.onnx.export(
                _Logits(model).eval(),
                (inputs, present),
                dynamo=True,
                verbose=False,
                input_names=[*inputs, PRESENT],
                output_names=[LOGITS],
                dynamic_shapes={"inputs": {name: {0: rows} for name in inputs}, "present": {0: rows}},
            )
            assert program is not None  # None only where the old exporter writes the file itself
            graph = program.model_proto
        strip(graph)
        onnx.save(graph, str(path))
    except torch.onnx.errors.OnnxExporterError as error:
        reason = " ".join(str(error).split())[:200]
        raise KDError(f"onnx: this network does not export ({reason}); it must be tensor-only") from error


def strip(model: Any) -> None:
    """Drop stack traces, shapes of intermediates and unused opsets, in place: half of a small student's file."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        for note in ("metadata_props", "doc_string"):
            part.ClearField(note)
    graph.ClearField("value_info")
    used = {node.domain for node in graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    model.ClearField("opset_import")
    model.opset_import.extend(kept)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence exporters and quantisers, which print and log what no user can act on."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
