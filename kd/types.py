"""The contracts every room shares: what a batch holds and what a network returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from kd.errors import ConfigError

Kind = Literal["vector", "image", "text", "sequence"]

DTYPES: Mapping[str, torch.dtype] = {
    "vector": torch.float32,
    "image": torch.uint8,
    "text": torch.int64,
    "sequence": torch.float32,
}


@dataclass(frozen=True)
class Modality:
    """What one sample of a modality is: the form in which batches carry it and networks take it.

    Attributes:
        shape: of one sample: vector (F,), image (3, H, W), text (L,), sequence (T, F).
        kind: vector and sequence are float32, an image uint8, a text int64 token ids.
        vocabulary: of a text, whose ids are 0..vocabulary-1.
        pad: the text id that stands for nothing.
        holes: single features of a vector may be NaN in a row that has the modality; the network imputes them.

    >>> Modality.of([76]), Modality.of({"kind": "image", "shape": [3, 48, 48]}).dtype
    (Modality(shape=(76,), kind='vector', vocabulary=0, pad=0, holes=False), torch.uint8)
    """

    shape: tuple[int, ...]
    kind: Kind = "vector"
    vocabulary: int = 0
    pad: int = 0
    holes: bool = False

    @classmethod
    def of(cls, described: Modality | Sequence[int] | Mapping[str, Any]) -> Modality:
        """Return a modality from itself, from a vector's plain shape, or from what `card` wrote."""
        if isinstance(described, Modality):
            return described
        if isinstance(described, Mapping):
            return cls(**{**described, "shape": tuple(described["shape"])})
        return cls(tuple(described))

    @property
    def dtype(self) -> torch.dtype:
        """The type of its tensors."""
        return DTYPES[self.kind]

    def card(self) -> dict[str, Any]:
        """Return it as JSON, for a package's card."""
        return asdict(self) | {"shape": list(self.shape)}


def conceal(x: Tensor, hidden: Tensor) -> Tensor:
    """Put what no network can read unnoticed into hidden rows: NaN, or for whole numbers -1 (255 in a picture).

    Args:
        x: [B, ...].
        hidden: bool [B].
    """
    where = hidden.view(-1, *[1] * (x.dim() - 1))
    garbage = float("nan") if x.is_floating_point() else -1
    return torch.where(where, torch.full((), garbage).to(x.dtype), x)


def drop(present: Tensor, probability: float | Tensor, draws: Tensor) -> Tensor:
    """Hide each available modality with a probability, one always stays (modality dropout).

    The survivor of a row that would lose everything is uniform over what the row had; rows with nothing stay so.

    Args:
        present: bool [B, M].
        probability: in [0, 1), one for all or one per row [B, 1].
        draws: uniform in [0, 1), [B, 2 M]: what is hidden, and who survives.

    Returns:
        bool [B, M], a subset of `present`.
    """
    uniform, rank = draws.chunk(2, dim=1)
    kept = present & (uniform >= probability)
    survivor = torch.where(present, rank, -1.0).argmax(dim=1, keepdim=True)
    saved = torch.zeros_like(present).scatter(1, survivor, True) & present
    return torch.where(kept.any(dim=1, keepdim=True), kept, saved)


def eligible(present: Tensor, rows: str, own: Sequence[int], labelled: Tensor) -> Tensor:
    """Return bool [B]: rows a node may learn from.

    Args:
        present: bool [B, M], columns of the source.
        rows: `any` of the node's own modalities, or `complete` over the source's, or `labelled`: any that show a label.
        own: the node's columns.
        labelled: bool [B].
    """
    if rows == "complete":
        return present.all(dim=1)
    found = present[:, list(own)].any(dim=1)
    return found & labelled if rows == "labelled" else found


@dataclass(frozen=True)
class Batch:
    """Samples with some modalities absent.

    Attributes:
        inputs: modality -> tensor [B, ...], typed as `Modality` says; rows that are absent may hold anything.
        present: bool [B, M], columns in the order of `inputs`; False means the row lacks the modality.
        label: int64 [B] for classes, float [B, K] for multilabel and regression.
        labelled: bool [B]; rows without a label still learn from teachers.
        index: int64 [B], the row in the source: the key of masks and caches.
    """

    inputs: dict[str, Tensor]
    present: Tensor
    label: Tensor
    labelled: Tensor
    index: Tensor

    @classmethod
    def of(cls, inputs: Mapping[str, Tensor], label: Tensor, index: Tensor | None = None) -> Batch:
        """Wrap plain tensors as a batch in which everything is present and labelled.

        >>> Batch.of({"image": torch.zeros(2, 3)}, torch.tensor([0, 1])).present.shape
        torch.Size([2, 1])
        """
        rows = len(label)
        return cls(
            inputs=dict(inputs),
            present=torch.ones(rows, len(inputs), dtype=torch.bool, device=label.device),
            label=label,
            labelled=torch.ones(rows, dtype=torch.bool, device=label.device),
            index=torch.arange(rows, device=label.device) if index is None else index,
        )

    def __len__(self) -> int:
        return len(self.label)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the same batch on `device`; Lightning calls this for every batch."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return Batch(
            inputs={name: move(value) for name, value in self.inputs.items()},
            present=move(self.present),
            label=move(self.label),
            labelled=move(self.labelled),
            index=move(self.index),
        )

    def select(self, modalities: Sequence[str]) -> Batch:
        """Return the batch as a node sees it that sees only `modalities`, columns in that order."""
        order = list(self.inputs)
        columns = [order.index(name) for name in modalities]
        return replace(
            self,
            inputs={name: self.inputs[name] for name in modalities},
            present=self.present[:, columns],
        )

    def with_present(self, present: Tensor) -> Batch:
        """Return the batch under another availability, bool [B, M]."""
        return replace(self, present=present)


OUTPUTS = ("logits", "feature", "parts")
"""What can be read of every network of ours without naming a layer."""


def layers(reads: Sequence[str]) -> list[str]:
    """Return those of what is read of a network that are paths of layers.

    >>> layers(["logits", "encoders.a.layers"])
    ['encoders.a.layers']
    """
    return [name for name in reads if name not in OUTPUTS]


@dataclass
class Output:
    """What a network returns.

    Attributes:
        logits: [B, C].
        feature: [B, D], the representation after fusion.
        parts: [B, M, D], one representation per modality, zero where absent.
        hints: module path -> tensor, only for the modules that edges name.
        auxiliary: [B], what the network itself wants to be small while it trains, weighted: a reconstruction, a prior.
    """

    logits: Tensor
    feature: Tensor | None = None
    parts: Tensor | None = None
    hints: dict[str, Tensor] = field(default_factory=dict)
    auxiliary: Tensor | None = None

    @classmethod
    def of(cls, reads: Mapping[str, Tensor]) -> Output:
        """Return outputs by name, and layers by path, as what a network returns; logits are among them."""
        own = {name: value for name, value in reads.items() if name in OUTPUTS}
        return cls(**own, hints={path: reads[path] for path in layers(list(reads))})

    def read(self, name: str) -> Tensor:
        """Return an output by name, or what a layer gave by its path.

        Raises:
            ConfigError: the network gives no such output.
        """
        found: Any = getattr(self, name) if name in OUTPUTS else self.hints.get(name)
        if not isinstance(found, Tensor):
            raise ConfigError(f"the network gives no {name!r}; name one of its layers, or one of {', '.join(OUTPUTS)}")
        return found

    def detach(self) -> Output:
        """Return the same values outside the gradient's graph, as a frozen teacher gives them."""
        return Output(
            logits=self.logits.detach(),
            feature=None if self.feature is None else self.feature.detach(),
            parts=None if self.parts is None else self.parts.detach(),
            hints={path: value.detach() for path, value in self.hints.items()},
        )
