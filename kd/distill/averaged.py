"""A student's weights averaged over its steps, which teach it: mean teacher.

    theta'_t = a_t theta'_{t-1} + (1 - a_t) theta_t,        a_t = min(1 - 1 / (t + 1), decay)

Source: Tarvainen and Valpola 2017, 1703.01780, section 2; the smaller decay of the first steps is their code's.
The averaged network sees everything available, with dropout's noise, and its gradient is stopped.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kd.errors import ConfigError


class Averaged(nn.Module):
    """The moving average of a network's parameters, in the checkpoint and outside the optimiser.

    Args:
        network: whose parameters are averaged, one or a stack of them.
        decay: a, in [0, 1); 0 is the network itself.

    Raises:
        ConfigError: the decay is out of its range.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ConfigError(f"decay: expected a number in [0, 1), got {decay}")
        self.decay = decay
        self.names = [name for name, _ in network.named_parameters()]
        for name, value in network.named_parameters():
            self.register_buffer(_key(name), value.detach().clone())
        self.steps: Tensor
        self.register_buffer("steps", torch.tensor(-1))

    @torch.no_grad()
    def follow(self, network: nn.Module, step: int) -> None:
        """Take the weights that a step begins with into the average, once however many batches the step has."""
        if step <= int(self.steps):
            return
        decay = min(1 - 1 / (step + 1), self.decay)
        for name, value in network.named_parameters():
            getattr(self, _key(name)).lerp_(value, 1 - decay)
        self.steps.fill_(step)

    def weights(self, prefix: str = "") -> Mapping[str, Tensor]:
        """Return the averages by the parameters' names, as `torch.func.functional_call` takes them."""
        return {f"{prefix}{name}": getattr(self, _key(name)) for name in self.names}

    def narrow(self, kept: Tensor) -> None:
        """Keep only some replicas of a stack, int64 positions among those that are left."""
        for name in self.names:
            setattr(self, _key(name), getattr(self, _key(name))[kept])


def _key(name: str) -> str:
    """Return a parameter's name as a buffer's, which holds no dots."""
    return name.replace(".", "/")
