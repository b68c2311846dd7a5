"""What watches a stack, replica by replica: best weights on validation, curves; who stops improving, stops costing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from kd.distill.replicas import Replicas
from kd.distill.shown import index_of


class KeepBestEach(pl.Callback):
    """Hold, for every replica, the weights with its best validation score; ties go to the later round.

    With a patience, a replica that has not improved for so many looks stops and costs nothing from then on; so does one
    whose loss is no number.

    Args:
        replicas: R, of the stack as it was made.
        select: `last` keeps the final weights.
        patience: looks at the validation rows; None trains every replica to the end.
    """

    def __init__(self, replicas: int, select: str, patience: int | None = None) -> None:
        self.select, self.patience = select, patience
        self.score = torch.full((replicas,), -torch.inf)
        self.round = torch.zeros(replicas, dtype=torch.int64)
        self.rounds = torch.zeros(replicas, dtype=torch.int64)
        """[R], how many each was trained for."""
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Replicas)
        alive, scores = pl_module.fold.alive, pl_module.scores
        # A replica without a usable score (NaN) keeps what it had.
        better = torch.ones_like(scores, dtype=torch.bool) if self.select == "last" else scores >= self.score[alive]
        chosen = alive[better]
        self.rounds[alive] = trainer.current_epoch + 1
        self.score[chosen], self.round[chosen] = scores[better], trainer.current_epoch
        for name, value in pl_module.model.each().items():
            if name not in self.weights:
                self.weights[name] = value.detach().clone()
            self.weights[name][chosen] = value.detach()[better]
        self._stop_some(trainer, pl_module)

    def _stop_some(self, trainer: pl.Trainer, replicas: Replicas) -> None:
        alive = replicas.fold.alive
        going = torch.tensor([int(r) not in replicas.failed for r in alive])
        if self.patience is not None:
            going &= trainer.current_epoch - self.round[alive] < self.patience
        if not bool(going.any()):
            trainer.should_stop = True
        elif not bool(going.all()):
            replicas.narrow(going.nonzero().flatten())

    def state_of(self, replica: int, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a replica's best weights as the ordinary network stores them.

        Args:
            replica: of the stack as it was made.
            shared: what all replicas have in common.
        """
        return {name: value[replica].clone() for name, value in self.weights.items()} | dict(shared)

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "round": self.round, "rounds": self.rounds, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.score, self.round, self.weights = state_dict["score"], state_dict["round"], state_dict["weights"]
        self.rounds = state_dict["rounds"]


class CurvesEach(pl.Callback):
    """Collect what every replica's training would log alone, a row per round and quantity.

    Comes before `KeepBestEach`, which takes those out that stop.

    Args:
        replicas: R, of the stack as it was made.
    """

    def __init__(self, replicas: int) -> None:
        self.rows: list[list[dict[str, Any]]] = [[] for _ in range(replicas)]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Replicas)
        for quantity, values in pl_module.curves.items():
            for replica, value in zip(pl_module.fold.alive.tolist(), values.tolist(), strict=True):
                self.rows[replica].append({"epoch": trainer.current_epoch, "quantity": quantity, "value": value})


class AuditRowsEach(pl.Callback):
    """Record the rows of the batches that every replica is shown, as `kd.distill.shown.AuditRows` does for one student.

    Args:
        replicas: R, of the stack as it was made.
    """

    def __init__(self, replicas: int) -> None:
        self.fitted = [torch.empty(0, dtype=torch.int64) for _ in range(replicas)]
        """[R], training rows of each, ascending."""
        self.chosen = torch.empty(0, dtype=torch.int64)
        """Rows of the looks at validation data, which all replicas share."""
        self._steps: list[tuple[Tensor, Tensor]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Replicas)
        self._steps.append((pl_module.fold.alive, pl_module.fold.unfold(index_of(batch))))

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.chosen = torch.cat([self.chosen, index_of(batch).cpu()]).unique()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Replicas leave between rounds only: all steps of one have the same.
        alive, rows = self._steps[0][0].tolist(), torch.cat([rows for _, rows in self._steps], dim=1).cpu()
        for replica, own in zip(alive, rows, strict=True):
            self.fitted[replica] = torch.cat([self.fitted[replica], own]).unique()
        self._steps = []

    def shown(self, replica: int) -> dict[str, list[int]]:
        """Return what one replica was shown, as `kd.distill.trained.Made` has it."""
        return {"rows": self.fitted[replica].tolist(), "selection": self.chosen.tolist()}
