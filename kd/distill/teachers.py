"""Teachers that cannot change: live networks, or their outputs computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.models.hints import answer
from kd.types import Batch, Output, layers

LOGITS = ("logits",)


class Frozen(nn.Module):
    """A network held in eval mode, outside parameters, buffers, optimiser and checkpoint, yet following the device.

    The network is kept in a list, where `nn.Module` does not look for children.

    Args:
        model: maps (inputs, present) to logits or `Output`.
        sees: the modalities it takes; by default its own `modalities`.
        reads: outputs and layers that students learn from.

    Raises:
        ConfigError: neither says what it takes.
    """

    def __init__(self, model: nn.Module, sees: Sequence[str] | None = None, reads: Sequence[str] = LOGITS) -> None:
        super().__init__()
        if sees is None and not hasattr(model, "modalities"):
            raise ConfigError(
                "edge: name the modalities that the teacher takes, as in Edge(network, ..., sees=['image'])"
            )
        self._held = [model]
        self.sees = list(sees if sees is not None else model.modalities)  # type: ignore[arg-type]
        self.reads = tuple(reads)

    @property
    def model(self) -> nn.Module:
        """The network itself."""
        return self._held[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Frozen:
        self._held[0]._apply(fn)
        return self

    @torch.no_grad()
    def forward(self, batch: Batch) -> Output:
        """Answer a batch as the teacher sees it."""
        self.model.eval()
        seen = batch.select(self.sees)
        return answer(self.model, seen.inputs, seen.present, layers(self.reads)).detach()


class Cached(nn.Module):
    """What a frozen teacher makes of every row of the source, looked up by `batch.index`.

    Exact only where nothing is augmented; availability is that of the source's rows under the mask. Kept out of the
    buffers, which processes that train together would send each other at every step.

    Args:
        outputs: logits [N, C]; or output or path of a layer -> [N, ...], logits among them.
        sees: the teacher's modalities.
        model: the teacher itself, where an objective asks it for more than outputs.
    """

    def __init__(
        self, outputs: Tensor | Mapping[str, Tensor], sees: Sequence[str], model: nn.Module | None = None
    ) -> None:
        super().__init__()
        self._held = [{"logits": outputs} if isinstance(outputs, Tensor) else dict(outputs)]
        self._model = [model]
        self.sees = list(sees)

    @property
    def outputs(self) -> dict[str, Tensor]:
        """Output or path of a layer -> [N, ...], by row of the source."""
        return self._held[0]

    @property
    def logits(self) -> Tensor:
        """[N, C], by row of the source."""
        return self._held[0]["logits"]

    @property
    def reads(self) -> tuple[str, ...]:
        """What there is of the teacher, in one order whether it was computed or read from a file."""
        return tuple(sorted(self._held[0]))

    @property
    def model(self) -> nn.Module | None:
        """The teacher itself, where it was given."""
        return self._model[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Cached:
        self._held = [{name: fn(value) for name, value in self._held[0].items()}]
        return self

    def forward(self, batch: Batch) -> Output:
        return Output.of({name: value[batch.index] for name, value in self._held[0].items()})


@torch.no_grad()
def cache(teacher: Frozen, batches: Iterable[Batch]) -> Cached:
    """Compute what students learn from a teacher for all rows of a source, given in source order."""
    answers = [teacher(batch) for batch in batches]
    names = dict.fromkeys((*LOGITS, *teacher.reads))
    return Cached({n: torch.cat([each.read(n) for each in answers]) for n in names}, teacher.sees, teacher.model)


def state_digest(state: Mapping[str, Any]) -> str:
    """Return the sha256 of a state dict's names, shapes and bytes: equal means bit for bit the same."""
    import hashlib

    found = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return found.hexdigest()
