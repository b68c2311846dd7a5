"""Which channels of a network can only go together, how much each matters, and their removal.

Torch-Pruning's dependency graph says which layers lose a channel together (Fang et al. 2023, DepGraph, 2301.12900).
Units are what goes whole: a channel; one channel of every group of a grouped layer; a head of attention.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from kd.compress.graph import branch_of
from kd.errors import KDError
from kd.importing import in_words
from kd.models.network import blank_rows

Channels = dict[str, list[int]]
"""Path of a layer -> some of its output channels."""
Importance = Literal["magnitude", "taylor"]
HEAD_SIZE = ("head_size", "attention_head_size", "head_dim", "key_value_proj_dim", "dim_head")
"""Names under which attention keeps the width of a head: ours, and those of transformers."""


@dataclass(frozen=True)
class Units:
    """What one group of coupled layers can lose.

    Attributes:
        layer: path of the layer that the group is found by.
        channels: int64 [U, k], output channels of that layer; a row goes whole or stays.
        importance: [U], mean 1 over a group.
        branch: modality whose encoder the layer belongs to.
    """

    layer: str
    channels: Tensor
    importance: Tensor

    @property
    def branch(self) -> str:
        return branch_of(self.layer)


def units_of(model: nn.Module, importance: Importance) -> list[Units]:
    """Return what a network can lose, in the order of its layers.

    What transformers pass on from layer to layer stays whole, and so do learnt vectors that are no layer's.

    Args:
        model: in eval mode; for `taylor` its parameters hold the gradient of a loss.
        importance: `magnitude`, the norm of all weights that go with a channel; `taylor`, the first-order change of the
            loss (Molchanov et al. 2019, 1906.10771), summed over them.
    """
    import torch_pruning as tp

    measures: dict[str, Any] = {
        "magnitude": tp.importance.GroupMagnitudeImportance(p=2, normalizer="mean"),
        "taylor": tp.importance.GroupTaylorImportance(normalizer="mean"),
    }
    measure, paths = measures[importance], _paths(model)
    found = []
    for graph in _walks(model):
        for group in _groups(graph, model):
            channels = _units(group, model, paths)
            with torch.no_grad():
                each = None if channels is None else measure(group)
            if channels is not None and each is not None:
                layer = paths[group[0].dep.target.module]
                found.append(Units(layer, channels, each.detach().cpu()[channels].mean(1)))
    order = {path: place for place, (path, _) in enumerate(model.named_modules())}
    return sorted(found, key=lambda units: order[units.layer])


def remove(model: nn.Module, chosen: Mapping[str, Tensor]) -> Channels:
    """Take channels out of a network, in place, with all that is coupled to them.

    Args:
        model: in eval mode.
        chosen: layer -> its output channels that go.

    Returns:
        the output channels that went, of every layer and norm, numbered as before.
    """
    paths, walks = _paths(model), _walks(model)
    removed: dict[str, set[int]] = {}
    for path, channels in chosen.items():
        layer = model.get_submodule(path)
        graph = next(walk for walk in walks if layer in walk.module2node)
        handler = graph.get_pruner_of_module(layer).prune_out_channels
        group = graph.get_pruning_group(layer, handler, channels.tolist())
        for dependency, lost in group:
            target = paths.get(dependency.target.module)
            if target is not None and graph.is_out_channel_pruning_fn(dependency.handler):
                removed.setdefault(target, set()).update(map(int, lost))
        group.prune()
    return {path: sorted(lost) for path, lost in removed.items()}


class _LogitsOf(nn.Module):
    """One tensor in, one tensor out, as the dependency graph wants it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: tuple[Mapping[str, Tensor], Tensor]) -> Tensor:
        return self.model(*rows).logits


class _TokensOf(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, rows: tuple[Tensor]) -> Tensor:
        return self.encoder(*rows)[0]


def _walks(model: nn.Module) -> list[Any]:
    """Return the dependency graph of a network; where it cannot be followed, one for each encoder that can be.

    Raises:
        KDError: nothing of it can be followed.
    """
    inputs, present = blank_rows(model)
    encoders = getattr(model, "encoders", {})
    try:
        return [_dependencies(_LogitsOf(model), (inputs, present))]
    except Exception as error:  # its walk fails with whatever it meets
        walks, reason = [], in_words(error)
    for name, encoder in encoders.items():
        with contextlib.suppress(Exception):
            walks.append(_dependencies(_TokensOf(encoder), (inputs[name],)))
    if not walks:
        raise KDError(f"structured: the network's layers cannot be followed ({reason})")
    return walks


def _dependencies(wrapper: nn.Module, rows: tuple[Any, ...]) -> Any:
    import torch_pruning as tp

    class FrozenNorm(tp.BasePruningFunc):
        """How a batch normalisation whose statistics and scale are buffers loses channels."""

        def prune_out_channels(self, layer: nn.Module, idxs: list[int]) -> nn.Module:
            kept = sorted(set(range(len(layer.weight))) - set(idxs))  # type: ignore[arg-type]
            for name, value in layer.named_buffers(recurse=False):
                setattr(layer, name, value[kept])
            return layer

        prune_in_channels = prune_out_channels

        def get_out_channels(self, layer: nn.Module) -> int:
            return len(layer.weight)  # type: ignore[arg-type]

        get_in_channels = get_out_channels

    # A tuple would be unpacked into positional arguments; a list of one keeps it together.
    return tp.DependencyGraph().build_dependency(
        wrapper, [rows], customized_pruners={FrozenBatchNorm2d: FrozenNorm()}, verbose=False
    )


def _paths(model: nn.Module) -> dict[nn.Module, str]:
    return {layer: path for path, layer in model.named_modules()}


def _groups(graph: Any, model: nn.Module) -> Iterator[Any]:
    """Give every group of layers that lose their output channels together, but for the one that gives the logits."""
    head, seen = getattr(model, "head", None), set()
    for layer in graph.module2node:
        if not isinstance(layer, nn.Linear | nn.Conv2d) or layer in seen:
            continue
        handler, channels = graph.get_pruner_of_module(layer).prune_out_channels, list(range(len(layer.weight)))
        try:
            group = graph.get_pruning_group(layer, handler, channels)
        except Exception:  # shuffled or cut channels, in whatever way its walk fails
            continue
        losing = {each.target.module for each, _ in group if graph.is_out_channel_pruning_fn(each.handler)}
        seen |= losing
        if head not in losing:
            yield group


def _units(group: Any, model: nn.Module, paths: Mapping[nn.Module, str]) -> Tensor | None:
    """Return the units of a group as channels of its first layer, int64 [U, k]; None where it has to stay whole."""
    count, grouped, head = len(group[0].idxs), 1, 1
    for dependency, _ in group:
        layer, path = dependency.target.module, paths.get(dependency.target.module)
        if isinstance(layer, nn.Parameter | nn.Embedding | nn.LayerNorm):
            return None
        if path is None:
            continue
        if isinstance(layer, nn.GroupNorm):
            grouped = max(grouped, layer.num_groups)
        elif isinstance(layer, nn.Conv2d) and 1 < layer.groups < layer.out_channels:
            grouped = max(grouped, layer.groups)
        elif isinstance(layer, nn.Linear) and "prune_out" in dependency.handler.__name__:
            head = max(head, _head_size(model, path))
    if count % (grouped * head) or (grouped > 1 and head > 1):
        return None
    channels = torch.arange(count)
    return channels.view(-1, head) if grouped == 1 else channels.view(grouped, -1).T.contiguous()


def _head_size(model: nn.Module, path: str) -> int:
    """Return the width of a head of the attention that a layer belongs to; 1 outside attention."""
    parent = model.get_submodule(path.rpartition(".")[0])
    sizes = (getattr(parent, name, None) for name in HEAD_SIZE)
    return next((size for size in sizes if isinstance(size, int)), 1)
