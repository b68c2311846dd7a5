"""R networks of one form as one: their parameters on a leading axis, their rows side by side on the batch axis.

The ordinary network stays the definition. Everything in it that holds no parameter treats rows alike and runs as it is,
on R * B rows; its leaves with parameters (`LEAVES`) are given a batched product in place of R small ones, and a leaf
that is not in the table runs under `torch.func.vmap`. `check` compares the whole with the networks one by one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from kd.errors import ConfigError
from kd.importing import in_words
from kd.models.adapted import Adapted
from kd.models.hints import answer
from kd.models.imported import Imported
from kd.models.leaves import LEAVES, NARROW, Fold, join_hidden
from kd.models.network import Network, as_output, evaluating
from kd.seeding import noise
from kd.types import Output, layers

TOLERANCE = 1e-4
"""Largest difference between a stack and its networks, relative to the logits' size: float32 sums in another order."""


class Stacked(nn.Module):
    """R networks of one form as one module; parameters keep their names and gain a leading axis R.

    Args:
        networks: of one form, in one mode; they are copied.
        fold: of the stack that this one answers beside; by default its own.
        reads: outputs and layers that objectives compare.

    Raises:
        ConfigError: a network has another form than the first, or there is none.
    """

    def __init__(
        self, networks: Sequence[nn.Module], fold: Fold | None = None, reads: Sequence[str] = ("logits",)
    ) -> None:
        super().__init__()
        if not networks:
            raise ConfigError("stack: expected at least one network")
        _refuse_other_forms(networks)
        self.fold = fold or Fold(len(networks))
        self.network = copy.deepcopy(networks[0])
        self.shared: set[str] = set()
        self.turned: set[str] = set()
        self.layers = layers(reads)
        if isinstance(self.network, Network):
            self.network.shows_parts = "parts" in reads
            # No row is left out, or replicas would lose their places; what is absent nowhere need not be replaced.
            self.network.skip_absent = True
            for module in self.network.modules():
                if getattr(module, "costly", False):
                    module.costly = False  # type: ignore[assignment]
        self._stack("", self.network, list(networks))

    def _stack(self, path: str, module: nn.Module, originals: list[nn.Module]) -> None:
        leaf = next((run for kind, run in LEAVES.items() if type(module).forward is kind.forward), None)
        if leaf is not None and getattr(module, "padding_mode", "zeros") == "zeros":
            _stack_state(module, originals)
            if isinstance(module, nn.Linear) and module.out_features >= NARROW:
                module.weight = nn.Parameter(_turned(module.weight), module.weight.requires_grad)
                self.turned.add(f"{path}weight")
            module.forward = partial(leaf, module, self.fold)
            return
        own = any(True for _ in module.parameters(recurse=False)) or _buffers_differ(originals)
        # Norms with statistics of the batch see a replica's rows alone, even where they hold nothing of its own.
        if own or isinstance(module, _NormBase):
            module.forward = under_vmap(module, originals, self.fold)
            return
        self.shared |= {f"{path}{name}" for name, _ in module.named_buffers(recurse=False)}
        for name, child in module.named_children():
            self._stack(f"{path}{name}.", child, [getattr(original, name) for original in originals])
        # What is done in one step shows nothing in between.
        shown = any(layer.startswith(path) for layer in self.layers)
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and not shown:
            join_hidden(module, self.fold)

    @property
    def replicas(self) -> int:
        """How many replicas are left."""
        return self.fold.replicas

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> Output:
        """Answer the rows of all replicas, one replica's after the other's.

        Args:
            inputs: modality -> [R * B, ...].
            present: bool [R * B, M].

        Returns:
            tensors with R * B rows.
        """
        self.fold.rows = len(present)
        return answer(self.network, inputs, present, self.layers)

    @torch.no_grad()
    def narrow(self, kept: Tensor) -> None:
        """Keep only some of the replicas that are left, in place.

        Args:
            kept: int64, positions among those that are left, ascending.
        """
        narrow_state(self.network, kept, self.shared)
        self.fold.alive = self.fold.alive[kept]

    def each(self) -> dict[str, Tensor]:
        """Return what every replica has of its own, [R, ...] by the ordinary network's names and in its form."""
        own = {name: value for name, value in self.network.state_dict().items() if name not in self.shared}
        return {name: _turned(value) if name in self.turned else value for name, value in own.items()}

    def common(self) -> dict[str, Tensor]:
        """Return what all replicas share, such as the positions of tokens."""
        return {name: value for name, value in self.network.state_dict().items() if name in self.shared}

    def state(self, replica: int) -> dict[str, Tensor]:
        """Return the state of one replica that is left, as the ordinary network stores it."""
        return {name: value[replica].clone() for name, value in self.each().items()} | self.common()

    @torch.no_grad()
    def check(
        self,
        networks: Sequence[nn.Module],
        inputs: Mapping[str, Tensor],
        present: Tensor,
        places: Sequence[int] | None = None,
    ) -> None:
        """Compare the stack with ordinary networks of the same weights, in eval mode; nothing is left changed.

        Args:
            networks: some that it was made of; their weights are read from the stack, which may have trained since.
            inputs: modality -> [R * B, ...].
            present: bool [R * B, M].
            places: which replicas they are, among those that are left; by default all, in order.

        Raises:
            ConfigError: they differ: a module in between mixes rows or reads a leaf's parameters.
        """
        kept = torch.arange(self.replicas) if places is None else torch.tensor(places)
        each = {name: self.fold.unfold(value)[kept] for name, value in inputs.items()}
        seen = self.fold.unfold(present)[kept]
        with evaluating(self, *networks), noise(0, "check"):
            expected = []
            for row, (place, network) in enumerate(zip(kept.tolist(), networks, strict=True)):
                _refuse_tied(network)
                own = ({name: value[row] for name, value in each.items()}, seen[row])
                expected.append(as_output(functional_call(network, self._state(place), own)).logits)
            found = self._answer_for(kept, each, seen, networks[0])
        for place, network, one, other in zip(kept.tolist(), networks, found, expected, strict=True):
            gap = _gap(one, other)
            if not gap < TOLERANCE:
                raise ConfigError(_does_not_stack(network, f"replica {place} is off by {gap:.1e}"))

    def _answer_for(self, kept: Tensor, each: Mapping[str, Tensor], seen: Tensor, network: nn.Module) -> Tensor:
        """Return the logits [K, B, C] of some replicas, the others put aside meanwhile."""
        alive, rows = self.fold.alive, self.fold.rows
        parameters = [(parameter, parameter.data, parameter.grad) for parameter in self.network.parameters()]
        buffers = [(module, dict(module._buffers)) for module in self.network.modules()]
        self.narrow(kept)
        try:
            flat = {name: value.flatten(0, 1) for name, value in each.items()}
            return self.fold.unfold(self(flat, seen.flatten(0, 1)).logits)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # alone, the network has just answered the same rows
            raise ConfigError(_does_not_stack(network, in_words(error))) from None
        finally:
            self.fold.alive, self.fold.rows = alive, rows
            for parameter, value, gradient in parameters:
                parameter.data, parameter.grad = value, gradient
            for module, held in buffers:
                module._buffers.update(held)

    def _state(self, place: int) -> dict[str, Tensor]:
        """Return all that one replica that is left holds, as views: what `functional_call` takes."""
        held = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        own = {name: value if name in self.shared else value[place] for name, value in held.items()}
        return {name: value.T if name in self.turned else value for name, value in own.items()}


def _gap(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the logits' size; NaN where only what was found is no number."""
    finite = expected.isfinite()  # a replica that is lost already says nothing
    size = torch.where(finite, expected, 0.0).abs().max().clamp(min=1)
    return float(torch.where(finite, (found - expected).abs(), 0.0).max() / size)


def _refuse_tied(network: nn.Module) -> None:
    """Refuse one weight in two layers: a stack would train two."""
    held = [id(p) for module in network.modules() for p in module._parameters.values() if p is not None]
    if len(set(held)) < len(held):
        raise ConfigError(_does_not_stack(network, "two of its layers share a weight"))


def _does_not_stack(network: nn.Module, why: str) -> str:
    inner = network.network if isinstance(network, Imported | Adapted) else network
    return f"{type(inner).__name__} does not stack ({why}); train it alone, or declare replicable = False in it"


def unreplicable(whole: nn.Module, name: str = "") -> list[str]:
    """Return the outermost modules that say `replicable = False`, as `encoders.text (Words)`.

    Args:
        whole: a network or an objective.
        name: its place in what it is part of.
    """
    found: dict[str, str] = {}
    for path, module in whole.named_modules():
        inside = any(not outer or path.startswith(f"{outer}.") for outer in found)
        if not inside and not getattr(module, "replicable", True):
            place = ".".join(filter(None, (name, path))) or "network"
            found[path] = f"{place} ({type(module).__name__})"
    return list(found.values())


@torch.no_grad()
def _turned(weight: Tensor) -> Tensor:
    return weight.transpose(1, 2).contiguous()


def _refuse_other_forms(networks: Sequence[nn.Module]) -> None:
    forms = [{key: value.shape for key, value in network.state_dict().items()} for network in networks]
    for position, form in enumerate(forms):
        if form != forms[0] or type(networks[position]) is not type(networks[0]):
            raise ConfigError(f"stack: network {position} has another form than network 0; stack like with like")


def _buffers_differ(originals: Sequence[nn.Module]) -> bool:
    buffers = [dict(original.named_buffers(recurse=False)) for original in originals]
    return any(not torch.equal(own[name], value) for own in buffers for name, value in buffers[0].items())


def _stack_state(module: nn.Module, originals: Sequence[nn.Module]) -> None:
    """Put the parameters and buffers of the originals on a leading axis, in place."""
    for path, inner in module.named_modules():
        each = [original.get_submodule(path) for original in originals]
        for name, parameter in inner.named_parameters(recurse=False):
            stacked = torch.stack([getattr(own, name).detach() for own in each])
            inner._parameters[name] = nn.Parameter(stacked, requires_grad=parameter.requires_grad)
        for name, _ in inner.named_buffers(recurse=False):
            inner._buffers[name] = torch.stack([getattr(own, name) for own in each])


def narrow_state(module: nn.Module, kept: Tensor, shared: Collection[str] = ()) -> None:
    """Keep some positions of the leading axis of every parameter and of every buffer that is not shared, in place."""
    for parameter in module.parameters():
        parameter.data = parameter.data[kept]
        parameter.grad = None
    for path, inner in module.named_modules():
        for name, buffer in inner.named_buffers(recurse=False):
            if (f"{path}.{name}" if path else name) not in shared:
                inner._buffers[name] = buffer[kept]


def under_vmap(module: nn.Module, originals: Sequence[nn.Module], fold: Fold) -> Callable[..., Any]:
    """Stack a module's state in place and return a forward that calls it once per replica under vmap.

    Args:
        module: keeps the stacked state.
        originals: one per replica.
        fold: of the stack.

    Returns:
        a function of tensors, or mappings and tuples of them, with R * B rows; its answer is folded again.
    """
    blank = copy.deepcopy(originals[0]).to("meta")
    _stack_state(module, originals)

    def forward(*arguments: Any) -> Any:
        state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        blank.train(module.training)

        def one(own: dict[str, Tensor], given: tuple[Any, ...]) -> Any:
            return functional_call(blank, own, given)

        unfolded = _each(arguments, fold.unfold)
        answered = torch.vmap(one, randomness="different")(state, unfolded)
        return _each(answered, lambda x: x.flatten(0, 1))

    return forward


def _each(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to every tensor of nested tuples, lists and mappings."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: _each(value, change) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(_each(value, change) for value in tree)
    return tree
