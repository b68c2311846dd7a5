"""Weights from a file of the user's own: a Lightning checkpoint, a state dict or safetensors; no pickle is run."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kd.errors import ConfigError


def load_weights(network: nn.Module, path: str | Path, prefix: str = "") -> None:
    """Load a checkpoint's weights into a network, every one of them and no others.

    Args:
        network: changed in place.
        path: `.safetensors`, or what `torch.save` wrote: a Lightning checkpoint or a plain state dict.
        prefix: of the names to take, removed from them; names without it are left out.

    Raises:
        ConfigError: no such file, one that holds more than tensors and plain values, or weights of another network.
    """
    state = {name.removeprefix(prefix): value for name, value in read_state(path).items() if name.startswith(prefix)}
    if not state and prefix:
        first = min(read_state(path), default="none")
        raise ConfigError(f"prefix: no weight in {path} begins with {prefix!r}; the first is {first!r}")
    own = network.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unknown:
        what = f"lacks {missing[0]!r}" if missing else f"holds {unknown[0]!r}, which the network has not"
        raise ConfigError(
            f"checkpoint: {path}: {what} ({len(missing)} missing, {len(unknown)} too many of {len(own)}); check the "
            "arguments, and the prefix, with which it was made"
        )
    for name, value in sorted(state.items()):
        if value.shape != own[name].shape:
            raise ConfigError(
                f"checkpoint: {path}: {name!r} has shape {list(value.shape)}, the network's {list(own[name].shape)}; "
                "give the arguments with which it was made"
            )
    network.load_state_dict(state)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name.

    Raises:
        ConfigError: see `load_weights`.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ConfigError(f"checkpoint: {path}: no such file")
    try:
        found: Any = load_file(path) if path.suffix == ".safetensors" else _plain(path)
    except pickle.UnpicklingError:
        raise ConfigError(
            f"checkpoint: {path}: holds objects besides tensors, which would run code when loaded; save it without: "
            'torch.save({"state_dict": module.state_dict()}, path)'
        ) from None
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(f"checkpoint: {path}: not a checkpoint, or damaged ({reason}); save it again") from None
    state = found.get("state_dict", found) if isinstance(found, Mapping) else found
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(
            f"checkpoint: {path}: expected a state dict, plain or as 'state_dict'; save module.state_dict()"
        )
    return {str(name): value for name, value in state.items()}


def _plain(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)
