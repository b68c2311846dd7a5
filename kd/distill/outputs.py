"""What frozen teachers give, computed once per (teacher, data, mask) and shared by every student in the run store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from kd.data.source import tensor_digest
from kd.distill.setting import Setting
from kd.distill.teachers import Cached, Frozen, cache, state_digest
from kd.models.imported import addressed
from kd.models.network import Network
from kd.record import code_address, digest, runs_root, write_atomic

DIGEST = "sha256"


def teacher_outputs(teacher: Frozen, setting: Setting) -> Cached:
    """Return what students read of a teacher for every row as the mask shows it, from the store where it is there.

    The file's name is the hash of all that they depend on, so that nothing stale can be found: another weight, row,
    availability or line of code, also of the user's, is another file. It is mapped into memory; one that is cut off or
    changed is computed again.

    Args:
        teacher: of a network of ours or an imported one.
        setting: data and mask.
    """
    path = outputs_path(teacher, setting)
    outputs = _read(path)
    if outputs is None:
        outputs = {n: value.contiguous() for n, value in cache(teacher, setting.chunks()).outputs.items()}
        write_atomic(path, save(outputs, metadata={DIGEST: _digest(outputs)}))
    return Cached(outputs, teacher.sees, teacher.model)


def outputs_path(teacher: Frozen, setting: Setting) -> Path:
    """Return where what is read of a teacher is kept."""
    network, source = teacher.model, setting.source
    columns = [source.modalities.index(name) for name in teacher.sees]
    address = {
        "weights": state_digest(network.state_dict()),
        "network": _built_as(network),
        "sees": teacher.sees,
        "reads": sorted(teacher.reads),
        "data": source.fingerprint,
        "processors": {name: p.digest for name, p in source.processors.items() if name in teacher.sees},
        "available": tensor_digest(setting.available[:, columns]),
        "code": code_address("models", "types"),
        "torch": ".".join(torch.__version__.split(".")[:2]),
    }
    return runs_root() / "outputs" / f"{digest(address)[:32]}.safetensors"


def _built_as(network: torch.nn.Module) -> Any:
    if not isinstance(network, Network):
        return type(network).__qualname__
    # A network of the user's own is told by its code as well.
    return addressed(network.spec) if "import" in network.spec else network.spec


def _read(path: Path) -> dict[str, torch.Tensor] | None:
    """Map a file's tensors into memory; None where it is not there, or not what was written."""
    try:
        with safe_open(path, framework="pt") as file:
            outputs = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            kept = (file.metadata() or {}).get(DIGEST)
    except (OSError, SafetensorError):
        return None
    return outputs if _digest(outputs) == kept else None


def _digest(outputs: Mapping[str, torch.Tensor]) -> str:
    return digest([[name, tensor_digest(outputs[name])] for name in sorted(outputs)])
