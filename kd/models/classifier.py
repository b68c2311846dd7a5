"""The one network: teachers and students differ only in which modalities it was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd.models import ENCODERS, FUSIONS
from kd.models.encoders import Standardise
from kd.models.fusion import Fusion
from kd.types import Output

DEFAULT_ENCODER: Mapping[str, Any] = {"name": "mlp"}
DEFAULT_FUSION: Mapping[str, Any] = {"name": "concat"}


class Classifier(nn.Module):
    """Encoders by modality, a fusion, a linear head; 1..M modalities.

    Args:
        shapes: modality -> shape of one sample; its order is the order of `present`'s columns.
        classes: C, the number of logits.
        task: name of the task, kept for the package's card.
        width: D of every modality's representation.
        encoder: part for every modality that `encoders` does not name.
        encoders: modality -> part.
        fusion: part.
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        classes: int,
        *,
        task: str = "multiclass",
        width: int = 64,
        encoder: Mapping[str, Any] = DEFAULT_ENCODER,
        encoders: Mapping[str, Mapping[str, Any]] | None = None,
        fusion: Mapping[str, Any] = DEFAULT_FUSION,
    ) -> None:
        super().__init__()
        own = dict(encoders or {})
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.modalities = list(self.shapes)
        self.classes, self.task = classes, task
        self.spec: dict[str, Any] = {
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "classes": classes,
            "task": task,
            "width": width,
            "encoder": dict(encoder),
            "encoders": {name: dict(part) for name, part in own.items()},
            "fusion": dict(fusion),
        }
        self.encoders = nn.ModuleDict(
            {
                name: ENCODERS.build(own.get(name, encoder), shape, width, where=f"encoders.{name}")
                for name, shape in self.shapes.items()
            }
        )
        self.fusion: Fusion = FUSIONS.build(fusion, len(self.modalities), width, where="fusion")
        self.head = nn.Linear(self.fusion.width, classes)

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> Output:
        """Return logits [B, C] for inputs by modality and present bool [B, M].

        What is absent may hold anything, NaN included: it is replaced before the first product, and the encoder's
        answer to the replacement is replaced again, so that it reaches neither output nor gradient.
        """
        tokens: dict[str, Tensor] = {}
        keep: dict[str, Tensor] = {}
        for column, (name, encoder) in enumerate(self.encoders.items()):
            x = inputs[name]
            seen = present[:, column]
            encoded, kept = encoder(torch.where(seen.view(-1, *[1] * (x.dim() - 1)), x, 0))
            tokens[name] = torch.where(seen.view(-1, 1, 1), encoded, 0.0)
            keep[name] = kept & seen.unsqueeze(-1)
        feature = self.fusion(tokens, keep, present)
        parts = self.fusion.parts(tokens, keep) if self._same_width(tokens) else None
        return Output(logits=self.head(feature), feature=feature, parts=parts)

    @staticmethod
    def _same_width(tokens: Mapping[str, Tensor]) -> bool:
        # A pruned student's branches may differ in width; stacking them has no meaning then.
        return len({value.shape[-1] for value in tokens.values()}) == 1

    def fit_scalers(self, inputs: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Fit every `Standardise` on the rows given where the modality is present; return rows used, by modality."""
        used = {}
        for column, (name, encoder) in enumerate(self.encoders.items()):
            rows = present[:, column].nonzero().flatten()
            scalers = [module for module in encoder.modules() if isinstance(module, Standardise)]
            for scaler in scalers:
                scaler.fit(inputs[name][rows].flatten(1))
            if scalers:
                used[name] = rows
        return used

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write a package (safetensors, card, checksums) that `from_pretrained` reads."""
        from kd.models.package import save_package

        return save_package(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Classifier:
        """Load a package written by `save_pretrained`."""
        from kd.models.package import load_package

        return load_package(Path(folder))
