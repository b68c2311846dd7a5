"""The leaves of a stack of R networks: layers with R sets of parameters, called on R * B rows at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.models.encoders import Standardise
from kd.models.noise import Normal, Uniform


class Fold:
    """What every leaf of a stack has to know: how many replicas there are, and where dropout's bits come from.

    Args:
        replicas: R, of the stack as it was made.
    """

    def __init__(self, replicas: int) -> None:
        self.made_of = replicas
        self.alive = torch.arange(replicas)
        self.generator = torch.Generator()
        self.rows = 0

    @property
    def replicas(self) -> int:
        """How many replicas are left."""
        return len(self.alive)

    def unfold(self, x: Tensor) -> Tensor:
        """Return [R * B, ...] as [R, B, ...]."""
        return x.unflatten(0, (self.replicas, -1))

    def spread(self, values: Tensor, rows: int) -> Tensor:
        """Return one value per row [rows] from one per replica of the stack as it was made."""
        return values[self.alive].repeat_interleave(rows // self.replicas)

    def keep(self, x: Tensor, probability: float) -> Tensor:
        """Return what dropout multiplies x by: 0 with a probability, else 1 / (1 - probability), of x's shape.

        Drawn for the stack as it was made, so that a replica's noise does not depend on which others are left. A half
        takes one random bit per element; any other probability takes 16, which rounds it to a multiple of 2^-16.
        """
        each = x.numel() // self.replicas
        words = -(-each // (64 if probability == 0.5 else 4))
        drawn = torch.empty(self.made_of, words, dtype=torch.int64, device=x.device)
        drawn = drawn.random_(-(2**63), None, generator=self.generator)
        if self.replicas < self.made_of:
            drawn = drawn[self.alive]
        if probability == 0.5:
            kept = _halves(x.device, x.dtype).index_select(0, drawn.view(torch.uint8).flatten().int())
        else:
            least = round(probability * 2**16) - 2**15
            kept = (drawn.view(torch.int16) >= least) * torch.tensor(1 / (1 - probability), dtype=x.dtype)
        return kept.view(self.replicas, -1)[:, :each].reshape(x.shape)

    def noise(self, x: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        """Return noise of x's shape from `torch.randn` or `torch.rand`, drawn for the stack as it was made."""
        each = x.numel() // self.replicas
        drawn = draw(self.made_of, each, generator=self.generator, dtype=x.dtype).to(x.device)
        return (drawn[self.alive] if self.replicas < self.made_of else drawn).reshape(x.shape)


NARROW = 16
"""Outputs from which on a stack holds a linear layer's weights as [R, in, out], as products read and write them."""
_TABLES: dict[tuple[torch.device, torch.dtype], Tensor] = {}


def _halves(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return [256, 8]: for every byte, 2 where a bit is set and 0 elsewhere."""
    if (device, dtype) not in _TABLES:
        bits = torch.arange(256).unsqueeze(1) >> torch.arange(8) & 1
        _TABLES[device, dtype] = (2 * bits).to(device, dtype)
    return _TABLES[device, dtype]


def _linear(layer: nn.Linear, fold: Fold, x: Tensor) -> Tensor:
    rows = x.reshape(fold.replicas, -1, x.shape[-1])  # [R, B * ..., in]
    if layer.out_features < NARROW:
        out = _Narrow.apply(rows, layer.weight)
        out = out if layer.bias is None else out + layer.bias.unsqueeze(1)
    elif layer.bias is None:
        out = torch.bmm(rows, layer.weight)
    else:
        out = torch.baddbmm(layer.bias.unsqueeze(1), rows, layer.weight)
    return out.view(*x.shape[:-1], -1)


class _Hidden(torch.autograd.Function):
    """Dropout of max(0, x w + b), in the memory of the product: its zeros say where no gradient passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, fold: Fold, dropout: float) -> Tensor:
        out = torch.baddbmm(bias.unsqueeze(1), x, weight).relu_()
        if dropout > 0:
            out.mul_(fold.keep(out, dropout))
        ctx.save_for_backward(x, weight, out)
        ctx.dropout = dropout
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        x, weight, out = ctx.saved_tensors
        passed = torch.ops.aten.threshold_backward(gradient, out, 0)
        if ctx.dropout > 0:
            passed.mul_(1 / (1 - ctx.dropout))
        back = torch.bmm(passed, weight.transpose(1, 2)) if ctx.needs_input_grad[0] else None
        return back, torch.bmm(x.transpose(1, 2), passed), passed.sum(dim=1), None, None


def _hidden(layer: nn.Linear, dropout: nn.Dropout, fold: Fold, x: Tensor) -> Tensor:
    rows = x.reshape(fold.replicas, -1, x.shape[-1])
    out: Tensor = _Hidden.apply(rows, layer.weight, layer.bias, fold, dropout.p if dropout.training else 0.0)
    return out.view(*x.shape[:-1], -1)


def _as_it_is(x: Tensor) -> Tensor:
    return x


def join_hidden(layers: nn.Sequential, fold: Fold) -> None:
    """Let each linear layer of a stacked chain do the ReLU and dropout after it too; they then pass on what it gave."""
    chain: list[Any] = list(layers)
    for layer, rectifier, dropout in zip(chain, chain[1:], chain[2:], strict=False):
        if [type(layer), type(rectifier), type(dropout)] != [nn.Linear, nn.ReLU, nn.Dropout]:
            continue
        if layer.out_features >= NARROW and layer.bias is not None:
            layer.forward = partial(_hidden, layer, dropout, fold)
            rectifier.forward = dropout.forward = _as_it_is


class _Narrow(torch.autograd.Function):
    """x [R, N, in] times w [R, out, in], for few outputs: of equal products the forms that are several times faster."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.bmm(weight, x.transpose(1, 2)).transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        return torch.bmm(gradient, weight), torch.bmm(gradient.transpose(1, 2), x)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None, fold: Fold, shape: Sequence[int]) -> Tensor:
    """Scale and shift [R * B, ...] by [R, C], given a shape [R, 1, C, 1, ...] that spreads them."""
    if weight is None:
        return x
    scaled = fold.unfold(x) * weight.view(shape)
    return (scaled if bias is None else scaled + bias.view(shape)).flatten(0, 1)


def _layer_norm(layer: nn.LayerNorm, fold: Fold, x: Tensor) -> Tensor:
    normal = F.layer_norm(x, layer.normalized_shape, eps=layer.eps)
    between = [1] * (x.dim() - len(layer.normalized_shape))
    return _affine(normal, layer.weight, layer.bias, fold, [fold.replicas, *between, *layer.normalized_shape])


def _group_norm(layer: nn.GroupNorm, fold: Fold, x: Tensor) -> Tensor:
    normal = F.group_norm(x, layer.num_groups, eps=layer.eps)
    shape = [fold.replicas, 1, x.shape[1], *[1] * (x.dim() - 2)]
    return _affine(normal, layer.weight, layer.bias, fold, shape)


def _conv2d(layer: nn.Conv2d, fold: Fold, x: Tensor) -> Tensor:
    # A convolution is work enough to be called once per replica.
    bias = [None] * fold.replicas if layer.bias is None else layer.bias
    own = zip(fold.unfold(x), layer.weight, bias, strict=True)
    stride, padding, dilation = layer.stride, layer.padding, layer.dilation
    each = [F.conv2d(rows, w, b, stride, padding, dilation, layer.groups) for rows, w, b in own]
    return torch.cat(each)


def _embedding(layer: nn.Embedding, fold: Fold, ids: Tensor) -> Tensor:
    # Positions of tokens come as one row for all.
    ids = ids.expand(fold.rows, *ids.shape[1:])
    first = torch.arange(fold.replicas, device=ids.device) * layer.weight.shape[1]
    spread = fold.unfold(ids) + first.view(-1, *[1] * ids.dim())
    found = F.embedding(spread.flatten(0, 1), layer.weight.flatten(0, 1))
    if layer.padding_idx is None:
        return found
    return torch.where((ids == layer.padding_idx).unsqueeze(-1), found.detach(), found)


def _dropout(layer: nn.Dropout, fold: Fold, x: Tensor) -> Tensor:
    return x * fold.keep(x, layer.p) if layer.training and layer.p > 0 else x


def _standardise(layer: Standardise, fold: Fold, x: Tensor) -> Tensor:
    shape = [fold.replicas, *[1] * (x.dim() - 1), x.shape[-1]]
    mean, rows = layer.mean.view(shape), fold.unfold(x)
    if layer.holes:
        rows = torch.where(rows.isnan(), mean, rows)
    return (rows - mean).div_(layer.deviation.view(shape)).flatten(0, 1)


def _normal(layer: Normal, fold: Fold, x: Tensor) -> Tensor:
    return fold.noise(x, torch.randn) if layer.training else torch.zeros_like(x)


def _uniform(layer: Uniform, fold: Fold, x: Tensor) -> Tensor:
    return fold.noise(x, torch.rand) if layer.training else torch.full_like(x, 0.5)


LEAVES: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.Conv2d: _conv2d,
    nn.Embedding: _embedding,
    nn.Dropout: _dropout,
    Standardise: _standardise,
    Normal: _normal,
    Uniform: _uniform,
}
"""Type of a leaf -> its forward for a stack: (leaf with stacked parameters, fold, x [R * B, ...]) -> [R * B, ...]."""
