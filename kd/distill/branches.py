"""A learning rate per branch of a network: small ones for pre-trained parts, 0 for what stays as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn import Parameter

from kd.errors import ConfigError
from kd.registry import suggest


def branch(model: nn.Module, name: str) -> str:
    """Return the path of a branch: a modality's encoder by the modality's name, or a path, the user's own too.

    Raises:
        ConfigError: the network has no such branch; with the nearest name.
    """
    paths = {path for path, _ in model.named_modules() if path} | {path for path, _ in model.named_parameters()}
    for path in (f"encoders.{name}", name, f"network.{name}"):
        if path in paths:
            return path
    held = [path for path, module in model.named_modules() if path and any(True for _ in module.parameters())]
    near = [path.removeprefix("network.").removeprefix("encoders.") for path in held]
    near = [short for short in near if "." not in short and short not in ("network", "encoders")]
    raise ConfigError(f"learning_rates.{name}: the network has no such branch; {suggest(name, near)}")


def branches(model: nn.Module, learning_rates: Mapping[str, float]) -> dict[str, float]:
    """Return path -> learning rate, checked.

    Raises:
        ConfigError: every unknown branch, and every rate that is no number of at least 0.
    """
    found, faults = {}, []
    for name, rate in sorted(learning_rates.items()):
        if not (rate >= 0 and math.isfinite(rate)):
            faults.append(f"learning_rates.{name}: expected a number of at least 0, got {rate}")
            continue
        try:
            found[branch(model, name)] = rate
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return found


def frozen(model: nn.Module, rates: Mapping[str, float]) -> list[nn.Module]:
    """Stop the gradient of everything whose rate is 0 and return those modules, which stay in eval mode."""
    for name, parameter in model.named_parameters():
        if _rate(name, rates) == 0:
            parameter.requires_grad_(False)
    return [module for path, module in model.named_modules() if path and _rate(path, rates) == 0]


def parameter_groups(model: nn.Module, rest: list[Parameter], rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return an optimiser's groups: what no branch names under the optimiser's own rate, then a group per branch.

    A parameter belongs to the longest path that holds it; branches at rate 0 are left out. Each group's step is one
    kernel (`fused`). That is said per group and not to the optimiser, which would then claim to undo a loss scaler's
    work, and Lightning would refuse to clip.

    Args:
        model: the network.
        rest: parameters outside it, such as an objective's.
        rates: path -> learning rate, from `branches`.
    """
    named = list(model.named_parameters())
    plain = [parameter for name, parameter in named if _rate(name, rates) is None] + rest
    groups: list[dict[str, Any]] = [{"params": plain}] if plain else []
    for path in sorted(rates):
        own = [parameter for name, parameter in named if _holder(name, rates) == path]
        if rates[path] > 0 and own:
            groups.append({"params": own, "lr": rates[path]})
    if not groups:
        raise ConfigError(
            "learning_rates: every branch is at 0, so nothing would be trained; raise one or set steps: 0"
        )
    return [{**group, "fused": True} for group in groups]


def _holder(name: str, rates: Mapping[str, float]) -> str | None:
    return max((path for path in rates if f"{name}.".startswith(f"{path}.")), key=len, default=None)


def _rate(name: str, rates: Mapping[str, float]) -> float | None:
    holder = _holder(name, rates)
    return None if holder is None else rates[holder]
