"""A package as compression sees it: a folder with weights or a graph, a card, and checksums verified on loading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from kd.compress.context import Kind, Model, kind_of
from kd.errors import KDError, RecordError
from kd.evaluate.cost import bytes_on_disk, macs, parameters
from kd.evaluate.predictor import OnnxPredictor, Predictor, TorchPredictor
from kd.models.network import blank_rows
from kd.models.package import CARD, PROCESSORS, load_package, save_package, write_card
from kd.record import digest, file_digest, staged_folder, write_atomic

GRAPH = "model.onnx"


@dataclass(frozen=True)
class Package:
    """A model on disk.

    Attributes:
        folder: where.
        kind: `torch` (safetensors) or `onnx`.
        card: modalities, modality, classes, task, stage, parents, cost, evidence; opset and runtime where ONNX.
    """

    folder: Path
    kind: Kind
    card: dict[str, Any] = field(repr=False)

    @classmethod
    def load(cls, folder: str | Path) -> Package:
        """Open a package and verify its checksums.

        Raises:
            RecordError: a file is missing, damaged or changed.
        """
        folder = Path(folder)
        try:
            card = json.loads((folder / CARD).read_text())
            kind, checksums, _ = card["kind"], dict(card["checksums"]), card["modalities"]
        except FileNotFoundError:
            raise RecordError(f"{folder}: no package here ({CARD} is missing); make it again") from None
        except (ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise RecordError(f"{folder / CARD}: damaged card ({reason}); make the package again") from None
        if kind not in ("torch", "onnx") or not checksums:
            raise RecordError(
                f"{folder / CARD}: expected kind torch or onnx and checksums, got {kind!r}; make it again"
            )
        for name, expected in checksums.items():
            if not (folder / name).is_file() or file_digest(folder / name) != expected:
                raise RecordError(f"{folder / name}: missing or changed since it was written; make the package again")
        return cls(folder, kind, card)

    @classmethod
    def save(
        cls,
        model: Model,
        folder: Path,
        *,
        stage: str = "student",
        parent: Package | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> Package:
        """Write a network or a graph as a package, its cost on the card.

        Args:
            model: a network of `kd.models`, or a graph that was made from one.
            folder: replaced whole where it exists.
            stage: name of the step that made it.
            parent: package it was made from; a graph's names, classes and processors are copied from its card.
            evidence: what the step measured.
        """
        extra: dict[str, Any] = {"stage": stage, **lineage(parent), "evidence": dict(evidence or {})}
        if kind_of(model) == "torch":
            save_package(model, folder, {**extra, "cost": network_cost(model)})
        else:
            assert parent is not None  # only a graph's parent knows what its logits are called
            _save_graph(model, folder, parent, extra)
        return cls.load(folder)

    @property
    def modalities(self) -> list[str]:
        """Names of the inputs, in the order of the mask's columns."""
        return list(self.card["modalities"])

    @property
    def stage(self) -> str:
        """Name of the step that made it; a model as trained is the student."""
        return str(self.card.get("stage", "student"))

    @property
    def digest(self) -> str:
        """Address of its content: the hash of the files' checksums."""
        return digest(self.card["checksums"])

    @property
    def bytes(self) -> int:
        """Bytes on disk of weights or graph; the card and the processors are the same at every stage."""
        return sum(bytes_on_disk(self.folder / name) for name in self.card["checksums"] if name != PROCESSORS)

    @property
    def evidence(self) -> dict[str, Any]:
        """What the step that made it measured."""
        return dict(self.card.get("evidence", {}))

    def cost(self) -> dict[str, int]:
        """Return parameters, macs (per sample) and bytes."""
        known = self.card.get("cost") or network_cost(self.network())
        return {"parameters": known["parameters"], "macs": known["macs"], "bytes": self.bytes}

    def model(self) -> Model:
        """Load the network, in eval mode, or the graph; every call gives a new one."""
        if self.kind == "torch":
            return load_package(self.folder)
        import onnx

        return onnx.load(str(self.folder / GRAPH))

    def network(self) -> nn.Module:
        """Load the network, in eval mode; every call gives a new one.

        Raises:
            KDError: an ONNX package holds a graph, not a network.
        """
        if self.kind != "torch":
            raise KDError(f"{self.folder}: expected a torch package, got {self.kind}, which holds a graph, no network")
        return load_package(self.folder)

    def predictor(self, *, threads: int = 1) -> Predictor:
        """Open it for prediction; `threads` holds for ONNX, a network runs on torch's own."""
        if self.kind == "onnx":
            return OnnxPredictor(self.folder / GRAPH, threads=threads)
        return TorchPredictor(self.network())


def _save_graph(graph: Model, folder: Path, parent: Package, extra: Mapping[str, Any]) -> None:
    with staged_folder(folder) as place:
        write_atomic(place / GRAPH, graph.SerializeToString())
        write_atomic(place / PROCESSORS, (parent.folder / PROCESSORS).read_bytes())
        card = {
            "kind": "onnx",
            **{key: parent.card[key] for key in ("modalities", "modality", "classes", "class_names", "task")},
            "cost": {key: value for key, value in parent.cost().items() if key != "bytes"},
            **graph_versions(graph),
            **extra,
            "checksums": {file: file_digest(place / file) for file in (GRAPH, PROCESSORS)},
        }
        write_card(card, place)


def graph_versions(graph: Model) -> dict[str, Any]:
    """Return a graph's opset by domain and the runtime that it was checked with."""
    import onnxruntime

    opset = {entry.domain or "ai.onnx": entry.version for entry in graph.opset_import}
    return {"opset": opset, "runtime": f"onnxruntime {onnxruntime.__version__}"}


def lineage(parent: Package | None) -> dict[str, Any]:
    """Return the card's field that names what a package was made from: stage -> content address."""
    return {"parents": {} if parent is None else {parent.stage: parent.digest}}


def network_cost(model: nn.Module) -> dict[str, int]:
    """Return parameters and macs per sample with everything present."""
    return {"parameters": parameters(model), "macs": macs(model.eval(), *blank_rows(model))}
