"""The one network: teachers and students differ only in which modalities it was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.models import ENCODERS, FUSIONS, STAND_INS
from kd.models.absent.base import StandIn
from kd.models.encoders import Standardise
from kd.models.fusion.base import Fusion
from kd.models.network import Network
from kd.types import Modality, Output

DEFAULT_ENCODERS: Mapping[str, Mapping[str, Any]] = {
    "vector": {"name": "mlp"},
    "image": {"name": "cnn"},
    "text": {"name": "words"},
    "sequence": {"name": "gru"},
}
"""By kind of modality, where neither `encoder` nor `encoders` names one."""
DEFAULT_FUSION: Mapping[str, Any] = {"name": "concat"}
DEFAULT_STAND_IN: Mapping[str, Any] = {"name": "nothing"}
STAND_IN = "stand-in"
"""What `fit_scalers` calls the rows that the stand-in for absent modalities was fitted on."""


class Classifier(Network):
    """Encoders by modality, a fusion, a linear head; 1..M modalities.

    Args:
        modality: name -> what it is, or a vector's plain shape; its order is the order of `present`'s columns.
        classes: C, the number of logits.
        task: name of the task, kept for the package's card.
        width: D of every modality's representation.
        encoder: part for every modality that `encoders` does not name; by default one that suits its kind.
        encoders: modality -> part; names that this network does not see are ignored.
        fusion: part.
        absent: part that stands in for absent modalities.

    Raises:
        ConfigError: an encoder cannot read the modality it is for, or a part's arguments are wrong.
    """

    def __init__(
        self,
        modality: Mapping[str, Modality | Sequence[int] | Mapping[str, Any]],
        classes: int,
        *,
        task: str = "multiclass",
        width: int = 64,
        encoder: Mapping[str, Any] | None = None,
        encoders: Mapping[str, Mapping[str, Any]] | None = None,
        fusion: Mapping[str, Any] = DEFAULT_FUSION,
        absent: Mapping[str, Any] = DEFAULT_STAND_IN,
    ) -> None:
        super().__init__(modality, classes, task=task)
        own = encoders or {}
        parts = {n: dict(own.get(n, encoder or DEFAULT_ENCODERS[m.kind])) for n, m in self.modality.items()}
        self.encoders = nn.ModuleDict({n: _encoder(parts[n], n, m, width) for n, m in self.modality.items()})
        # A pre-trained encoder says itself how it is built where its weights come with a package.
        built = {n: getattr(encoder, "spec", None) or parts[n] for n, encoder in self.encoders.items()}
        self.spec = {"width": width, "encoders": built, "fusion": dict(fusion), "absent": dict(absent)}
        self.absent: StandIn = STAND_INS.build(absent, self.modality, width, where="absent")
        self.fusion: Fusion = FUSIONS.build(fusion, len(self.modalities) + self.absent.extra, width, where="fusion")
        self.head = nn.Linear(self.fusion.width, classes)

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> Output:
        """Return logits [B, C] for inputs by modality and present bool [B, M].

        What is absent may hold anything, NaN included: it is replaced before the first product, and the encoder's
        answer to the replacement is replaced again, so that it reaches neither output nor gradient.
        """
        inputs, shown = self.absent.fill(inputs, present)
        tokens: dict[str, Tensor] = {}
        keep: dict[str, Tensor] = {}
        for column, (name, encoder) in enumerate(self.encoders.items()):
            tokens[name], keep[name] = self._encode(encoder, inputs[name], shown[:, column])
        parts = self.fusion.parts(tokens, keep) if self.shows_parts and self._same_width(tokens) else None
        found = self.absent.represent(tokens, keep, shown)
        fused = self.fusion(found.tokens, found.keep, found.present)
        feature, loss = fused if isinstance(fused, tuple) else (fused, None)
        losses = [each for each in (found.loss, loss) if each is not None]
        auxiliary = torch.stack(losses).sum(dim=0) if losses and self.training else None
        return Output(logits=self.head(feature), feature=feature, parts=parts, auxiliary=auxiliary)

    def _encode(self, encoder: nn.Module, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens [B, T, D] and keep [B, T], zeros and False in rows that lack the modality and for padding."""
        if self.skip_absent and bool(seen.all()):
            encoded, kept = encoder(x)
            return (encoded if bool(kept.all()) else torch.where(kept.unsqueeze(-1), encoded, 0.0)), kept
        if self.skip_absent and encoder.costly and bool(seen.any()):
            shown, kept = encoder(x[seen])
            shown = torch.where(kept.unsqueeze(-1), shown, 0.0)
            tokens = shown.new_zeros(len(x), *shown.shape[1:]).index_put((seen.nonzero()[:, 0],), shown)
            return tokens, kept.new_zeros(len(x), kept.shape[1]).index_put((seen.nonzero()[:, 0],), kept)
        encoded, kept = encoder(torch.where(seen.view(-1, *[1] * (x.dim() - 1)), x, 0))
        kept = kept & seen.unsqueeze(-1)
        return torch.where(kept.unsqueeze(-1), encoded, 0.0), kept

    @staticmethod
    def _same_width(tokens: Mapping[str, Tensor]) -> bool:
        # A pruned student's branches may differ in width; stacking them has no meaning then.
        return len({value.shape[-1] for value in tokens.values()}) == 1

    @property
    def scaled(self) -> list[str]:
        """Modalities with constants to fit: a `Standardise`, or those of the stand-in."""
        own = [n for n, e in self.encoders.items() if any(isinstance(m, Standardise) for m in e.modules())]
        return [n for n in self.modalities if n in own or n in self.absent.fits]

    def fit_scalers(self, inputs: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Fit every `Standardise` on the rows given where the modality is present, and the stand-in on all of them.

        Returns:
            positions of the rows used, by modality and, where it fits something, of the stand-in.

        Args:
            inputs: at least those in `scaled`.
            present: bool [B, M], columns in the order of this network's modalities.
        """
        used = {}
        for name in self.scaled:
            rows = present[:, self.modalities.index(name)].nonzero().flatten()
            for module in self.encoders[name].modules():
                if isinstance(module, Standardise):
                    module.fit(inputs[name][rows])
            used[name] = rows
        if self.absent.fits:
            self.absent.fit({name: inputs[name] for name in self.absent.fits}, present)
            used[STAND_IN] = torch.arange(len(present))
        return used


def _encoder(part: Mapping[str, Any], name: str, modality: Modality, width: int) -> nn.Module:
    where = f"encoders.{name}"
    found = ENCODERS.faults(part, where)
    takes = () if found else ENCODERS[part["name"]].load().takes  # type: ignore[attr-defined]
    if not found and modality.kind not in takes:
        suited = [known for known, entry in ENCODERS.items() if modality.kind in entry.load().takes]  # type: ignore[attr-defined]
        found = [f"{where}: {part['name']} cannot read {modality.kind}; encoders that can: {', '.join(suited)}"]
    if found:
        raise ConfigError(found)
    try:
        return ENCODERS.build(part, modality, width, where=where)
    except ConfigError as error:
        raise ConfigError([f"{where}.{fault}" for fault in error.faults]) from None
