"""Encoders of vectors: a modality's input [B, ...] -> tokens [B, T, D] and keep bool [B, T] (T = 1 for vectors).

Source of the MLP: released code of Wang et al., KDD 2020 (Linear-ReLU-Dropout(.5), twice).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.pretrained import STORED
from kd.types import Modality


class Encoder(nn.Module):
    """Base of all encoders.

    Attributes:
        takes: kinds of modality it can read.
        costly: worth skipping for rows that lack the modality, where the executor allows it.
        replicable: runs under `vmap`.
        initialises_children: its `reset_parameters` draws everything below it (see `kd.seeding.initialise`).
    """

    takes: tuple[str, ...] = ("vector",)
    costly = False
    replicable = True
    initialises_children = False

    @property
    def spec(self) -> dict[str, Any] | None:
        """The part that builds it once its weights come with a package; None where the part it was built from does."""
        return None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode x [B, ...] to tokens [B, T, D] and keep bool [B, T], True for tokens that stand for something."""
        raise NotImplementedError


class Borrowed(Encoder):
    """Base of encoders around a network of another library, its weights drawn, given, or given and frozen.

    Attributes:
        network: the other library's.
        pretrained: where its weights come from; None draws them.
        frozen: it stays as it is, in eval mode; only the map to the shared width trains.
        weights: what a config can name, for errors.
    """

    costly = True
    replicable = False
    initialises_children = True
    network: nn.Module
    pretrained: str | None = None
    frozen = False
    weights = ""

    def fresh(self) -> nn.Module:
        """Return the network with newly drawn weights."""
        raise NotImplementedError

    def last(self) -> nn.Module:
        """Return the map to the shared width, which is always drawn."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw what is not pre-trained.

        Raises:
            ConfigError: the weights should have come with a package.
        """
        if self.pretrained == STORED:
            raise ConfigError(f"pretrained: {STORED!r} means weights inside a package; name {self.weights}")
        if self.pretrained is None:
            self.network.load_state_dict(self.fresh().state_dict())
        self.last().reset_parameters()  # type: ignore[operator]

    def train(self, mode: bool = True) -> Self:
        """Set the mode; what is frozen stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.network.eval()
        return self


def check_dropout(dropout: float) -> None:
    """Refuse what is no probability in [0, 1)."""
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout: expected a probability in [0, 1), got {dropout}")


def check_positive(**numbers: int) -> None:
    """Refuse the first of the named numbers that is below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ConfigError(f"{name}: expected at least 1, got {number}")


def check_widths(name: str, widths: Sequence[int]) -> None:
    """Refuse widths of layers below 1."""
    if min(widths, default=1) < 1:
        raise ConfigError(f"{name}: expected widths of at least 1, got {list(widths)}")


class Standardise(nn.Module):
    """`(x - mean) / deviation` with constants fitted on training rows; users pass raw features.

    Constant features have deviation 1. NaN counts in no constant, and where `holes` are allowed it becomes the mean.

    Args:
        width: F, size of the last axis.
        holes: replace NaN.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, *, holes: bool = False) -> None:
        super().__init__()
        self.holes = holes
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Fit to rows [..., F] that are present; the caller chooses and records them."""
        x = x.double().reshape(-1, len(self.mean))
        mean = x.nanmean(dim=0).nan_to_num()
        deviation = (x - mean).square().nanmean(dim=0).sqrt()
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 0, deviation, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        if self.holes:
            x = torch.where(x.isnan(), self.mean, x)
        return (x - self.mean) / self.deviation


class _VectorEncoder(Encoder):
    """Flatten, standardise, map to one token of width D."""

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        self.features = math.prod(modality.shape)
        self.standardise = Standardise(self.features, holes=modality.holes)
        self.layers = nn.Sequential()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode x [B, ...] to one token each: [B, 1, D], all kept."""
        tokens = self.layers(self.standardise(x.flatten(1))).unsqueeze(1)
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=x.device)


class Linear(_VectorEncoder):
    """One linear map.

    Args:
        modality: a vector.
        width: D.
    """

    def __init__(self, modality: Modality, width: int, /) -> None:
        super().__init__(modality)
        self.layers = nn.Sequential(nn.Linear(self.features, width))


class MLP(_VectorEncoder):
    """The branch of KDD 2020: hidden layers with ReLU and dropout, the last of width D.

    Args:
        modality: a vector.
        width: D, of the last layer.
        hidden: widths of the layers before it.
        dropout: probability in [0, 1) after every layer.
    """

    def __init__(
        self, modality: Modality, width: int, /, *, hidden: Sequence[int] = (64,), dropout: float = 0.5
    ) -> None:
        super().__init__(modality)
        check_dropout(dropout)
        check_widths("hidden", hidden)
        widths = [self.features, *hidden, width]
        layers: list[nn.Module] = []
        for inward, outward in pairwise(widths):
            layers += [nn.Linear(inward, outward), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)
