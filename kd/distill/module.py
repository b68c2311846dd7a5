"""The LightningModule that trains any node, teacher or student, under a plain `pytorch_lightning.Trainer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call

from kd.distill import OPTIMIZERS, SCHEDULES
from kd.distill.augment import Augmentation
from kd.distill.averaged import Averaged
from kd.distill.branches import branches, frozen, parameter_groups
from kd.distill.loss import Edge, curve_points, distillation_loss, diverged, total
from kd.distill.recombine import recombine
from kd.distill.teachers import Cached
from kd.distill.view import grown, judged, pattern, row_draws
from kd.errors import ConfigError
from kd.models.hints import answer
from kd.models.network import as_output
from kd.objectives.teacher_weights import TeacherWeights
from kd.seeding import derive, generator, noise
from kd.tasks import Task, make_task
from kd.types import Batch, Output, drop, eligible, layers

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""What Lightning can do with batches of ours; whole networks in another type need the batch changed as well."""
SCORE = "validation_score"
"""What is logged after each look at the validation rows: the task's primary metric on the patterns of `select`."""


class Distiller(pl.LightningModule):
    """Train a network on labels and, along its edges, on teachers.

    Noise, dropped modalities and (with our data module) the order of rows are functions of (seed, epoch, step): a
    resumed training equals an uninterrupted one. What is dropped is a function of (seed, step, row), and each process
    weighs its rows by their share of the global batch, so that two processes of 16, or two accumulated batches of 16,
    take the step of one batch of 32. Teachers are outside checkpoint and optimiser.

    Args:
        model: maps (inputs by modality, present) to logits, `Output`, or anything with `.logits`.
        edges: teachers by name, or a plain sequence of them.
        sees: the model's modalities, where it does not say itself.
        rows: learn from rows with `any` of its modalities, from `complete` rows, or from `labelled` ones, where
            teachers would teach it on others as well.
        drop: probability in [0, 1) that an available modality is hidden in training.
        drop_warmup: share of the steps over which `drop` grows from 0.
        recombine: probability in [0, 1] that a row takes each modality from a row of its class, see
            `kd.distill.recombine`.
        supervised: weight of the labels' loss.
        task: by default the model's own, `multiclass` if it has none.
        optimizer: part, see `kd list optimizers`.
        schedule: part, see `kd list schedules`.
        select: patterns the validation score is taken on: everything present, or the mean over all `subsets`.
        seed: of noise and dropped modalities.
        learning_rates: modality (its encoder), or path of a branch -> its own learning rate; 0 freezes it.
        augment: modality -> random change of its training rows, see `kd.distill.augment`.
        combine: how several teachers are weighed against each other, see `kd.distill.combine`; by default their terms
            are summed.

    Raises:
        ConfigError: a number out of range, an unknown branch, or a network that does not say what it sees.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        edges: Mapping[str, Edge] | Sequence[Edge] = (),
        sees: Sequence[str] | None = None,
        rows: Literal["any", "complete", "labelled"] = "any",
        drop: float = 0.0,
        drop_warmup: float = 0.0,
        recombine: float = 0.0,
        supervised: float = 1.0,
        task: Task | None = None,
        optimizer: Mapping[str, Any] | None = None,
        schedule: Mapping[str, Any] | None = None,
        select: Literal["complete", "subsets", "last"] = "complete",
        seed: int = 0,
        learning_rates: Mapping[str, float] | None = None,
        augment: Mapping[str, Augmentation] | None = None,
        combine: TeacherWeights | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= drop < 1:
            raise ConfigError(f"drop: expected a probability in [0, 1), got {drop}")
        for field, share in (("drop_warmup", drop_warmup), ("recombine", recombine)):
            if not 0 <= share <= 1:
                raise ConfigError(f"{field}: expected a share in [0, 1], got {share}")
        if sees is None and not hasattr(model, "modalities"):
            raise ConfigError(
                "sees: name the modalities that the network takes, as in Distiller(network, sees=['image'])"
            )
        named = dict(edges) if isinstance(edges, Mapping) else {str(i): edge for i, edge in enumerate(edges)}
        self.model = model
        self.edges = nn.ModuleDict({name: named[name] for name in sorted(named)})
        self.sees: list[str] = list(sees if sees is not None else model.modalities)  # type: ignore[arg-type]
        self.rows, self.drop, self.supervised, self.select, self.seed = rows, drop, supervised, select, seed
        self.drop_warmup, self.recombine = drop_warmup, recombine
        self.task = task or make_task(getattr(model, "task", "multiclass"), getattr(model, "classes", 0))
        self._asks_for_task = task is None and not hasattr(model, "classes")
        self.rates = branches(model, learning_rates or {})
        self._still: list[nn.Module] = []
        self.augment = dict(augment or {})
        _refuse_stale(named, self.augment, recombine)
        for name, edge in named.items():
            edge.prepare(model, derive(seed, "edge", name))
        self.combine = combine
        self.averages = nn.ModuleDict(
            {name: Averaged(model, edge.decay) for name, edge in named.items() if edge.decay is not None}
        )
        self.layers = layers([read for edge in named.values() for read in edge.student_reads])
        self.optimizer_part = dict(optimizer or {"name": "adam"})
        self.schedule_part = dict(schedule or {"name": "constant"})
        self._steps_in_all = 0.0
        self._validation: list[tuple[Tensor, Tensor]] = []
        self._sums: dict[str, Tensor] = {}
        self._rows = 0

    def setup(self, stage: str) -> None:
        """Learn from the trainer what only it knows: the labels of its data, its processes, what it cannot do."""
        if str(self.trainer.precision) not in PRECISIONS:
            raise ConfigError(f"precision: expected one of {', '.join(PRECISIONS)}, got {self.trainer.precision!r}")
        source = getattr(getattr(self.trainer, "datamodule", None), "source", None)
        if self._asks_for_task and source is not None:
            self.task = make_task(source.task, source.classes)
        if self.trainer.world_size > 1 and getattr(self.model, "skip_absent", False):
            # An encoder that one process skips would have no gradient there, and the others would wait for it.
            self.model.skip_absent = False  # type: ignore[assignment]
        self._still = frozen(self.model, self.rates)

    def on_train_start(self) -> None:
        for module in self._still:
            module.eval()
        if getattr(self.model, "ranges", None):
            self.model.ranges = {}  # type: ignore[assignment]  # they held for the weights before

    def forward(self, batch: Batch) -> Output:
        """Answer a batch that may hold more modalities than the model sees."""
        seen = batch.select(self.sees)
        return answer(self.model, seen.inputs, seen.present, self.layers)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        step = self.global_step
        for average in self.averages.values():
            average.follow(self.model, step)  # type: ignore[operator]
        # Batches that are accumulated into one step share it.
        place = (step, batch_index, self.global_rank)
        batch = self._augmented(self._recombined(batch, step), place)
        with noise(self.seed, "noise", *place):
            student = self(self._dropped(batch, step))
            terms = distillation_loss(
                student,
                self._teach(batch),
                dict(self.edges.items()),
                batch,
                self.task,
                counted=self._counted(batch),
                supervised=self.supervised,
                weights=self.combine,
            )
        loss = total(terms)
        if not torch.isfinite(loss):
            raise diverged(step)
        self._note(loss, terms, len(batch))
        return self._shared(loss, len(batch))

    def _note(self, loss: Tensor, terms: Mapping[str, Tensor], rows: int) -> None:
        """Log the epoch's means with its last batch: logging each batch takes as long as training a small network."""
        for name, value in curve_points(loss, terms).items():
            self._sums[name] = self._sums.get(name, 0.0) + rows * value.detach()
        self._rows += rows
        if getattr(self._trainer, "is_last_batch", False):
            means = {name: value / self._rows for name, value in self._sums.items()}
            self.log_dict(means, on_step=False, on_epoch=True, batch_size=self._rows, sync_dist=True)
            self._sums, self._rows = {}, 0

    def _shared(self, loss: Tensor, rows: int) -> Tensor:
        """Weigh a process's mean by its rows: processes are averaged, and the last batch may not divide evenly."""
        world = getattr(self._trainer, "world_size", 1)
        if world == 1:
            return loss
        mine = torch.tensor(float(rows), device=loss.device)
        everyone = self.trainer.strategy.reduce(mine.clone(), reduce_op="sum")
        return loss * (world * mine / everyone)

    def _counted(self, batch: Batch) -> Tensor:
        order = list(batch.inputs)
        return eligible(batch.present, self.rows, [order.index(name) for name in self.sees], batch.labelled)

    def _augmented(self, batch: Batch, place: tuple[int, int, int]) -> Batch:
        inputs = dict(batch.inputs)
        for name, change in self.augment.items():
            inputs[name] = change(inputs[name], generator(self.seed, "augment", name, *place))
        return replace(batch, inputs=inputs)

    def _recombined(self, batch: Batch, step: int) -> Batch:
        if self.recombine == 0:
            return batch
        draws = row_draws(derive(self.seed, "recombine", step), batch.index, 1 + len(batch.inputs))
        return recombine(batch, self.recombine, draws)

    def _dropped(self, batch: Batch, step: int) -> Batch:
        if self.drop == 0:
            return batch
        seen = batch.select(self.sees)
        draws = row_draws(derive(self.seed, "drop", step), batch.index, 2 * len(self.sees))
        rate = grown(self.drop, step, self._steps_in_all, self.drop_warmup)
        return seen.with_present(drop(seen.present, rate, draws))

    def _teach(self, batch: Batch) -> dict[str, Output]:
        return {name: self._answer(name, edge, batch) for name, edge in self.edges.items()}  # type: ignore[arg-type]

    def _answer(self, name: str, edge: Edge, batch: Batch) -> Output:
        if edge.teacher is not None:
            return edge.teacher(batch)
        weights = self.averages[name].weights("model.") if name in self.averages else {}  # type: ignore[operator]
        with torch.no_grad():
            own: Output = functional_call(self, weights, (batch,))
            return own.detach()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        seen = batch.select(self.sees)
        answers = []
        for subset in judged(self.sees, self.select):
            present = seen.present & pattern(self.sees, subset).to(seen.present.device)
            logits = as_output(self.model(seen.inputs, present)).logits
            answers.append(logits.to(torch.promote_types(logits.dtype, torch.float32)))
        self._validation.append((torch.stack(answers), batch.label))

    def on_validation_epoch_end(self) -> None:
        logits = torch.cat([answer for answer, _ in self._validation], dim=1)
        label = torch.cat([label for _, label in self._validation])
        self._validation.clear()
        if not self.task.outputs:
            self.task = make_task(self.task.name, logits.shape[-1])
        score = sum(self.task.score(each, label) for each in logits) / len(logits)
        everything = torch.ones_like(label, dtype=torch.bool) if label.dim() == 1 else label.new_ones(len(label)).bool()
        loss = torch.stack([self.task.loss(each, label, everything).mean() for each in logits]).mean()
        # Every process has looked at all rows, so that the mean over processes is each one's own.
        self.log_dict({SCORE: score, "validation_loss": loss}, sync_dist=True)

    def configure_optimizers(self) -> Any:
        rest = [*self.edges.parameters(), *(self.combine.parameters() if self.combine is not None else ())]
        groups = parameter_groups(self.model, rest, self.rates)
        optimizer = OPTIMIZERS.build(self.optimizer_part, groups)
        self._steps_in_all = self.trainer.estimated_stepping_batches
        steps = int(self._steps_in_all)
        schedule = SCHEDULES.build(self.schedule_part, optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _refuse_stale(edges: Mapping[str, Edge], augment: Mapping[str, Augmentation], recombined: float) -> None:
    for name, edge in edges.items():
        if not isinstance(edge.teacher, Cached):
            continue
        changed = sorted(edge.teacher.sees if recombined else set(augment) & set(edge.teacher.sees))
        if changed:
            raise ConfigError(
                f"edge {name}: the teacher's outputs were computed on {', '.join(changed)} as it is, which the student "
                "augments or recombines; give the teacher itself"
            )
