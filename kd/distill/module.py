"""The LightningModule that trains any node, teacher or student, under a plain `pytorch_lightning.Trainer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from kd.distill import OPTIMIZERS, SCHEDULES
from kd.distill.loss import Edge, distillation_loss, total
from kd.distill.teachers import as_output
from kd.distill.view import drop, eligible, pattern, subsets
from kd.errors import ConfigError
from kd.seeding import generator, noise
from kd.tasks import Task, make_task
from kd.types import Batch, Output

SCORE = "validation_score"
"""What is logged after each look at the validation rows: the task's primary metric on the patterns of `select`."""


class Distiller(pl.LightningModule):
    """Train a network on labels and, along its edges, on teachers.

    Dropout noise, dropped modalities and (with our data module) the order of rows are functions of (seed, epoch, step):
    a resumed training equals an uninterrupted one. Teachers are outside checkpoint and optimiser.

    Args:
        model: maps (inputs by modality, present) to logits or `Output`.
        edges: teachers by name, or a plain sequence of them.
        sees: the model's modalities, where it does not say itself.
        rows: learn from rows with `any` of its modalities, or from `complete` rows.
        drop: probability in [0, 1) that an available modality is hidden in training.
        supervised: weight of the labels' loss.
        task: by default the model's own, `multiclass` if it has none.
        optimizer: part, see `kd list optimizers`.
        schedule: part, see `kd list schedules`.
        select: patterns the validation score is taken on: everything present, or the mean over all `subsets`.
        seed: of noise and dropped modalities.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        edges: Mapping[str, Edge] | Sequence[Edge] = (),
        sees: Sequence[str] | None = None,
        rows: Literal["any", "complete"] = "any",
        drop: float = 0.0,
        supervised: float = 1.0,
        task: Task | None = None,
        optimizer: Mapping[str, Any] | None = None,
        schedule: Mapping[str, Any] | None = None,
        select: Literal["complete", "subsets", "last"] = "complete",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= drop < 1:
            raise ConfigError(f"drop: expected a probability in [0, 1), got {drop}")
        named = dict(edges) if isinstance(edges, Mapping) else {str(i): edge for i, edge in enumerate(edges)}
        self.model = model
        self.edges = nn.ModuleDict({name: named[name] for name in sorted(named)})
        self.sees: list[str] = list(sees if sees is not None else model.modalities)  # type: ignore[arg-type]
        self.rows, self.drop, self.supervised, self.select, self.seed = rows, drop, supervised, select, seed
        self.task = task or make_task(getattr(model, "task", "multiclass"), getattr(model, "classes", 0))
        self.optimizer_part = dict(optimizer or {"name": "adam"})
        self.schedule_part = dict(schedule or {"name": "constant"})
        self._validation: list[tuple[Tensor, Tensor]] = []

    def setup(self, stage: str) -> None:
        """Ask our data module, where there is one, for the rows this node learns from."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and hasattr(datamodule, "train_for"):
            datamodule.train_for(self.sees, self.rows)  # type: ignore[union-attr]

    def forward(self, batch: Batch) -> Output:
        """Answer a batch that may hold more modalities than the model sees."""
        seen = batch.select(self.sees)
        return as_output(self.model(seen.inputs, seen.present))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        step = self.global_step
        with noise(self.seed, "noise", step, self.global_rank):
            student = self(self._dropped(batch, step))
            terms = distillation_loss(
                student,
                self._teach(batch),
                dict(self.edges.items()),  # type: ignore[arg-type]
                batch,
                self.task,
                counted=self._counted(batch),
                supervised=self.supervised,
            )
        loss = total(terms)
        if not torch.isfinite(loss):
            raise ConfigError(
                f"training: the loss is {loss.item()} at step {step}; lower optimizer.lr or look for huge values"
            )
        logged = {f"train/{name}": value for name, value in terms.items()} if len(terms) > 1 else {}
        self.log_dict({"train_loss": loss, **logged}, on_step=False, on_epoch=True, batch_size=len(batch))
        return loss

    def _counted(self, batch: Batch) -> Tensor:
        order = list(batch.inputs)
        return eligible(batch.present, self.rows, [order.index(name) for name in self.sees])

    def _dropped(self, batch: Batch, step: int) -> Batch:
        if self.drop == 0:
            return batch
        seen = batch.select(self.sees)
        stream = generator(self.seed, "drop", step, self.global_rank)
        return seen.with_present(drop(seen.present, self.drop, stream))

    def _teach(self, batch: Batch) -> dict[str, Output]:
        return {name: self._answer(edge, batch) for name, edge in self.edges.items()}  # type: ignore[arg-type]

    def _answer(self, edge: Edge, batch: Batch) -> Output:
        if edge.teacher is not None:
            return edge.teacher(batch)
        with torch.no_grad():
            return self(batch).detach()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        seen = batch.select(self.sees)
        chosen = subsets(self.sees) if self.select == "subsets" else [tuple(self.sees)]
        answers = []
        for subset in chosen:
            present = seen.present & pattern(self.sees, subset).to(seen.present.device)
            answers.append(as_output(self.model(seen.inputs, present)).logits)
        self._validation.append((torch.stack(answers), batch.label))

    def on_validation_epoch_end(self) -> None:
        logits = torch.cat([answer for answer, _ in self._validation], dim=1)
        label = torch.cat([label for _, label in self._validation])
        self._validation.clear()
        score = sum(self.task.score(each, label) for each in logits) / len(logits)
        everything = torch.ones_like(label, dtype=torch.bool) if label.dim() == 1 else label.new_ones(len(label)).bool()
        loss = torch.stack([self.task.loss(each, label, everything).mean() for each in logits]).mean()
        self.log_dict({SCORE: score, "validation_loss": loss})

    def configure_optimizers(self) -> Any:
        optimizer = OPTIMIZERS.build(self.optimizer_part, self.parameters())
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = SCHEDULES.build(self.schedule_part, optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
