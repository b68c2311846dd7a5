"""Packages on disk: `weights.safetensors` + `card.json` with checksums. No pickles.

Loading builds the network from the card and gives every layer the shape that is stored, so that a pruned student loads
like any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from kd.errors import RecordError
from kd.models.classifier import Classifier
from kd.record import file_digest, package_versions, staged_folder, write_atomic

WEIGHTS, CARD = "weights.safetensors", "card.json"


def save_package(model: Classifier, folder: Path, extra: Mapping[str, Any] | None = None) -> Path:
    """Write a network as a package; a folder of that name is replaced whole.

    Args:
        model: any of ours; its `spec` says how to build it.
        folder: where.
        extra: further fields of the card, e.g. stage and parents.
    """
    with staged_folder(folder) as stage:
        state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
        write_atomic(stage / WEIGHTS, save(state))
        card = {
            "kind": "torch",
            "modalities": model.modalities,
            "shapes": {name: list(shape) for name, shape in model.shapes.items()},
            "classes": model.classes,
            "task": model.task,
            "model": model.spec,
            "packages": package_versions(),
            "checksums": {WEIGHTS: file_digest(stage / WEIGHTS)},
            **(extra or {}),
        }
        write_atomic(stage / CARD, json.dumps(card, indent=1, sort_keys=True) + "\n")
    return folder


def load_package(folder: Path) -> Classifier:
    """Load a package in eval mode.

    Raises:
        RecordError: missing, truncated or changed files.
    """
    try:
        card = json.loads((folder / CARD).read_text())
        if file_digest(folder / WEIGHTS) != card["checksums"][WEIGHTS]:
            raise RecordError(f"{folder / WEIGHTS}: not the weights its card was written with; make the package again")
        state = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise RecordError(f"{error.filename}: missing; a package holds {CARD} and {WEIGHTS}") from None
    except (json.JSONDecodeError, KeyError, SafetensorError) as error:
        raise RecordError(f"{folder}: damaged package ({error}); make it again") from None
    spec = dict(card["model"])
    # JSON sorts nothing we rely on, but a card edited by hand might: the mask's columns follow `modalities`.
    shapes = {name: spec["shapes"][name] for name in card["modalities"]}
    model = Classifier(shapes, spec.pop("classes"), **{k: v for k, v in spec.items() if k != "shapes"})
    resize_layers(model, state)
    model.load_state_dict(state)
    return model.eval()


def resize_layers(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give every linear layer the shape its stored weight has."""
    for path, module in model.named_modules():
        stored = state.get(f"{path}.weight")
        if isinstance(module, nn.Linear) and stored is not None and stored.shape != module.weight.shape:
            module.out_features, module.in_features = stored.shape
            module.weight = nn.Parameter(torch.empty_like(stored))
            if module.bias is not None:
                module.bias = nn.Parameter(torch.empty(module.out_features))
