"""Teachers that cannot change: live networks, or their outputs computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.models.network import as_output
from kd.types import Batch, Output


class Frozen(nn.Module):
    """A network held in eval mode, outside parameters, buffers, optimiser and checkpoint, yet following the device.

    The network is kept in a list, where `nn.Module` does not look for children.

    Args:
        model: maps (inputs, present) to logits or `Output`.
        sees: the modalities it takes; by default its own `modalities`.

    Raises:
        ConfigError: neither says what it takes.
    """

    def __init__(self, model: nn.Module, sees: Sequence[str] | None = None) -> None:
        super().__init__()
        if sees is None and not hasattr(model, "modalities"):
            raise ConfigError(
                "edge: name the modalities that the teacher takes, as in Edge(network, ..., sees=['image'])"
            )
        self._held = [model]
        self.sees = list(sees if sees is not None else model.modalities)  # type: ignore[arg-type]

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
        return as_output(self.model(seen.inputs, seen.present)).detach()


class Cached(nn.Module):
    """A frozen teacher's logits for every row of the source, looked up by `batch.index`.

    Exact only where nothing is augmented; availability is that of the source's rows under the mask. Kept out of the
    buffers, which processes that train together would send each other at every step.

    Args:
        logits: [N, C].
        sees: the teacher's modalities.
    """

    def __init__(self, logits: Tensor, sees: Sequence[str]) -> None:
        super().__init__()
        self._held = [logits]
        self.sees = list(sees)

    @property
    def logits(self) -> Tensor:
        """[N, C], by row of the source."""
        return self._held[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Cached:
        self._held = [fn(self._held[0])]
        return self

    def forward(self, batch: Batch) -> Output:
        return Output(logits=self._held[0][batch.index])


@torch.no_grad()
def cache(teacher: Frozen, batches: Iterable[Batch]) -> Cached:
    """Compute a teacher's logits for all rows of a source, given in source order."""
    return Cached(torch.cat([teacher(batch).logits for batch in batches]), teacher.sees)


def state_digest(state: Mapping[str, Any]) -> str:
    """Return the sha256 of a state dict's names, shapes and bytes: equal means bit for bit the same."""
    import hashlib

    found = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return found.hexdigest()
