"""Many trainings of one form as one: the LightningModule that takes a step for R students at once.

Each replica keeps what it would have alone: initial weights, order of rows, availability, dropped modalities, teachers,
the weights of its losses, temperature, learning rate and weight decay. Only dropout's noise is drawn for the stack as a
whole. A replica whose loss is not finite stops counting and touches no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.func import functional_call

from kd.distill import SCHEDULES
from kd.distill.averaged import Averaged
from kd.distill.branches import frozen, parameter_groups
from kd.distill.loss import distillation_loss, total
from kd.distill.memory import keep_freed_memory
from kd.distill.module import SCORE, Distiller
from kd.distill.rates import stacked_optimizer
from kd.distill.recombine import recombine
from kd.distill.stack import StackedEdge, StackedWeights, kind_of
from kd.distill.view import grown, judged, pattern, row_draws
from kd.errors import ConfigError
from kd.models.network import as_output
from kd.models.stacked import Stacked, unreplicable
from kd.seeding import derive, generator
from kd.types import Batch, Output, drop, eligible

ALIKE = ("sees", "rows", "select", "rates", "schedule_part", "drop_warmup", "recombine")
"""What all replicas of a stack share; everything else may differ."""


class Replicas(pl.LightningModule):
    """Train R students of one form in one fit, each as it would be trained alone.

    Args:
        students: built, one per replica; of one form, with edges of the same names.
        seed: of the noise that dropout adds to all of them.
        clip: largest norm of a replica's gradient; None leaves it.

    Raises:
        ConfigError: they cannot be stacked; with the part that does not stack, or the field in which they differ.
    """

    def __init__(self, students: Sequence[Distiller], *, seed: int = 0, clip: float | None = None) -> None:
        super().__init__()
        first = students[0]
        _refuse_unstackable(students)
        _refuse_unlike(students)
        self.automatic_optimization = False
        compared = [read for edge in first.edges.values() for read in edge.student_reads]  # type: ignore[union-attr]
        self.model = Stacked([student.model for student in students], reads=compared)
        self.fold = self.model.fold
        self.edges = nn.ModuleDict(
            {n: StackedEdge([student.edges[n] for student in students], self.fold) for n in first.edges}  # type: ignore[misc]
        )
        self.averages = nn.ModuleDict(
            {n: Averaged(self.model, edge.decay) for n, edge in first.edges.items() if edge.decay is not None}  # type: ignore[arg-type]
        )
        own = [student.combine for student in students if student.combine is not None]
        self.combine = StackedWeights(own, self.fold) if own else None
        self.sees, self.rows, self.select, self.task = first.sees, first.rows, first.select, first.task
        self.seed, self.clip = seed, clip
        self.seeds = [student.seed for student in students]
        self.drop = torch.tensor([student.drop for student in students])
        self.drop_warmup, self.recombine = first.drop_warmup, first.recombine
        self.supervised = torch.tensor([student.supervised for student in students])
        self.augment = [student.augment for student in students]
        self.rates, self.schedule_part = first.rates, first.schedule_part
        self.optimizer_parts = [student.optimizer_part for student in students]
        self.failed: dict[int, int] = {}
        """Replica -> step at which its loss was no number."""
        self.scores = torch.empty(0)
        """[R], of those that are left, after each look at the validation rows."""
        self.curves: dict[str, Tensor] = {}
        """Quantity -> [R] after each look at the validation rows: what `Distiller` logs of one student."""
        self._answers: list[tuple[Tensor, Tensor]] = []
        self._sums: dict[str, Tensor] = {}
        self._steps, self._steps_in_all = 0, 0.0
        self._still: list[nn.Module] = []
        # The first and the last are held until the stack was compared with them: two show whether rows are mixed.
        self._compared = {0: first.model, len(students) - 1: students[-1].model}

    @property
    def replicas(self) -> int:
        """How many are left."""
        return self.fold.replicas

    def setup(self, stage: str) -> None:
        """Freeze what a learning rate of 0 freezes, and refuse what would act on all replicas as if they were one."""
        _refuse_whole_stack(self.trainer)
        keep_freed_memory()
        self._still = frozen(self.model.network, self.rates)

    def on_train_start(self) -> None:
        for module in self._still:
            module.eval()

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Compare the stack with two of its networks on the first batch, once.

        Raises:
            ConfigError: it does not answer as they do; with the network's class.
        """
        if not self._compared:
            return
        networks, self._compared = self._compared, {}
        if self.replicas == self.fold.made_of:
            seen = batch.select(self.sees)
            self.model.check(list(networks.values()), seen.inputs, seen.present, list(networks))

    def training_step(self, batch: Batch, batch_index: int) -> None:
        optimizer, step = self.optimizers(), self.global_step
        for average in self.averages.values():
            average.follow(self.model, step)  # type: ignore[operator]
        batch = self._augmented(self._recombined(batch, step), step)
        self.fold.generator.manual_seed(derive(self.seed, "noise", step))
        terms = self._terms(batch, step)
        each = total(terms)
        optimizer.zero_grad()  # type: ignore[union-attr]
        # No replica's parameters enter another's loss: the gradient of the sum is each one's own.
        self.manual_backward(each.sum())
        if self.clip is not None:
            clip_each(list(self.parameters()), self.clip)
        optimizer.step()  # type: ignore[union-attr]
        self.lr_schedulers().step()  # type: ignore[union-attr]
        self._note(each, terms)
        self._note_failures(each.detach(), step)

    def _terms(self, batch: Batch, step: int) -> dict[str, Tensor]:
        seen = self._dropped(batch.select(self.sees), step)
        student: Output = self.model(seen.inputs, seen.present)
        order = list(batch.inputs)
        return distillation_loss(
            student,
            {name: self._answer(name, edge, batch) for name, edge in self.edges.items()},  # type: ignore[arg-type]
            dict(self.edges.items()),
            batch,
            self.task,
            counted=eligible(batch.present, self.rows, [order.index(name) for name in self.sees], batch.labelled),
            supervised=self.fold.spread(self.supervised, len(batch)),
            weights=self.combine,
            replicas=self.replicas,
        )

    def _answer(self, name: str, edge: StackedEdge, batch: Batch) -> Output:
        if edge.teacher is not None:
            answer: Output = edge.teacher(batch)
            return answer
        seen = batch.select(self.sees)
        weights = self.averages[name].weights() if name in self.averages else {}  # type: ignore[operator]
        with torch.no_grad():
            own: Output = functional_call(self.model, weights, (seen.inputs, seen.present))
            return own.detach()

    def _recombined(self, batch: Batch, step: int) -> Batch:
        if self.recombine == 0:
            return batch
        draws = self._draws("recombine", step, batch, 1 + len(batch.inputs))
        return recombine(batch, self.recombine, draws, replicas=self.replicas)

    def _dropped(self, seen: Batch, step: int) -> Batch:
        if not bool(self.drop.any()):
            return seen
        rate = grown(self.fold.spread(self.drop, len(seen)).unsqueeze(1), step, self._steps_in_all, self.drop_warmup)
        return seen.with_present(drop(seen.present, rate, self._draws("drop", step, seen, 2 * len(self.sees))))

    def _draws(self, use: str, step: int, batch: Batch, columns: int) -> Tensor:
        """Return the draws of `row_draws` for one use, each replica's from its own seed."""
        seeds = torch.tensor([derive(seed, use, step) for seed in self.seeds], device=batch.index.device)
        return row_draws(self.fold.spread(seeds, len(batch)).unsqueeze(1), batch.index, columns)

    def _augmented(self, batch: Batch, step: int) -> Batch:
        inputs = dict(batch.inputs)
        for name in {name for augment in self.augment for name in augment}:
            parts = self.fold.unfold(inputs[name])
            changed = [
                self.augment[r][name](rows, generator(self.seeds[r], "augment", name, step, step, 0))
                for r, rows in zip(self.fold.alive.tolist(), parts, strict=True)
            ]
            inputs[name] = torch.cat(changed)
        return replace(batch, inputs=inputs)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Answer rows that all replicas are judged on."""
        count = self.replicas
        seen = batch.select(self.sees)
        inputs = {name: value.repeat(count, *[1] * (value.dim() - 1)) for name, value in seen.inputs.items()}
        answers = []
        for subset in judged(self.sees, self.select):
            present = seen.present & pattern(self.sees, subset).to(seen.present.device)
            answers.append(self.fold.unfold(as_output(self.model(inputs, present.repeat(count, 1))).logits))
        self._answers.append((torch.stack(answers), batch.label))

    def on_validation_epoch_end(self) -> None:
        logits = torch.cat([answer for answer, _ in self._answers], dim=2)  # [subsets, R, V, C]
        label = torch.cat([label for _, label in self._answers])
        self._answers.clear()
        self.scores = torch.stack([self.task.scores(each, label) for each in logits]).mean(dim=0)
        shown = label.repeat(logits.shape[0] * logits.shape[1], *[1] * (label.dim() - 1))
        loss = self.task.loss(
            logits.flatten(0, 2), shown, torch.ones(len(shown), dtype=torch.bool, device=shown.device)
        )
        self.curves = {name: value / self._steps for name, value in self._sums.items()}
        self.curves |= {SCORE: self.scores, "validation_loss": loss.view(logits.shape[:3]).mean(dim=(0, 2))}

    @torch.no_grad()
    def narrow(self, kept: Tensor) -> None:
        """Go on with some of the replicas that are left; they train on to the bit as if the others were still there.

        Args:
            kept: int64, positions among those that are left, ascending.
        """
        optimizer = self.optimizers(use_pl_optimizer=False)
        before = self.replicas
        self.model.narrow(kept)
        for edge in self.edges.values():
            edge.narrow(kept)  # type: ignore[operator]
        for average in self.averages.values():
            average.narrow(kept)  # type: ignore[operator]
        if self.combine is not None:
            self.combine.narrow(kept)
        for state in optimizer.state.values():  # type: ignore[union-attr]
            for name, value in state.items():
                if isinstance(value, Tensor) and value.dim() and len(value) == before:
                    state[name] = value[kept]

    def on_train_epoch_start(self) -> None:
        self._sums, self._steps = {}, 0

    def _note(self, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Add up the losses of a round: their mean is a point of each replica's curves."""
        named = {"train_loss": loss} | (
            {f"train/{name}": term for name, term in terms.items()} if len(terms) > 1 else {}
        )
        for name, value in named.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
        self._steps += 1

    def _note_failures(self, loss: Tensor, step: int) -> None:
        for position in (~loss.isfinite()).nonzero().flatten().tolist():
            self.failed.setdefault(int(self.fold.alive[position]), step)

    def configure_optimizers(self) -> Any:
        rest = [*self.edges.parameters(), *(self.combine.parameters() if self.combine is not None else ())]
        groups = parameter_groups(self.model.network, rest, self.rates)
        optimizer = stacked_optimizer(self.optimizer_parts, groups, self.fold)
        self._steps_in_all = self.trainer.estimated_stepping_batches
        steps = int(self._steps_in_all)
        schedule = SCHEDULES.build(self.schedule_part, optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _refuse_whole_stack(trainer: pl.Trainer) -> None:
    """Refuse options of a Trainer that would couple the replicas.

    Raises:
        ConfigError: naming the option and what to do.
    """
    found = []
    if trainer.gradient_clip_val:
        found.append("gradient_clip_val: one norm for the whole stack; give Replicas clip= instead")
    if trainer.accumulate_grad_batches != 1:
        found.append("accumulate_grad_batches: replicas take whole batches; raise batch_size instead")
    if trainer.world_size > 1:
        found.append("devices: a stack trains in one process; give each process a stack of its own")
    if str(trainer.precision) != "32-true":
        found.append(f"precision: expected 32-true, got {trainer.precision}; a loss scaler would couple the replicas")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping | ModelCheckpoint) and callback.monitor is not None:
            name = type(callback).__name__
            found.append(f"callbacks: {name} watches one number for the whole stack; use KeepBestEach")
    if found:
        raise ConfigError(found)


def unstackable(module: Distiller) -> list[str]:
    """Return the parts of a student that say `replicable = False`, as `encoders.text (Words)`; none: it stacks.

    Its network and its edges' objectives are asked. A teacher may be any network, since it does not train.
    """
    wholes = {"": module.model} | {f"edges.{name}": edge.objective for name, edge in module.edges.items()}
    wholes |= {} if module.combine is None else {"combine": module.combine}
    return [part for name, whole in wholes.items() for part in unreplicable(whole, name)]  # type: ignore[arg-type]


def _refuse_unstackable(students: Sequence[Distiller]) -> None:
    for position, student in enumerate(students):
        for part in unstackable(student):
            raise ConfigError(f"replica {position}: {part} does not stack; train it alone")


def _refuse_unlike(students: Sequence[Distiller]) -> None:
    first = students[0]
    for position, student in enumerate(students):
        unlike = [name for name in ALIKE if getattr(student, name) != getattr(first, name)]
        unlike += ["edges"] if list(student.edges) != list(first.edges) else []
        unlike += ["combine"] if kind_of(student.combine) != kind_of(first.combine) else []
        decays = [[edge.decay for edge in own.edges.values()] for own in (first, student)]
        unlike += ["decay"] if decays[0] != decays[1] else []
        unlike += ["augment"] if set(student.augment) != set(first.augment) else []
        if unlike:
            raise ConfigError(f"replica {position}: {unlike[0]} differs from replica 0's; stack like with like")


@torch.no_grad()
def clip_each(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Scale every replica's gradient to a norm of at most `largest`, in place, as `clip_grad_norm_` does for one."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack([g.flatten(1).square().sum(dim=1) for g in gradients]).sum(dim=0).sqrt()
    scale = (largest / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)))
