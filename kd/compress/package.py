"""A package as passes see it: a folder with weights or a graph, a card, and checksums that are verified on loading."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from kd.distill.view import pattern, subsets
from kd.errors import KDError, RecordError
from kd.evaluate.cost import bytes_on_disk, macs, parameters
from kd.evaluate.predictor import OnnxPredictor, Predictor, TorchPredictor
from kd.models.network import blank_rows
from kd.models.package import CARD, PROCESSORS, load_package, save_package
from kd.record import digest, file_digest, staged_folder, write_atomic
from kd.types import conceal

GRAPH = "model.onnx"
Kind = Literal["torch", "onnx"]


class Rows(Protocol):
    """Rows as a pass reads them; a `kd.types.Batch` is one."""

    @property
    def inputs(self) -> Mapping[str, Tensor]:
        """Modality -> [B, ...]."""
        ...

    @property
    def present(self) -> Tensor:
        """Bool [B, M]."""
        ...


@dataclass(frozen=True)
class Context:
    """What a pass may use besides the package.

    Attributes:
        example: training rows, columns in the package's order of modalities; calibration sees these and no others.
        fit: trains a copy further with the student's own loss and returns it; None where nothing can train.
        seed: of every draw a pass makes.
        threads: of the sessions a pass opens.
    """

    example: Rows
    fit: Callable[[nn.Module], nn.Module] | None = None
    seed: int = 0
    threads: int = 1


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
        model: nn.Module,
        folder: Path,
        *,
        stage: str = "student",
        parent: Package | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> Package:
        """Write a network as a package, its cost on the card.

        Args:
            model: one of `kd.models`.
            folder: replaced whole where it exists.
            stage: name of the step that made it.
            parent: package it was made from.
            evidence: what the step measured.
        """
        extra = {"stage": stage, "cost": network_cost(model), **lineage(parent), "evidence": dict(evidence or {})}
        save_package(model, folder, extra)  # type: ignore[arg-type]
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
        known = self.card.get("cost") or network_cost(self.model())
        return {"parameters": known["parameters"], "macs": known["macs"], "bytes": self.bytes}

    def model(self) -> nn.Module:
        """Load the network, in eval mode; every call gives a new one.

        Raises:
            KDError: an ONNX package holds a graph, not a network.
        """
        if self.kind != "torch":
            raise KDError(
                f"{self.folder}: expected a torch package, got {self.kind}; passes on networks go before onnx"
            )
        return load_package(self.folder)

    def predictor(self, *, threads: int = 1) -> Predictor:
        """Open it for prediction; `threads` holds for ONNX, a network runs on torch's own."""
        if self.kind == "onnx":
            return OnnxPredictor(self.folder / GRAPH, threads=threads)
        return TorchPredictor(self.model())


def save_graph(
    write: Callable[[Path], None], folder: Path, *, stage: str, parent: Package, evidence: Mapping[str, Any]
) -> Package:
    """Write an ONNX package; the graph comes from `write`, all that is the parent's is copied from its card.

    Args:
        write: writes the graph to the path given.
        folder: replaced whole where it exists; untouched where `write` fails.
        stage: name of the step.
        parent: package it was made from.
        evidence: what the step measured.
    """
    with staged_folder(folder) as place:
        write(place / GRAPH)
        write_atomic(place / PROCESSORS, (parent.folder / PROCESSORS).read_bytes())
        card = {
            "kind": "onnx",
            **{key: parent.card[key] for key in ("modalities", "modality", "classes", "class_names", "task")},
            "stage": stage,
            **lineage(parent),
            "cost": {key: value for key, value in parent.cost().items() if key != "bytes"},
            **graph_versions(place / GRAPH),
            "evidence": dict(evidence),
            "checksums": {file: file_digest(place / file) for file in (GRAPH, PROCESSORS)},
        }
        write_atomic(place / CARD, json.dumps(card, indent=1, sort_keys=True) + "\n")
    return Package.load(folder)


def graph_versions(path: Path) -> dict[str, Any]:
    """Return opset by domain and the runtime that an ONNX file was checked with."""
    import onnx
    import onnxruntime

    graph = onnx.load(str(path), load_external_data=False)
    opset = {entry.domain or "ai.onnx": entry.version for entry in graph.opset_import}
    return {"opset": opset, "runtime": f"onnxruntime {onnxruntime.__version__}"}


def lineage(parent: Package | None) -> dict[str, Any]:
    """Return the card's field that names what a package was made from: stage -> content address."""
    return {"parents": {} if parent is None else {parent.stage: parent.digest}}


def network_cost(model: nn.Module) -> dict[str, int]:
    """Return parameters and macs per sample with everything present."""
    return {"parameters": parameters(model), "macs": macs(model.eval(), *blank_rows(model))}


def every_pattern(modalities: list[str]) -> Tensor:
    """Return bool [S, M]: every availability but none at all; beyond 8 modalities a sample, as `subsets` gives it.

    >>> every_pattern(["fou", "zer"]).tolist()
    [[True, False], [False, True], [True, True]]
    """
    return torch.stack([pattern(modalities, subset) for subset in subsets(modalities)])


def hidden(rows: Rows, modalities: list[str], present: Tensor) -> dict[str, Tensor]:
    """Return inputs with garbage wherever `present` is False."""
    return {name: conceal(rows.inputs[name], ~present[:, column]) for column, name in enumerate(modalities)}


def take(rows: Rows, chosen: Tensor | slice) -> Rows:
    """Return some of the rows."""
    return _Taken({name: value[chosen] for name, value in rows.inputs.items()}, rows.present[chosen])


@dataclass(frozen=True)
class _Taken:
    inputs: Mapping[str, Tensor]
    present: Tensor


def differences(one: Predictor, other: Predictor, rows: Rows, task: str, *, limit: int = 64) -> dict[str, float]:
    """Compare two predictors on every subset of modalities, NaN in all that is hidden.

    Only values a row truly has are shown; a row that a subset leaves nothing is compared all the same.

    Args:
        one: the reference.
        other: what was made from it.
        rows: to compare on, at most `limit` of them.
        task: decides what a decision is; regression has none.
        limit: rows per subset.

    Returns:
        parity_max: greatest absolute difference of logits over the greatest absolute logit of the reference, infinite
        where either is not finite; agreement: share of equal decisions over rows and subsets.
    """
    names = list(one.modalities)
    shown = take(rows, slice(limit))
    expected, got = [], []
    for availability in every_pattern(names):
        present = shown.present & availability
        inputs = hidden(shown, names, present)
        expected.append(torch.as_tensor(one(inputs, present)))
        got.append(torch.as_tensor(other(inputs, present)))
    return _compare(torch.cat(expected), torch.cat(got), task)


def _compare(expected: Tensor, got: Tensor, task: str) -> dict[str, float]:
    finite = bool(torch.isfinite(expected).all() and torch.isfinite(got).all())
    scale = expected.abs().max().clamp(min=1e-12)
    found = {"parity_max": ((expected - got).abs().max() / scale).item() if finite else float("inf")}
    if task == "multiclass":
        found["agreement"] = (expected.argmax(1) == got.argmax(1)).double().mean().item()
    if task == "multilabel":
        found["agreement"] = ((expected > 0) == (got > 0)).double().mean().item()
    return found
