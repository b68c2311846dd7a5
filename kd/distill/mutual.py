"""Mutual learning: networks that teach one another while they train, none of them finished before another.

A graph of teachers and students cannot say it, so it has a LightningModule of its own beside `Distiller`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from kd.distill import OPTIMIZERS, SCHEDULES
from kd.distill.loss import diverged, known
from kd.distill.module import SCORE
from kd.distill.view import row_draws
from kd.errors import ConfigError
from kd.models.network import as_output
from kd.objectives.kl import KL
from kd.seeding import derive, noise
from kd.tasks import Task, make_task
from kd.types import Batch, Output, drop, eligible


class Mutual(pl.LightningModule):
    """Train K networks together, each on labels and on what the others say of the same rows.

    `loss_k = CE_k + weight / (K - 1) sum_{j != k} T^2 KL(p_j || p_k)`, p_j without a gradient (Zhang et al. 2018, arXiv
    1706.00384, equations 5 to 7 and 9). All networks take their step at once, from the answers before it; the paper
    updates one after the other. Networks may see different modalities: two of them teach each other on the rows that
    both can answer.

    Args:
        models: name -> network that maps (inputs by modality, present) to logits and says what it sees (`modalities`).
        weight: of what the others say, at least 0.
        temperature: T > 0.
        drop: probability in [0, 1) that an available modality is hidden in training, drawn for each network alone.
        task: by default that of the first network, `multiclass` if it has none.
        optimizer: part, see `kd list optimizers`; the same for all networks.
        schedule: part, see `kd list schedules`.
        seed: of noise and dropped modalities.

    Raises:
        ConfigError: fewer than two networks, one that does not say what it sees, or a number out of range.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        *,
        weight: float = 1.0,
        temperature: float = 1.0,
        drop: float = 0.0,
        task: Task | None = None,
        optimizer: Mapping[str, Any] | None = None,
        schedule: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if len(models) < 2:
            raise ConfigError(f"models: expected two networks or more that teach one another, got {len(models)}")
        for name, model in models.items():
            if not hasattr(model, "modalities"):
                raise ConfigError(f"models.{name}: does not say what it sees; wrap it, kd.adapt(network, image='x')")
        if not weight >= 0 or not 0 <= drop < 1:
            raise ConfigError(f"expected weight of at least 0 and drop in [0, 1), got {weight} and {drop}")
        self.models = nn.ModuleDict({name: models[name] for name in sorted(models)})
        self.objective = KL(temperature=temperature)
        self.weight, self.drop, self.seed = weight, drop, seed
        first = next(iter(self.models.values()))
        self.task = task or make_task(getattr(first, "task", "multiclass"), getattr(first, "classes", 0))
        self.optimizer_part = dict(optimizer or {"name": "adam"})
        self.schedule_part = dict(schedule or {"name": "constant"})
        self._answers: list[tuple[dict[str, Tensor], Tensor]] = []

    def forward(self, batch: Batch) -> dict[str, Output]:
        """Answer a batch with every network, each as it sees it."""
        return {name: self._answer(name, batch) for name in self.models}

    def _answer(self, name: str, batch: Batch) -> Output:
        seen = batch.select(self.models[name].modalities)  # type: ignore[arg-type]
        return as_output(self.models[name](seen.inputs, seen.present))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        step = self.global_step
        with noise(self.seed, "noise", step, batch_index, self.global_rank):
            answers = {name: self._answer(name, self._dropped(name, batch, step)) for name in self.models}
        losses = self.losses(answers, batch)
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            raise diverged(step)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, batch_size=len(batch))
        return loss

    def losses(self, answers: Mapping[str, Output], batch: Batch) -> dict[str, Tensor]:
        """Return each network's loss, summed over its rows and divided by the rows of the batch."""
        order = list(batch.inputs)
        columns = {name: [order.index(m) for m in model.modalities] for name, model in self.models.items()}  # type: ignore[union-attr]
        counted = {name: eligible(batch.present, "any", own, batch.labelled) for name, own in columns.items()}
        found = {}
        for name, own in answers.items():
            each = self.task.loss(own.logits.float(), batch.label, batch.labelled & counted[name])
            for other, given in answers.items():
                if other != name:
                    taught = self.objective(own, given.detach(), **known(batch, counted[name] & counted[other]))
                    each = each + self.weight / (len(answers) - 1) * taught
            found[name] = each.sum() / len(batch)
        return found

    def _dropped(self, name: str, batch: Batch, step: int) -> Batch:
        if self.drop == 0:
            return batch
        sees: list[str] = self.models[name].modalities  # type: ignore[assignment]
        seen = batch.select(sees)
        draws = row_draws(derive(self.seed, "drop", name, step), batch.index, 2 * len(sees))
        return seen.with_present(drop(seen.present, self.drop, draws))

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._answers.append(({name: own.logits.float() for name, own in self(batch).items()}, batch.label))

    def on_validation_epoch_end(self) -> None:
        label = torch.cat([label for _, label in self._answers])
        logits = {name: torch.cat([each[name] for each, _ in self._answers]) for name in self.models}
        self._answers.clear()
        scores = {f"{SCORE}/{name}": self.task.score(each, label) for name, each in logits.items()}
        self.log_dict({**scores, SCORE: sum(scores.values()) / len(scores)}, sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = OPTIMIZERS.build(self.optimizer_part, list(self.models.parameters()))
        schedule = SCHEDULES.build(self.schedule_part, optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
