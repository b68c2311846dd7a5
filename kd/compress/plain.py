"""Any `torch.nn.Module` as passes see a network: one that knows nothing of absence and needs all of its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kd.compress.rows import Rows, Shown
from kd.errors import ConfigError
from kd.models.network import Network, as_output
from kd.types import Modality, Output

Arguments = Mapping[str, Tensor] | Sequence[Tensor] | Tensor
"""Of a module's forward, each [B, ...]: by name, in order, or the only one."""


class Plain(Network):
    """A module whose arguments are its modalities, always all there.

    Args:
        module: tensors in, logits [B, C] or an object with `.logits` out.
        arguments: an example of what its forward takes; with rows enough, the whole calibration set.

    Raises:
        ConfigError: its forward takes no such arguments, or gives no logits.
    """

    takes_present = False

    def __init__(self, module: nn.Module, arguments: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            example = {name: value[:2] for name, value in arguments.items()}
            logits = as_output(module.eval()(**example)).logits
        super().__init__({name: _modality(value) for name, value in arguments.items()}, logits.shape[-1])
        self.module = module

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> Output:
        """Return logits [B, C] for arguments by name; `present` says nothing."""
        return as_output(self.module(**{name: inputs[name] for name in self.modalities}))


def as_network(model: nn.Module, rows: Rows | Arguments) -> tuple[nn.Module, Rows]:
    """Return a module as a network, and its rows as rows.

    Args:
        model: one of ours, of the user's that maps (inputs, present), or any other module.
        rows: for the first two rows with `inputs` and `present`, for others the arguments of `forward`.

    Raises:
        ConfigError: the rows are not what the module takes.
    """
    if hasattr(model, "modality"):
        if not hasattr(rows, "inputs"):
            raise ConfigError("rows: this network takes modalities; give rows with `inputs` and `present`, as a Batch")
        return model, rows  # type: ignore[return-value]
    if hasattr(rows, "inputs"):
        rows = rows.inputs
    named = _named(model, rows)
    count = len(next(iter(named.values())))
    return Plain(model, named), Shown(named, torch.ones(count, len(named), dtype=torch.bool))


def _named(module: nn.Module, arguments: Arguments) -> dict[str, Tensor]:
    known = list(inspect.signature(module.forward).parameters)
    if isinstance(arguments, Tensor):
        arguments = (arguments,)
    named = dict(arguments) if isinstance(arguments, Mapping) else dict(zip(known, arguments, strict=False))
    wrong = [name for name in named if name not in known]
    if wrong or not named:
        what = f"no argument {wrong[0]!r}" if wrong else "at least one argument"
        raise ConfigError(f"rows: {type(module).__name__}.forward takes {what}; it takes {', '.join(known)}")
    return named


def _modality(value: Any) -> Modality:
    shape = tuple(value.shape[1:])
    if value.dtype == torch.uint8:
        return Modality(shape, "image")
    if value.is_floating_point():
        return Modality(shape)
    return Modality(shape, "text", vocabulary=int(value.max()) + 1)
