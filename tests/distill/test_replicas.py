"""Replicas: R students trained as one are the students that train alone, and none of them touches another."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping

from kd.config import Study
from kd.data.module import batches
from kd.data.stream import StepBatches
from kd.distill.augment import build_augmentations
from kd.distill.callbacks import KeepBest
from kd.distill.fit import Setting, build, training_rows, validation
from kd.distill.loss import Edge
from kd.distill.module import Distiller
from kd.distill.replica_callbacks import KeepBestEach
from kd.distill.replicas import Replicas
from kd.distill.stack import ReplicaBatches, StackedEdge
from kd.distill.teachers import Cached, Frozen, cache
from kd.errors import ConfigError
from kd.models.leaves import Fold
from kd.objectives.kl import KL
from kd.seeding import derive, initialise
from kd.tasks import make_task
from kd.types import Output

STEPS = 20
TRAINER = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}
One = tuple[Distiller, Setting, torch.Tensor]


@pytest.fixture
def student(small_study: Callable[..., Study], setting_of: Callable[..., Setting]) -> Callable[..., One]:
    """Return a maker of a student ready to train: its seed decides its mask, weights, order, teacher and noise."""

    def make(
        seed: int,
        optimizer: dict[str, Any] | None = None,
        temperature: float = 3.0,
        weight: float = 1.0,
        live: bool = False,
        own_view: str = "",
        **settings: Any,
    ) -> One:
        study = small_study(mask={"name": "mcar", "rate": 0.3}, edges={}, ensembles={}, contrasts={})
        mlp = {"name": "mlp", "hidden": [8], "dropout": settings.pop("dropout", 0.0)}
        nodes = {
            name: replace(node, rows="any", model={"width": 8, "encoder": mlp}) for name, node in study.nodes.items()
        }
        study = replace(study, nodes=nodes)
        setting = setting_of(study, seed)
        teacher = Frozen(build(study, "one", setting, {})[0].model.eval())
        built, _ = build(study, "student", setting, {})
        asked = teacher if live else cache(teacher, setting.chunks())
        edges = {"one": Edge(asked, KL(temperature=temperature), weight)}
        if own_view:
            edges["self"] = Edge(None, KL(temperature=2.0), 0.5, view=own_view, decay=0.8)  # type: ignore[arg-type]
        module = Distiller(built.model, edges=edges, task=built.task, optimizer=optimizer, seed=built.seed, **settings)
        return module, setting, training_rows(study.nodes["student"], setting)

    return make


def stream(one: One, steps: int = STEPS) -> StepBatches:
    module, _, rows = one
    return StepBatches(rows, batch_size=32, steps=steps, seed=derive(module.seed, "order"))


def alone(one: One, rounds: int = 1, steps: int = STEPS, **trainer: Any) -> Distiller:
    module, setting, _ = copy.deepcopy(one)
    feed = batches(setting.source, setting.available, stream(one, steps))
    pl.Trainer(max_epochs=rounds, **{**TRAINER, **trainer}).fit(module, feed, validation(setting))
    return module


def together(
    ones: Sequence[One], rounds: int = 1, steps: int = STEPS, *, clip: float | None = None, **trainer: Any
) -> Replicas:
    stack = Replicas([module for module, _, _ in copy.deepcopy(list(ones))], clip=clip)
    available = torch.stack([setting.available for _, setting, _ in ones])
    setting = ones[0][1]
    feed = ReplicaBatches(setting.source, available, [stream(one, steps) for one in ones], stack.fold)
    pl.Trainer(max_epochs=rounds, **{**TRAINER, **trainer}).fit(stack, feed, validation(setting))
    return stack


def furthest(stack: Replicas, ones: Sequence[Distiller]) -> float:
    """Return the largest difference of any weight."""
    gaps = []
    for position, one in enumerate(ones):
        state = stack.model.state(position)
        gaps += [float((value - state[name]).abs().max()) for name, value in one.model.state_dict().items()]
    return max(gaps)


@pytest.mark.parametrize(
    "settings",
    [
        [{}, {}, {}],
        [{"temperature": 1.0}, {"temperature": 0.7, "weight": 2.0}, {"supervised": 0.0}],
        [{"drop": 0.5}, {"drop": 0.2}, {"drop": 0.0}],
        [
            {"optimizer": {"name": "adam", "lr": lr, "weight_decay": wd}}
            for lr, wd in ((1e-3, 0), (1e-2, 0.1), (3e-3, 0))
        ],
        [
            {"optimizer": {"name": "adamw", "lr": lr, "weight_decay": wd}}
            for lr, wd in ((1e-3, 1), (1e-2, 0), (1e-2, 0.1))
        ],
        [{"optimizer": {"name": "sgd", "lr": lr}} for lr in (0.1, 0.05)],
        [
            {"schedule": {"name": "cosine", "warmup": 0.2}, "optimizer": {"name": "adam", "lr": lr}}
            for lr in (1e-3, 1e-2)
        ],
        [{"learning_rates": {"m0": 0.0, "m1": 1e-4}, "optimizer": {"name": "adam", "lr": lr}} for lr in (1e-3, 1e-2)],
        [{"live": True}, {"live": True}],
        [{"own_view": "full", "drop": 0.5}, {"own_view": "full", "drop": 0.5}],
        [{"own_view": "averaged", "drop": 0.5}, {"own_view": "averaged", "drop": 0.5}],
        [{"drop": 0.6, "drop_warmup": 0.8}, {"drop": 0.3, "drop_warmup": 0.8}],
        [{"recombine": 0.5, "live": True}, {"recombine": 0.5, "live": True}],
    ],
    ids=lambda settings: "-".join(sorted({key for one in settings for key in one})) or "seeds",
)
def test_replicas_equal_separate_trainings(student: Callable[..., One], settings: list[dict[str, Any]]) -> None:
    ones = [student(seed, **own) for seed, own in enumerate(settings)]
    before = [one[0].model.state_dict() for one in copy.deepcopy(ones)]
    stack = together(ones)
    assert furthest(stack, [alone(one) for one in ones]) < 1e-5
    moved = [
        float((stack.model.state(r)["head.weight"] - state["head.weight"]).abs().max())
        for r, state in enumerate(before)
    ]
    assert min(moved) > 1e-3


class Similarity(torch.nn.Module):
    """An objective over pairs of rows with a projection of its own: only vmap keeps its replicas apart."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.project = torch.nn.Linear(3, 3)
        initialise(self, seed)

    def forward(self, student: Output, teacher: Output, *, valid: torch.Tensor, **known: Any) -> torch.Tensor:
        own, other = (x @ x.T for x in (self.project(student.logits), teacher.logits))
        return torch.where(valid, (own - other).square().mean(dim=1), 0.0)


def test_objective_over_pairs_trains_its_own_parameters_in_every_replica(student: Callable[..., One]) -> None:
    ones = [student(seed) for seed in range(3)]
    for seed, (module, _, _) in enumerate(ones):
        edge = module.edges["one"]
        module.edges["one"] = Edge(edge.teacher, Similarity(seed), 0.1)
    stack, separate = together(ones), [alone(one) for one in ones]
    assert furthest(stack, separate) < 1e-5
    projections = dict(stack.edges["one"].named_parameters())["objective.objective.project.weight"]
    for replica, module in enumerate(separate):
        torch.testing.assert_close(
            projections[replica], module.edges["one"].objective.project.weight, atol=1e-5, rtol=0
        )
    assert not torch.equal(projections[0], Similarity(0).project.weight)


def test_gradients_are_clipped_for_each_replica(student: Callable[..., One]) -> None:
    ones = [student(seed, optimizer={"name": "sgd", "lr": 0.1}) for seed in range(2)]
    stack = together(ones, clip=0.1)
    assert furthest(stack, [alone(one, gradient_clip_val=0.1) for one in ones]) < 1e-5
    assert furthest(stack, [alone(one) for one in ones]) > 1e-3


def test_each_replica_keeps_its_own_best_weights(student: Callable[..., One]) -> None:
    ones = [student(seed, optimizer={"name": "adam", "lr": 0.05}) for seed in range(3)]
    best = KeepBestEach(3, "complete")
    stack = together(ones, rounds=6, steps=5, callbacks=[best])
    for replica, one in enumerate(ones):
        own = KeepBest("complete")
        kept = alone(one, rounds=6, steps=5, callbacks=[own])
        assert int(best.round[replica]) == own.round
        assert float(best.score[replica]) == pytest.approx(own.score)
        state = best.state_of(replica, stack.model.common())
        for name, value in kept.model.state_dict().items():
            torch.testing.assert_close(state[name], value, atol=1e-5, rtol=0)


def test_a_replica_driven_to_nan_leaves_the_others_bit_identical(student: Callable[..., One]) -> None:
    rate = {"name": "sgd", "lr": 0.05}
    healthy = [student(seed, optimizer=rate, dropout=0.5) for seed in range(3)]
    ill = [healthy[0], student(1, optimizer=rate, dropout=0.5, supervised=1e30), healthy[2]]
    whole, found = together(healthy), together(ill)
    assert list(found.failed) == [1]
    assert not whole.failed
    assert not found.model.state(1)["head.weight"].isfinite().all()
    for replica in (0, 2):
        state = found.model.state(replica)
        assert all(torch.equal(state[name], value) for name, value in whole.model.state(replica).items())


@pytest.mark.parametrize("live", [False, True])
def test_replicas_that_stop_improving_leave_and_change_nothing_for_the_rest(
    student: Callable[..., One], live: bool
) -> None:
    rates = (1e-2, 0.3, 1e-2)
    ones = [
        student(s, optimizer={"name": "adam", "lr": lr}, dropout=0.5, live=live, temperature=1.0 + s)
        for s, lr in enumerate(rates)
    ]
    patient, whole = KeepBestEach(3, "complete", patience=2), KeepBestEach(3, "complete")
    stack, everything = (together(ones, rounds=10, steps=5, callbacks=[best]) for best in (patient, whole))
    assert stack.replicas < 3
    left = stack.fold.alive.tolist()
    for position, replica in enumerate(left):
        state = everything.model.state(replica)
        for name, value in stack.model.state(position).items():
            torch.testing.assert_close(value, state[name], atol=1e-5, rtol=0)


def test_augmented_replicas_see_the_changes_they_would_see_alone() -> None:
    from kd.models import Classifier
    from kd.types import Batch, Modality

    shape = Modality((3, 16, 16), "image")
    pictures = torch.randint(0, 256, (2 * 4, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    change = build_augmentations({"image": {"name": "crop", "pad": 4, "flip": True}}, {"image": shape})
    modules = []
    for seed in range(2):
        model = Classifier({"image": shape}, 3, width=8, encoder={"name": "cnn", "channels": [8]})
        modules.append(Distiller(initialise(model, seed), augment=change, seed=seed, task=make_task("multiclass", 3)))
    stack = Replicas(modules)
    found = stack._augmented(Batch.of({"image": pictures}, torch.zeros(8, dtype=torch.int64)), step=7).inputs["image"]
    for replica, module in enumerate(modules):
        own = Batch.of({"image": pictures.view(2, 4, 3, 16, 16)[replica]}, torch.zeros(4, dtype=torch.int64))
        assert torch.equal(found.view(2, 4, 3, 16, 16)[replica], module._augmented(own, (7, 7, 0)).inputs["image"])
    assert not torch.equal(found, pictures)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"rows": "complete"}, "replica 1: rows differs from replica 0's"),
        ({"select": "subsets"}, "replica 1: select differs"),
        ({"own_view": True}, "replica 1: edges differs"),
        ({"schedule": {"name": "cosine"}}, "replica 1: schedule_part differs"),
    ],
)
def test_students_of_two_kinds_are_refused(student: Callable[..., One], other: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        Replicas([student(0)[0], student(1, **other)[0]])


def test_optimisers_of_two_kinds_are_refused(student: Callable[..., One]) -> None:
    ones = [student(0), student(1, optimizer={"name": "adam", "betas": [0.5, 0.9]})]
    with pytest.raises(ConfigError, match="all but lr and weight_decay"):
        together(ones)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"gradient_clip_val": 1.0}, "gradient_clip_val: one norm for the whole stack"),
        ({"accumulate_grad_batches": 2}, "accumulate_grad_batches"),
        ({"precision": "bf16-mixed"}, "precision: expected 32-true"),
        ({"callbacks": [EarlyStopping("validation_loss")]}, "EarlyStopping watches one number"),
    ],
)
def test_options_that_would_couple_replicas_are_refused_by_name(
    student: Callable[..., One], options: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, pl.utilities.exceptions.MisconfigurationException), match=expected.split(":")[0]):
        together([student(0), student(1)], **options)


@pytest.mark.slow
def test_replicas_with_noise_of_their_own_are_as_good_as_separate_trainings(student: Callable[..., One]) -> None:
    count, steps = 20, 150
    ones = [student(seed, dropout=0.5, drop=0.3, optimizer={"name": "adam", "lr": 1e-2}) for seed in range(count)]
    stack = together(ones, steps=steps)
    gaps = []
    for replica, one in enumerate(ones):
        trained, setting = alone(one, steps=steps), one[1]
        rows = setting.rows(setting.split.test, setting.source.observed)
        networks = (copy.deepcopy(trained.model), trained.model)
        networks[0].load_state_dict(stack.model.state(replica))
        logits = [network.eval()(rows.inputs, rows.present).logits.detach() for network in networks]
        loss = [float(torch.nn.functional.cross_entropy(each, rows.label)) for each in logits]
        gaps.append(loss[0] - loss[1])
    found = torch.tensor(gaps)
    error = float(found.std()) / count**0.5
    # 3.9 standard errors are a two-sided p of 0.001 at 19 degrees of freedom.
    assert abs(float(found.mean())) < 3.9 * error
    # And a difference of 0.05 in test loss would have been seen with a power of 0.9 or more.
    assert (3.9 + 1.33) * error < 0.05, error
    assert float(found.abs().max()) > 1e-3  # the noise is not the same


@pytest.mark.parametrize("name", ["multiclass", "multilabel", "regression"])
def test_scores_of_a_stack_are_those_of_its_networks(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 50, 3, generator=generator)
    label = torch.randint(0, 3, (50,), generator=generator)
    if name != "multiclass":
        label = torch.randint(0, 2, (50, 3), generator=generator).float()
    task = make_task(name, 3)
    assert task.scores(logits, label).tolist() == pytest.approx([task.score(each, label) for each in logits])


def test_a_stack_of_one_notes_its_failure_too(student) -> None:
    stack = together([student(0, optimizer={"name": "sgd", "lr": 1e30})])
    assert list(stack.failed) == [0]


class Shifted(KL):
    """An objective with a setting that is no number in a buffer."""

    def __init__(self, shift: float) -> None:
        super().__init__(temperature=2.0)
        self.shift = shift

    def divergence(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        return super().divergence(student + self.shift, teacher)


def test_what_is_asked_of_the_first_edge_alone_must_be_alike_in_all() -> None:
    def edge(shift: float, sees: list[str]) -> Edge:
        return Edge(Cached(torch.zeros(4, 3), sees), Shifted(shift))

    StackedEdge([edge(1.0, ["m0"]), edge(1.0, ["m0"])], Fold(2))
    for other in (edge(2.0, ["m0"]), edge(1.0, ["m1"])):
        with pytest.raises(ConfigError, match="stack like with like"):
            StackedEdge([edge(1.0, ["m0"]), other], Fold(2))
