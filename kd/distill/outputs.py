"""What frozen teachers answer, computed once per (teacher, data, mask) and shared by every student in the run store."""

from __future__ import annotations

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

LOGITS, DIGEST = "logits", "sha256"


def teacher_outputs(teacher: Frozen, setting: Setting) -> Cached:
    """Return a teacher's logits for every row of the data as the mask shows it, from the store where they are there.

    The file's name is the hash of all that they depend on, so that nothing stale can be found: another weight, row,
    availability or line of code, also of the user's, is another file. It is mapped into memory; one that is cut off or
    changed is computed again.

    Args:
        teacher: of a network of ours or an imported one.
        setting: data and mask.
    """
    path = outputs_path(teacher, setting)
    logits = _read(path)
    if logits is None:
        logits = cache(teacher, setting.chunks()).logits.contiguous()
        write_atomic(path, save({LOGITS: logits}, metadata={DIGEST: tensor_digest(logits)}))
    return Cached(logits, teacher.sees)


def outputs_path(teacher: Frozen, setting: Setting) -> Path:
    """Return where a teacher's logits are kept."""
    network, source = teacher.model, setting.source
    columns = [source.modalities.index(name) for name in teacher.sees]
    address = {
        "weights": state_digest(network.state_dict()),
        "network": _built_as(network),
        "sees": teacher.sees,
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


def _read(path: Path) -> torch.Tensor | None:
    """Map a file's logits into memory; None where it is not there, or not what was written."""
    try:
        with safe_open(path, framework="pt") as file:
            logits: torch.Tensor = file.get_tensor(LOGITS)
            kept = (file.metadata() or {}).get(DIGEST)
    except (OSError, SafetensorError):
        return None
    return logits if tensor_digest(logits) == kept else None
