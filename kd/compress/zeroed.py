"""What pruning must equal: the original network whose removed channels give zero, on noise and under absence."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kd.compress.channels import Channels
from kd.models.network import blank_rows
from kd.types import Modality

ROWS = 64


@torch.no_grad()
def zeroed(model: nn.Module, removed: Channels) -> nn.Module:
    """Return a copy of a network whose removed channels give zero.

    Args:
        model: the original.
        removed: layers and norms -> output channels.
    """
    twin = copy.deepcopy(model).eval()
    for path, channels in removed.items():
        layer = twin.get_submodule(path)
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.weight[channels] = 0
            if layer.bias is not None:
                layer.bias[channels] = 0
        else:
            twin.set_submodule(path, _KeptOnly(layer, channels))
    return twin


class _KeptOnly(nn.Module):
    """A norm over the channels that are kept, zero in the others."""

    def __init__(self, norm: nn.Module, channels: list[int]) -> None:
        super().__init__()
        self.norm = norm
        self.kept = sorted(set(range(len(norm.weight))) - set(channels))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        if isinstance(self.norm, nn.GroupNorm):
            norm = self.norm
            kept = nn.functional.group_norm(
                x[:, self.kept], norm.num_groups, norm.weight[self.kept], norm.bias[self.kept], norm.eps
            )
        else:  # every channel by itself
            kept = self.norm(x)[:, self.kept]
        y[:, self.kept] = kept
        return y


@torch.no_grad()
def proof(expected: nn.Module, got: nn.Module) -> float:
    """Return the greatest difference of two networks' logits on noise, relative to their scale.

    Half of the rows lack some modalities: what stands in for those is pruned as well.
    """
    modality: Mapping[str, Modality] = got.modality  # type: ignore[assignment]
    inputs, present = blank_rows(got, rows=ROWS)
    draw = torch.Generator().manual_seed(0)
    if getattr(got, "takes_present", True):
        present[ROWS // 2 :] = torch.rand(present[ROWS // 2 :].shape, generator=draw) < 0.5
    noise = {name: _noise(value, modality[name], draw) for name, value in inputs.items()}
    one, other = expected(noise, present).logits, got(noise, present).logits
    return ((one - other).abs().max() / one.abs().max().clamp(min=1e-12)).item()


def _noise(blank: Tensor, modality: Modality, draw: torch.Generator) -> Tensor:
    if blank.is_floating_point():
        return torch.randn(blank.shape, generator=draw)
    return torch.randint(modality.vocabulary or 256, blank.shape, generator=draw, dtype=blank.dtype)
