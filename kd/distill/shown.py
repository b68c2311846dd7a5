"""Which rows a training was really shown, from the batches themselves and not from what was planned."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from kd.data.leaks.audit import Audit
from kd.errors import ConfigError


class AuditRows(pl.Callback):
    """Record the rows of the batches that a `Trainer` shows a module: in training, and in looks at validation rows.

    Batches carry `index`, the row in the source (`kd.types.Batch`). A step costs one reference; once a round the ids
    are made distinct. What was recorded travels in the checkpoint, so that a resumed training knows what it saw before.
    Of several processes each knows the rows that it was shown itself.

    Attributes:
        fitted: training rows, int64 and ascending.
        chosen: rows of the looks at validation data, which choose the checkpoint.
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[Tensor]] = {"fitted": [], "chosen": []}

    @property
    def fitted(self) -> Tensor:
        return self._distinct("fitted")

    @property
    def chosen(self) -> Tensor:
        return self._distinct("chosen")

    def audit(self, name: str = "model", ledger: Audit | None = None) -> Audit:
        """Return a ledger with what was seen, entered under `name: rows` and `name: selection`.

        Args:
            name: of the module.
            ledger: to add to; by default a new one.
        """
        ledger = ledger or Audit()
        ledger.saw(f"{name}: rows", self.fitted)
        ledger.saw(f"{name}: selection", self.chosen)
        return ledger

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._rows["fitted"].append(index_of(batch))

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._rows["chosen"].append(index_of(batch))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.state_dict()

    def state_dict(self) -> dict[str, Any]:
        return {"fitted": self.fitted, "chosen": self.chosen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows = {name: [state_dict[name]] for name in ("fitted", "chosen")}

    def _distinct(self, name: str) -> Tensor:
        rows = [index.reshape(-1).cpu() for index in self._rows[name]]
        self._rows[name] = [torch.cat(rows).unique()] if rows else []
        return self._rows[name][0] if rows else torch.empty(0, dtype=torch.int64)


def index_of(batch: Any) -> Tensor:
    """Return the rows of a batch, int64 [B].

    Raises:
        ConfigError: it is no batch of ours, and does not say.
    """
    index = getattr(batch, "index", None)
    if not isinstance(index, Tensor):
        raise ConfigError(
            f"AuditRows: expected batches with index, the rows in the source, got {type(batch).__name__}; "
            "make them with kd.Batch.of(inputs, label, index)"
        )
    return index.detach()
