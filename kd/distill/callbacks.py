"""What watches a training: best weights on validation, curves, progress, the checkpoint a killed run resumes from."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from kd.distill.module import SCORE
from kd.record import storage_errors

CHECKPOINT = "last.ckpt"
SECONDS_BETWEEN_CHECKPOINTS = 5.0


class KeepBest(pl.Callback):
    """Keep the weights with the best validation score and load them back when the training ends.

    Ties go to the later round. Its state travels in the checkpoint, so that a resumed run keeps the same weights.

    Args:
        select: `last` keeps nothing and leaves the final weights.
        patience: looks without a better score, or one as good, after which training stops; None never stops it.
    """

    def __init__(self, select: str, patience: int | None = None) -> None:
        self.select, self.patience = select, patience
        self.score, self.round = float("-inf"), 0
        self.weights: dict[str, torch.Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A node without a usable score (NaN) keeps what it had.
        score = float(trainer.callback_metrics[SCORE])
        if score >= self.score or self.select == "last":
            self.score, self.round = score, trainer.current_epoch
            if self.select != "last":
                self.weights = {k: v.detach().clone() for k, v in pl_module.model.state_dict().items()}  # type: ignore[union-attr]
        if self.patience is not None and trainer.current_epoch - self.round >= self.patience:
            trainer.should_stop = True

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.weights:
            pl_module.model.load_state_dict(self.weights)  # type: ignore[union-attr]

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "round": self.round, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.score, self.round, self.weights = state_dict["score"], state_dict["round"], state_dict["weights"]


class Curves(pl.Callback):
    """Collect every logged quantity, one row per round and quantity."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for quantity, value in trainer.callback_metrics.items():
            self.rows.append({"epoch": trainer.current_epoch, "quantity": quantity, "value": float(value)})

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


class Progress(pl.Callback):
    """Tell a listener how many steps are done, once a round."""

    def __init__(self, tick: Callable[[int, int], None]) -> None:
        self.tick = tick

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rounds = trainer.max_epochs or 1
        steps = trainer.global_step
        self.tick(steps, steps * rounds // (trainer.current_epoch + 1))


class Resume(pl.Callback):
    """Write a checkpoint every few seconds, through a temporary name, for a killed run to go on from.

    Args:
        folder: made when the first checkpoint is due; the executor removes it when the node is finished.
        seconds: least time between two checkpoints.
    """

    def __init__(self, folder: Path, seconds: float = SECONDS_BETWEEN_CHECKPOINTS) -> None:
        self.folder, self.seconds = folder, float(os.environ.get("KD_CHECKPOINT_SECONDS", seconds))
        self.written = time.monotonic()

    def checkpoint(self) -> str | None:
        """Return the checkpoint to resume from; one that cannot be read is set aside and training starts afresh."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            return None
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # any way of being damaged ends the same: the run starts over, to the same numbers
            path.unlink()
            return None
        return str(path)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if time.monotonic() - self.written < self.seconds:
            return
        path = self.folder / CHECKPOINT
        with storage_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(path.with_suffix(".writing"))
            os.replace(path.with_suffix(".writing"), path)
        self.written = time.monotonic()
