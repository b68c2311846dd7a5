"""Two lines between our batches and a network that knows nothing of them: modality -> argument of its forward.

teacher = kd.adapt(torchvision.models.resnet18(num_classes=9), image="x")
teacher = kd.adapt(transformers.BertForSequenceClassification(config), words="input_ids")
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.models.network import as_output
from kd.registry import fits, suggest
from kd.types import Output

MASK = "attention_mask"
"""Argument that transformers' networks of text take beside the ids; given wherever the forward knows it."""


@dataclass(frozen=True)
class Take:
    """How one modality reaches a network.

    Attributes:
        argument: of the network's forward.
        mean: of pictures, one value per channel on the scale 0..1, subtracted after division by 255.
        std: what is left is divided by these.
        pad: text id that stands for nothing.
    """

    argument: str
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    pad: int = 0

    @classmethod
    def of(cls, written: Any, where: str, pad: int = 0) -> Take:
        """Return it from an argument's name alone, or from a mapping of the fields above.

        Raises:
            ConfigError: it is neither, or a value is out of range.
        """
        given: Any = {"argument": written} if isinstance(written, str) else written
        known = [field.name for field in fields(cls)]
        if not isinstance(given, Mapping) or not isinstance(given.get("argument"), str):
            raise ConfigError(f"{where}: expected an argument of its forward or {{argument: ...}}, got {written!r}")
        for key in given:
            if key not in known:
                raise ConfigError(f"{where}.{key}: unknown key; {suggest(str(key), known)}")
        for key in ("mean", "std"):
            value = given.get(key)
            if value is not None and not (fits(value, list[float]) and all(map(math.isfinite, value))):
                raise ConfigError(f"{where}.{key}: expected one number per channel, got {value!r}")
        if given.get("std") is not None and not all(value > 0 for value in given["std"]):
            raise ConfigError(f"{where}.std: expected numbers above 0, got {given['std']!r}")
        return cls(**{"pad": pad, **given})

    def shown(self, x: Tensor, present: Tensor, dtype: torch.dtype) -> Tensor:
        """Return x [B, ...] as the network reads it, with nothing (zeros, padding) in rows that lack the modality."""
        blank = 0 if x.is_floating_point() or x.dtype == torch.uint8 else self.pad
        x = torch.where(present.view(-1, *[1] * (x.dim() - 1)), x, blank)
        if x.is_floating_point():
            x = torch.where(x.isnan(), 0.0, x)  # an empty cell of a table
        if x.dtype == torch.uint8:
            return self._scaled(x.to(dtype) / 255)
        return x.to(dtype) if x.is_floating_point() else x

    def _scaled(self, picture: Tensor) -> Tensor:
        if self.mean is not None:
            picture = picture - picture.new_tensor(self.mean).view(-1, 1, 1)
        return picture if self.std is None else picture / picture.new_tensor(self.std).view(-1, 1, 1)

    def kept(self, ids: Tensor) -> Tensor:
        """Return int64 [B, L]: 1 where a token stands for something; the first, where none does."""
        kept = ids != self.pad
        first = torch.zeros_like(kept).index_fill(1, torch.zeros(1, dtype=torch.int64, device=ids.device), True)
        return (kept | (first & ~kept.any(dim=1, keepdim=True))).long()


class Adapter:
    """Calls a network with named arguments.

    Args:
        takes: modality -> how it reaches the network; its order is the order of `present`'s columns.
        forward: of the network.
    """

    def __init__(self, takes: Mapping[str, Take], forward: Callable[..., Any]) -> None:
        self.takes = dict(takes)
        self.masked = MASK in inspect.signature(forward).parameters

    def __call__(self, network: nn.Module, inputs: Mapping[str, Tensor], present: Tensor) -> Output:
        dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
        arguments: dict[str, Tensor] = {}
        for column, (name, take) in enumerate(self.takes.items()):
            shown = take.shown(inputs[name], present[:, column], dtype)
            arguments[take.argument] = shown
            if self.masked and shown.dtype == torch.int64:
                arguments.setdefault(MASK, take.kept(shown))
        return as_output(network(**arguments))


def take_faults(forward: Callable[..., Any], takes: Mapping[str, Any], where: str) -> list[str]:
    """Return a sentence for every entry of `takes` that cannot be, or that `forward` does not know."""
    found, known = [], inspect.signature(forward).parameters
    names = [n for n, p in known.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and n != "self"]
    anything = any(p.kind is p.VAR_KEYWORD for p in known.values())
    for modality, written in takes.items():
        try:
            argument = Take.of(written, f"{where}.{modality}").argument
        except ConfigError as error:
            found += error.faults
            continue
        if argument not in names and not anything:
            found.append(f"{where}.{modality}: its forward has no argument {argument!r}; {suggest(argument, names)}")
    return found


class Adapted(nn.Module):
    """A network with named arguments in the place of one of ours; see `adapt`."""

    def __init__(self, network: nn.Module, takes: Mapping[str, Take]) -> None:
        super().__init__()
        self.network = network
        self.modalities = list(takes)
        self._adapter = Adapter(takes, network.forward)

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> Output:
        return self._adapter(self.network, inputs, present)


def adapt(network: nn.Module, /, **takes: str | Mapping[str, Any]) -> Adapted:
    """Return a network that maps (inputs by modality, present) to logits, from one that takes named arguments.

    Pictures arrive as floats in 0..1, texts as token ids together with their `attention_mask` where the forward knows
    one; in rows that lack a modality it sees zeros, or padding, so that nothing hidden reaches it.

    Args:
        network: its forward returns logits [B, C], or anything with `.logits`.
        takes: modality -> argument of the forward, or `{"argument": ..., "mean": [...], "std": [...], "pad": 0}`.

    Raises:
        ConfigError: the forward has no such argument.

    >>> adapt(nn.Linear(3, 2), views="input")({"views": torch.zeros(4, 3)}, torch.ones(4, 1).bool()).logits.shape
    torch.Size([4, 2])
    """
    found = take_faults(network.forward, takes, "adapt")
    if found or not takes:
        raise ConfigError(found or "adapt: expected modality=argument at least once, as in adapt(network, image='x')")
    return Adapted(network, {name: Take.of(written, f"adapt.{name}") for name, written in takes.items()})
