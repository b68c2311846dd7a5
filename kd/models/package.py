"""Packages on disk: `weights.safetensors`, `processors.json` and `card.json` with checksums, a model card. No pickles.

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
from torchvision.ops import FrozenBatchNorm2d

from kd.errors import KDError, RecordError
from kd.importing import in_words
from kd.models.classifier import Classifier
from kd.models.imported import Imported
from kd.models.model_card import MODEL_CARD, model_card
from kd.models.network import Network
from kd.pretrained import hub_answers
from kd.processors import Processor, load_processor
from kd.record import file_digest, package_versions, runs_root, staged_folder, write_atomic
from kd.types import Modality

WEIGHTS, CARD, PROCESSORS = "weights.safetensors", "card.json", "processors.json"
RESIZED = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.BatchNorm2d, FrozenBatchNorm2d)
"""Layers whose widths are those of what is stored."""
FORMAT = 1
"""Of the card; raised whenever an older version would misread what this one writes."""


def save_package(model: Network, folder: Path, extra: Mapping[str, Any] | None = None) -> Path:
    """Write a network as a package; a folder of that name is replaced whole.

    Args:
        model: its `spec` says how to build it.
        folder: where.
        extra: further fields of the card, e.g. stage and parents.
    """
    with staged_folder(folder) as stage:
        # A copy each: weights that are tied share their bytes, which safetensors refuses.
        state = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
        write_atomic(stage / WEIGHTS, save(state))
        save_processors(model.processors, stage)
        card = {
            "kind": "torch",
            "format": FORMAT,
            "modalities": model.modalities,
            "modality": {name: described.card() for name, described in model.modality.items()},
            "classes": model.classes,
            "task": model.task,
            "class_names": model.class_names,
            "model": model.spec,
            "ranges": model.ranges,
            "packages": package_versions(),
            "checksums": {file: file_digest(stage / file) for file in (WEIGHTS, PROCESSORS)},
            **(extra or {}),
        }
        write_card(card, stage)
    return folder


def write_card(card: Mapping[str, Any], folder: Path) -> None:
    """Write a package's card, for programs and for people."""
    write_atomic(folder / CARD, json.dumps(card, indent=1, sort_keys=True) + "\n")
    write_atomic(folder / MODEL_CARD, model_card(card))


def save_processors(processors: Mapping[str, Processor], folder: Path) -> None:
    """Write what turns raw values into a network's inputs, by modality."""
    state = {name: processor.state() for name, processor in processors.items()}
    write_atomic(folder / PROCESSORS, json.dumps(state, sort_keys=True) + "\n")


def load_processors(folder: Path, modality: Mapping[str, Modality]) -> dict[str, Processor]:
    """Read what `save_processors` wrote.

    Raises:
        RecordError: the file is damaged, or what comes out is not what the network takes.
    """
    path, found = folder / PROCESSORS, {}
    try:
        for name, state in json.loads(path.read_text()).items():
            found[name] = load_processor(state)
    except KDError as error:
        raise RecordError(f"{path}: {error}") from None
    except Exception as error:  # a tokenizer's state is read by a library that raises plain exceptions
        raise RecordError(f"{path}: damaged ({in_words(error)}); make the package again") from None
    for name, processor in found.items():
        if name not in modality or not _gives(processor.modality, modality[name]):
            raise RecordError(f"{path}: {name} is not what the network takes; make the package again")
    return found


def _gives(made: Modality, taken: Modality) -> bool:
    same = (made.kind, made.shape, made.pad) == (taken.kind, taken.shape, taken.pad)
    return same and made.vocabulary <= taken.vocabulary


def package_folder(name: str | Path) -> Path:
    """Return the folder of a package: the one named, or a downloaded copy of a hub's `owner/name`.

    Raises:
        RecordError: there is neither.
    """
    if Path(name).exists():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(str(name))
        # Nothing else is read, so nothing else is fetched.
        files = [CARD, WEIGHTS, PROCESSORS]
        return Path(snapshot_download(str(name), allow_patterns=files, local_files_only=not hub_answers()))
    except HFValidationError:
        raise RecordError(f"{name}: no such folder, and no name a hub could know") from None
    except Exception as error:  # no connection, no such repository and no permission share no class
        raise RecordError(
            f"{name}: no such folder, and no hub gives it ({in_words(error)}); name a package's folder"
        ) from None


def load_package(folder: Path, *, imports: bool = False) -> Network:
    """Load a package in eval mode.

    Args:
        folder: of the package.
        imports: run the code that it names, where its network is an imported one; a package in the run store, which was
            made here, needs no permission.

    Raises:
        RecordError: missing, truncated or changed files, a newer version's package, or code that nobody allowed.
    """
    card = _read_card(folder)
    try:
        # The mask's columns follow `modalities`; JSON's own order decides nothing.
        modality = {name: Modality.of(card["modality"][name]) for name in card["modalities"]}
        state = load_file(folder / WEIGHTS)
        if "import" in card["model"] and not (imports or _made_here(folder)):
            code = card["model"]["import"]
            raise RecordError(f"{folder}: this package runs the code of {code}; pass imports=True if you trust it")
        model: Network
        if "import" in card["model"]:
            model = Imported(modality, card["classes"], card["model"], task=card["task"])
        else:
            model = Classifier(modality, card["classes"], task=card["task"], **card["model"])
        model.processors = load_processors(folder, modality)
        model.class_names = _class_names(card)
        model.ranges = {path: (float(low), float(high)) for path, (low, high) in card.get("ranges", {}).items()}
    except RecordError:
        raise
    except KDError as error:
        raise RecordError(f"{folder}: {str(error).splitlines()[0]}") from None
    except (AttributeError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise RecordError(f"{folder}: damaged package ({in_words(error)}); make it again") from None
    resize_layers(model, state)
    if isinstance(model, Classifier) and model.head.out_features != model.classes:
        raise RecordError(
            f"{folder / CARD}: {model.classes} classes for {model.head.out_features} logits; make it again"
        )
    _load_state(model, state, folder)
    return model.eval()


def _read_card(folder: Path) -> dict[str, Any]:
    """Return the card of a package whose files are the ones it was written with.

    Raises:
        RecordError: a file is missing or changed, or the card is damaged or a newer version's.
    """
    try:
        card = json.loads((folder / CARD).read_text())
        if card.get("format", FORMAT) > FORMAT:
            raise RecordError(
                f"{folder / CARD}: format {card['format']} is newer than {FORMAT}, which this version reads; upgrade kd"
            )
        if card["kind"] != "torch":
            raise RecordError(f"{folder / CARD}: this package holds a {card['kind']} graph, not a network to load")
        for file in (WEIGHTS, PROCESSORS):
            if file_digest(folder / file) != card["checksums"][file]:
                raise RecordError(f"{folder / file}: not the one its card was written with; make the package again")
    except OSError as error:
        raise RecordError(
            f"{error.filename}: missing or unreadable; a package holds {CARD}, {WEIGHTS} and {PROCESSORS}"
        ) from None
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise RecordError(f"{folder / CARD}: damaged card ({in_words(error)}); make the package again") from None
    return card


def _class_names(card: Mapping[str, Any]) -> list[str]:
    names = [str(name) for name in card.get("class_names", [])]
    if names and len(names) != card["classes"]:
        raise ValueError(f"{len(names)} class names for {card['classes']} classes")
    return names


def _made_here(folder: Path) -> bool:
    return folder.resolve().is_relative_to(runs_root().resolve())


def _load_state(model: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
    """Load stored tensors; versions of layers are the installed library's, as safetensors stores none."""
    own = model.state_dict()
    wrong = sorted(own.keys() ^ state.keys()) or [key for key in own if own[key].shape != state[key].shape]
    if wrong:
        raise RecordError(
            f"{folder / WEIGHTS}: not the weights of the network on its card ({wrong[0]}); make the package again"
        )
    own.update(state)
    model.load_state_dict(own)


def resize_layers(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give every linear, convolutional and normalising layer the shape its stored weight has."""
    for path, module in model.named_modules():
        stored = state.get(f"{path}.weight")
        if stored is None or not isinstance(module, RESIZED):
            continue
        if stored.dim() == module.weight.dim() and stored.shape != module.weight.shape:
            _resize(module, stored)


def _resize(module: nn.Module, stored: Tensor) -> None:
    width = stored.shape[0]
    for name, value in list(module.named_buffers()):
        if value.dim() == 1:
            setattr(module, name, value.new_empty(width))
    if isinstance(module, FrozenBatchNorm2d):
        return
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = stored.shape
    elif isinstance(module, nn.Conv2d):
        # One filter per channel stays that; other convolutions keep the number of their groups.
        module.groups = width if module.groups == module.in_channels > 1 else module.groups
        module.out_channels, module.in_channels = width, stored.shape[1] * module.groups
    elif isinstance(module, nn.GroupNorm):
        module.num_channels = width
    elif isinstance(module, nn.BatchNorm2d):
        module.num_features = width
    module.weight = nn.Parameter(torch.empty_like(stored))
    if module.bias is not None:
        module.bias = nn.Parameter(torch.empty(width))
