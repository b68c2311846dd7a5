"""Objectives in training: layers by name, projections nobody sizes by hand, stacks that train as each would alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

import kd
from kd.config import Study
from kd.data.module import batches
from kd.data.stream import StepBatches
from kd.distill.fit import Setting, build, training_rows, validation
from kd.distill.loss import Edge
from kd.distill.module import Distiller
from kd.distill.replicas import Replicas
from kd.distill.stack import ReplicaBatches
from kd.distill.teachers import Frozen, cache
from kd.errors import ConfigError
from kd.models.hints import answer
from kd.models.network import blank_rows
from kd.objectives import OBJECTIVES, TEACHER_WEIGHTS
from kd.seeding import derive
from kd.study.check import faults
from tests.objectives.examples import SETTINGS

LAYER = "encoders.m1.layers.0"
STEPS = 8
One = tuple[Distiller, Setting, Tensor]


@pytest.fixture
def student(small_study: Callable[..., Study], setting_of: Callable[..., Setting]) -> Callable[..., One]:
    """Return a maker of a student of both views, taught by a wider network that sees both as well."""

    def make(seed: int, loss: dict[str, Any], *, live: bool = False, own_view: bool = False) -> One:
        layers = {"name": "mlp", "hidden": [8], "dropout": 0.0}
        wide, narrow = ({"width": width, "encoder": layers} for width in (12, 8))
        nodes = {"full": {"sees": ["m0", "m1"], "model": wide}, "student": {"sees": ["m0", "m1"], "model": narrow}}
        study = small_study(mask={"name": "mcar", "rate": 0.3}, nodes=nodes, edges={}, ensembles={}, contrasts={})
        setting = setting_of(study, seed)
        teacher = Frozen(build(study, "full", setting, {})[0].model.eval())
        built, _ = build(study, "student", setting, {})
        objective = OBJECTIVES.build(loss)
        if own_view:
            edge = Edge(None, objective, 0.5 + seed, view="full")
        else:
            teacher.reads = objective.teacher_reads
            edge = Edge(teacher if live else cache(teacher, setting.chunks()), objective, 0.5 + seed)
        module = Distiller(built.model, edges={"a": edge}, drop=0.3, task=built.task, seed=built.seed)
        return module, setting, training_rows(study.nodes["student"], setting)

    return make


@pytest.fixture
def pupil(small_study: Callable[..., Study], setting_of: Callable[..., Setting]) -> Callable[..., One]:
    """Return a maker of a student of two unimodal teachers that are weighed against each other."""

    def make(seed: int, combine: dict[str, Any]) -> One:
        study = small_study(mask={"name": "mcar", "rate": 0.4}, edges={}, ensembles={}, contrasts={})
        study.nodes["student"].rows = "any"
        setting = setting_of(study, seed)
        edges = {}
        for name in ("one", "two"):
            teacher = Frozen(build(study, name, setting, {})[0].model.eval())
            edges[name] = Edge(cache(teacher, setting.chunks()), kd.KL(temperature=2.0 + seed), 0.5 + seed)
        built, _ = build(study, "student", setting, {})
        weights = TEACHER_WEIGHTS.build(combine, sorted(edges))
        module = Distiller(built.model, edges=edges, task=built.task, seed=built.seed, combine=weights)
        for dropout in (part for part in module.model.modules() if isinstance(part, nn.Dropout)):
            dropout.p = 0.0
        return module, setting, training_rows(study.nodes["student"], setting)

    return make


def part(name: str) -> dict[str, Any]:
    return {"name": name, **SETTINGS.get(name, {})}


def trainer() -> pl.Trainer:
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **silent)


def order(one: One) -> StepBatches:
    module, _, rows = one
    return StepBatches(rows, batch_size=32, steps=STEPS, seed=derive(module.seed, "order"))


def alone(one: One) -> Distiller:
    module, setting, _ = copy.deepcopy(one)
    trainer().fit(module, batches(setting.source, setting.available, order(one)), validation(setting))
    return module


def together(ones: Sequence[One]) -> Replicas:
    stack = Replicas([module for module, _, _ in copy.deepcopy(list(ones))])
    available = torch.stack([setting.available for _, setting, _ in ones])
    feed = ReplicaBatches(ones[0][1].source, available, [order(one) for one in ones], stack.fold)
    trainer().fit(stack, feed, validation(ones[0][1]))
    return stack


def warmed(loss: dict[str, Any], temperature: float) -> dict[str, Any]:
    """Give an objective, or the one inside it, a number of its own, where it has one."""
    if "loss" in loss:
        return {**loss, "loss": warmed(loss["loss"], temperature)}
    warm = "temperature" in dict(OBJECTIVES.build(loss).named_buffers())
    return {**loss, "temperature": temperature} if warm else loss


@pytest.mark.parametrize(
    "loss",
    [
        *(part(name) for name in OBJECTIVES if name != "crd"),
        {"name": "fitnet", "student": LAYER, "teacher": LAYER},
        {"name": "sp", "student": "encoders.m0", "teacher": "parts"},
    ],
    ids=lambda loss: "-".join(map(str, loss.values())) if "student" in loss else loss["name"],
)
def test_stack_trains_as_each_would_alone(student: Callable[..., One], loss: dict[str, Any]) -> None:
    ones = [student(seed, warmed(loss, 1.0 + seed)) for seed in range(2)]
    stack = together(ones)
    for position, one in enumerate(ones):
        trained = alone(one)
        state = stack.model.state(position)
        before = one[0].model.state_dict()
        for name, value in trained.model.state_dict().items():
            torch.testing.assert_close(state[name], value, atol=2e-5, rtol=1e-3)
        assert any(not torch.equal(before[name], value) for name, value in state.items())


@pytest.mark.parametrize("of", ["losses", "logits", "probabilities"])
@pytest.mark.parametrize("name", [name for name in TEACHER_WEIGHTS if name != "ae_kd"])
def test_stack_weighs_teachers_as_each_would_alone(pupil: Callable[..., One], name: str, of: str) -> None:
    # Each has numbers of its own: which teacher is best, and what they count.
    numbers = [{"one": 1.0, "two": 2.0 - 1.5 * seed} for seed in range(2)]
    settings = {"fixed": "shares", "best": "scores"}
    own = [{settings[name]: each} if name in settings else {} for each in numbers]
    ones = [pupil(seed, {"name": name, "of": of, **own[seed]}) for seed in range(2)]
    stack = together(ones)
    for position, one in enumerate(ones):
        trained = alone(one)
        for key, value in trained.model.state_dict().items():
            torch.testing.assert_close(stack.model.state(position)[key], value, atol=2e-5, rtol=1e-3)
        if name == "learnt":
            torch.testing.assert_close(stack.combine.held.raw[position], trained.combine.raw, atol=1e-6, rtol=1e-4)  # type: ignore[union-attr]
            assert trained.combine.raw.any()  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("loss", [part("kl"), part("rkd"), {"name": "fitnet", "student": LAYER, "teacher": LAYER}])
def test_cached_teacher_teaches_as_the_live_one(student: Callable[..., One], loss: dict[str, Any]) -> None:
    cached, live = (alone(student(0, loss, live=live)) for live in (False, True))
    for name, value in cached.model.state_dict().items():
        torch.testing.assert_close(value, live.model.state_dict()[name], atol=1e-5, rtol=1e-4)


def test_a_student_learns_from_layers_of_its_own_full_view(student: Callable[..., One]) -> None:
    hint = {"name": "feature_mse", "student": LAYER, "teacher": LAYER}
    ones = [student(seed, hint, own_view=True) for seed in (0, 1)]
    stack = together(ones)
    for position, one in enumerate(ones):
        for name, value in alone(one).model.state_dict().items():
            torch.testing.assert_close(stack.model.state(position)[name], value, atol=2e-5, rtol=1e-3)


def test_projection_is_a_function_of_seed_and_edge(student: Callable[..., One]) -> None:
    weights = [student(seed, part("fitnet"))[0].edges["a"].objective.projection.weight for seed in (0, 0, 1)]  # type: ignore[union-attr]
    assert torch.equal(weights[0], weights[1])  # type: ignore[arg-type]
    assert not torch.equal(weights[0], weights[2])  # type: ignore[arg-type]
    assert weights[0].shape == (24, 16)  # type: ignore[union-attr]


def test_projection_learns_and_is_in_the_checkpoint_but_not_in_the_package(student: Callable[..., One]) -> None:
    one = student(0, part("fitnet"))
    trained = alone(one)
    name = "edges.a.objective.projection.weight"
    assert not torch.equal(trained.state_dict()[name], one[0].state_dict()[name])
    assert not any("projection" in key for key in trained.model.state_dict())


# Layers by name.


def classifier() -> kd.Classifier:
    return kd.Classifier({"m0": (4,), "m1": (4,)}, 3, width=8, encoder={"name": "mlp", "hidden": [8]}).eval()


def test_hints_are_what_layers_give_and_leave_nothing_behind() -> None:
    network = classifier()
    inputs, present = blank_rows(network)
    inputs = {name: torch.randn_like(x) for name, x in inputs.items()}
    found = answer(network, inputs, present, ["encoders.m1", "head"])
    tokens, _ = network.encoders["m1"](inputs["m1"])
    assert torch.equal(found.hints["encoders.m1"], tokens)
    assert torch.equal(found.hints["head"], found.logits)
    assert not network(inputs, present).hints
    assert not any(module._forward_hooks for module in network.modules())


def test_a_layer_of_an_absent_modality_shows_zeros() -> None:
    network = classifier()
    network.skip_absent = True
    inputs, present = blank_rows(network, rows=4)
    present[1, 1] = False
    inputs["m1"][1] = torch.nan
    found = answer(network, inputs, present, [LAYER])
    assert found.hints[LAYER].isfinite().all()
    assert not found.hints[LAYER][1].any()
    assert found.hints[LAYER][0].any()
    assert network.skip_absent


def test_a_layer_that_is_not_called_is_refused() -> None:
    network = classifier()
    with pytest.raises(ConfigError, match="layer 'encoders' cannot be compared: it is not called as a whole"):
        answer(network, *blank_rows(network), ["encoders"])


class Bare(nn.Module):
    modalities = ("m0",)

    def forward(self, inputs: dict[str, Tensor], present: Tensor) -> Tensor:
        return inputs["m0"]


def test_a_network_that_does_not_say_its_shapes_is_refused_where_they_are_needed() -> None:
    edge = Edge(Bare(), OBJECTIVES.build({"name": "fitnet"}))
    with pytest.raises(ConfigError, match="teacher: Bare does not say what shapes it takes"):
        Distiller(classifier(), edges=[edge])
    Distiller(classifier(), edges=[Edge(Bare(), kd.KL())])


# What a config is told before anything is trained.


def refused(small_study: Callable[..., Study], loss: dict[str, Any], **data: Any) -> list[str]:
    study = small_study()
    study.data |= data
    study.edges["one"].loss = loss
    return faults(study)


def test_an_unknown_layer_is_a_fault_that_names_the_nearest(small_study: Callable[..., Study]) -> None:
    (fault,) = refused(small_study, {"name": "fitnet", "student": "encoders.m1.layer.0", "teacher": "feature"})
    assert fault.startswith("edges.one.loss.student: no layer 'encoders.m1.layer.0' in Classifier; near it: ")
    assert "encoders.m1.layers.0" in fault
    (fault,) = refused(small_study, {"name": "fitnet", "teacher": "encoders.m1"})
    assert fault.startswith("edges.one.loss.teacher: no layer 'encoders.m1'")


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ({"name": "at"}, "edges.one.loss.student: attention transfer compares positions, and a vector has none"),
        ({"name": "at", "student": "parts", "teacher": "parts"}, "compares positions, [2] with the teacher's [1]"),
        ({"name": "srrl", "head": "fusion"}, "edges.one.loss.head: expected the teacher's linear layer"),
        ({"name": "fitnet", "student": "parts"}, "only the last number may differ"),
        ({"name": "bernoulli_kl"}, "edges.one.loss.name: bernoulli_kl is not for multiclass; objectives that are: kl,"),
        ({"name": "logit_std", "loss": {"name": "kl", "temperature": 0}}, "temperature: expected a number above 0"),
    ],
)
def test_what_cannot_be_compared_is_a_fault(small_study: Callable[..., Study], loss: dict[str, Any], told: str) -> None:
    (fault,) = refused(small_study, loss)
    assert told in fault
