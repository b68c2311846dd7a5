"""One optimiser for a stack of replicas, each with its own learning rate and weight decay."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from kd.distill import OPTIMIZERS
from kd.errors import ConfigError
from kd.models.leaves import Fold

OWN = ("lr", "weight_decay")
"""Numbers that may differ from replica to replica."""
DECOUPLED = ("adamw",)
"""Optimisers whose weight decay shrinks the weights themselves; the others add it to the gradient."""


def stacked_optimizer(parts: Sequence[Mapping[str, Any]], groups: Sequence[dict[str, Any]], fold: Fold) -> Optimizer:
    """Return an optimiser of stacked parameters.

    Where all replicas have one learning rate and one weight decay it is torch's own. Elsewhere torch's takes a step of
    learning rate 1 and each replica goes its own share of it, which is the same for every optimiser whose step is
    proportional to the learning rate (Adam, AdamW, SGD).

    Args:
        parts: one per replica, of one name.
        groups: of parameters; one with a learning rate of its own has it in every replica.
        fold: of the stack.

    Raises:
        ConfigError: the parts differ in more than learning rate and weight decay.
    """
    given = [_complete(part) for part in parts]
    rest = [{key: value for key, value in part.items() if key not in OWN} for part in given]
    if any(other != rest[0] for other in rest):
        raise ConfigError("optimizer: replicas of one stack share all but lr and weight_decay; stack like with like")
    lr, decay = ([part[key] for part in given] for key in OWN)
    if len(set(lr)) == len(set(decay)) == 1:
        return OPTIMIZERS.build(parts[0], groups)
    for part in parts:  # each is checked as it would be alone
        OPTIMIZERS.build(part, [torch.nn.Parameter(torch.zeros(1))])
    optimizer: Optimizer = OPTIMIZERS.build(
        {**rest[0], "lr": 1.0, "weight_decay": 0.0}, [{k: v for k, v in group.items() if k != "lr"} for group in groups]
    )
    rates = [torch.full((len(parts),), float(group["lr"])) if "lr" in group else torch.tensor(lr) for group in groups]
    shares = _Shares(rates, torch.tensor(decay), fold, decoupled=given[0]["name"] in DECOUPLED)
    optimizer.register_step_pre_hook(shares.before)
    optimizer.register_step_post_hook(shares.after)
    return optimizer


def _complete(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part with the defaults of its factory."""
    known = inspect.signature(OPTIMIZERS[part["name"]].load()).parameters.values()
    return {p.name: p.default for p in known if p.kind is p.KEYWORD_ONLY} | dict(part)


class _Shares:
    """Let every replica go its own share of a step that was taken with a learning rate of 1 (times the schedule)."""

    def __init__(self, rates: Sequence[Tensor], decay: Tensor, fold: Fold, *, decoupled: bool) -> None:
        self.rates, self.decay, self.fold, self.decoupled = rates, decay, fold, decoupled
        self._before: list[list[Tensor]] = []

    @torch.no_grad()
    def before(self, optimizer: Optimizer, *_: Any) -> None:
        for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
            for parameter in group["params"]:
                if not self.decoupled and parameter.grad is not None:
                    parameter.grad.addcmul_(parameter, self._spread(self.decay, parameter))
                elif parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * self._spread(rate * self.decay, parameter))
        self._before = [[p.detach().clone() for p in group["params"]] for group in optimizer.param_groups]

    @torch.no_grad()
    def after(self, optimizer: Optimizer, *_: Any) -> None:
        for group, rate, before in zip(optimizer.param_groups, self.rates, self._before, strict=True):
            for parameter, old in zip(group["params"], before, strict=True):
                torch.lerp(old, parameter, self._spread(rate, parameter), out=parameter)
        self._before = []

    def _spread(self, values: Tensor, parameter: Tensor) -> Tensor:
        return values[self.fold.alive].to(parameter).view(-1, *[1] * (parameter.dim() - 1))
