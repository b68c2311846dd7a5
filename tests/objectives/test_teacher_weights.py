"""Weights over teachers: shares among those that saw the row, each against its formula; what is the same by algebra."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy as shannon
from torch import Tensor

from kd.config import Study
from kd.distill.combine import mixture
from kd.distill.loss import Edge, distillation_loss
from kd.distill.same import notes
from kd.distill.teachers import Cached
from kd.errors import ConfigError
from kd.objectives import OBJECTIVES, TEACHER_WEIGHTS
from kd.objectives.ae_kd import shortest
from kd.objectives.teacher_weights import TeacherWeights
from kd.study.check import faults
from kd.tasks import make_task
from kd.types import Batch, Output

NAMES = ["a", "b", "c"]
SETTINGS: dict[str, dict[str, Any]] = {
    "fixed": {"shares": {"a": 1.0, "b": 2.0, "c": 5.0}},
    "best": {"scores": {"a": 0.7, "b": 0.9, "c": 0.8}},
}
ROWS, CLASSES = 7, 4
VALID = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0], [0, 0, 1], [1, 0, 1]]).bool()
LABEL = torch.arange(ROWS) % CLASSES
LOGITS = torch.randn(ROWS, 3, CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
every = pytest.mark.parametrize("name", [name for name in TEACHER_WEIGHTS if name != "ae_kd"])


def weighting(name: str, teachers: list[str] | None = None, **settings: Any) -> TeacherWeights:
    own = SETTINGS.get(name, {}) if teachers is None else {}
    found: TeacherWeights = TEACHER_WEIGHTS.build({"name": name, **own, **settings}, teachers or NAMES)
    return found.double()


def weights(name: str, logits: Tensor = LOGITS, valid: Tensor = VALID, labelled: Tensor | None = None) -> Tensor:
    known = torch.ones(len(logits), dtype=torch.bool) if labelled is None else labelled
    found: Tensor = weighting(name)(logits, LABEL[: len(logits)], known, valid)
    return found.detach()


# Contracts.


@every
def test_weights_are_shares_of_the_teachers_that_saw_the_row(name: str) -> None:
    spoilt = torch.where(VALID.unsqueeze(-1), LOGITS, torch.nan)
    found = weights(name, spoilt)
    assert torch.equal(found, weights(name))
    assert not found[~VALID].any()
    torch.testing.assert_close(found.sum(dim=1), VALID.any(dim=1).double())
    alone = VALID.sum(dim=1) == 1
    assert torch.equal(found[alone], VALID[alone].double())


@every
@pytest.mark.parametrize("scale", [1e4, 0.0])
def test_extremes_are_finite(name: str, scale: float) -> None:
    assert weights(name, (LOGITS * scale).float()).isfinite().all()
    assert weights(name, LOGITS[:0], VALID[:0]).shape == (0, 3)


@every
def test_labels_of_unlabelled_rows_are_not_read(name: str) -> None:
    none = torch.zeros(ROWS, dtype=torch.bool)
    one = weighting(name)(LOGITS, LABEL, none, VALID)
    assert torch.equal(one, weighting(name)(LOGITS, torch.full_like(LABEL, -1), none, VALID))


# Formulas, teacher by teacher.


def naive(score: Callable[[int, list[int]], dict[int, float]]) -> np.ndarray[Any, Any]:
    table = np.zeros((ROWS, 3))
    for row in range(ROWS):
        there = [k for k in range(3) if VALID[row, k]]
        for k, value in (score(row, there) if there else {}).items():
            table[row, k] = value
    return table


def agree(name: str, score: Callable[[int, list[int]], dict[int, float]], **given: Any) -> None:
    np.testing.assert_allclose(weights(name, **given).numpy(), naive(score), rtol=1e-10, atol=1e-12)


def test_mean() -> None:
    agree("mean", lambda row, there: {k: 1 / len(there) for k in there})


def test_fixed() -> None:
    agree("fixed", lambda row, there: {k: (1, 2, 5)[k] / sum((1, 2, 5)[j] for j in there) for k in there})


def test_best() -> None:
    agree("best", lambda row, there: {max(there, key=lambda k: (0.7, 0.9, 0.8)[k]): 1.0})


def by_entropy(row: int, there: list[int]) -> dict[int, float]:
    found = {k: float(shannon(softmax(LOGITS[row, k].numpy()))) for k in there}
    if len(there) == 1:
        return {there[0]: 1.0}
    return {k: (1 - h / sum(found.values())) / (len(there) - 1) for k, h in found.items()}


def test_entropy() -> None:
    agree("entropy", by_entropy)


def test_ca_mkd_and_its_fall_back_to_entropy() -> None:
    labelled = torch.tensor([1, 1, 0, 1, 1, 1, 0]).bool()

    def score(row: int, there: list[int]) -> dict[int, float]:
        if not labelled[row] or len(there) == 1:
            return by_entropy(row, there)
        cross = {k: -math.log(softmax(LOGITS[row, k].numpy())[LABEL[row]]) for k in there}
        total = sum(math.exp(x) for x in cross.values())
        return {k: (1 - math.exp(x) / total) / (len(there) - 1) for k, x in cross.items()}

    agree("ca_mkd", score, labelled=labelled)


def test_learnt_starts_as_the_mean() -> None:
    agree("learnt", lambda row, there: {k: 1 / len(there) for k in there})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"shares": {"a": 1.0, "b": 1.0}}, "shares.c: expected a number above 0, one for every edge, got None"),
        ({"shares": {"a": 1.0, "b": 1.0, "c": 0.0}}, "shares.c: expected a number above 0"),
        ({"shares": {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}}, "shares.d: no such edge"),
    ],
)
def test_shares_name_every_edge(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        TEACHER_WEIGHTS.build({"name": "fixed", **settings}, NAMES)


# AE-KD.


def test_shortest_combination_is_found_on_the_simplex() -> None:
    random = np.random.default_rng(0)
    for most in (1.0, 0.6, 0.4):
        vectors = random.normal(size=(3, 4)) + random.normal(size=4)
        found = shortest(vectors @ vectors.T, most)
        assert found.sum() == pytest.approx(1)
        assert (found >= 0).all()
        assert (found <= most + 1e-9).all()
        steps = np.linspace(0, most, 201)
        grid = np.array([(a, b, 1 - a - b) for a in steps for b in steps if 0 <= 1 - a - b <= most])
        best = np.linalg.norm(grid @ vectors, axis=1).min()
        assert np.linalg.norm(found @ vectors) <= best + 1e-6


def test_ae_kd_of_two_opposite_teachers_is_their_mean_and_a_cap_of_half_as_well() -> None:
    opposite = np.array([[1.0, -0.5], [-0.5, 1.0]])
    np.testing.assert_allclose(shortest(opposite, 1.0), [0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(shortest(np.diag([1.0, 9.0]), 0.5), [0.5, 0.5])
    np.testing.assert_allclose(shortest(np.diag([1.0, 9.0]), 1.0), [0.9, 0.1], atol=1e-6)
    np.testing.assert_allclose(shortest(np.diag([1.0, 9.0]), 0.6), [0.6, 0.4], atol=1e-6)


def test_ae_kd_weighs_by_batch_and_by_who_saw_the_row() -> None:
    logits = torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits.requires_grad_()
    losses = torch.where(VALID, (logits.unsqueeze(1) - LOGITS).square().mean(dim=-1), 0.0)
    weights: Any = TEACHER_WEIGHTS.build({"name": "ae_kd", "tolerance": 0.8}, NAMES)
    found = weights.weigh(losses, logits, VALID)
    torch.testing.assert_close(found.sum(dim=1), VALID.any(dim=1).double())
    assert not found[~VALID].any()
    # Rows 2 (b, c) and 6 (a, c) are alone with their sets: the gradients are their own.
    gradients = 2 * (logits.detach()[2] - LOGITS[2, 1:]) / CLASSES
    expected = shortest((gradients @ gradients.T).numpy(), 0.8)
    np.testing.assert_allclose(found[2, 1:].detach().numpy(), expected, atol=1e-9)
    found_terms, _ = terms({"name": "ae_kd"}, {"name": "logit_mse"})
    assert set(found_terms) == {"supervised", "edge/a", "edge/b", "edge/c"}


def test_ae_kd_refuses_what_has_no_losses_and_numbers_out_of_range() -> None:
    for settings, told in (({"of": "logits"}, "weighs the gradients of losses"), ({"tolerance": 0.0}, r"in \(0, 1\]")):
        with pytest.raises(ConfigError, match=told):
            TEACHER_WEIGHTS.build({"name": "ae_kd", **settings}, NAMES)


# In the loss.


def batch() -> Batch:
    inputs = {name: torch.zeros(ROWS, 1) for name in NAMES}
    return replace(Batch.of(inputs, LABEL), present=VALID)


def terms(
    combine: dict[str, Any] | None, loss: dict[str, Any], alpha: tuple[float, ...] = (1.0, 2.0, 0.5)
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the terms of the loss and the gradient of their sum at a student's logits."""
    logits = torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits.requires_grad_()
    edges = {n: Edge(Cached(LOGITS[:, k], [n]), OBJECTIVES.build(loss), alpha[k]) for k, n in enumerate(NAMES)}
    chosen = None if combine is None else TEACHER_WEIGHTS.build(combine, NAMES).double()
    teachers = {n: edge.teacher(batch()) for n, edge in edges.items()}  # type: ignore[misc]
    found = distillation_loss(
        Output(logits),
        teachers,
        edges,
        batch(),
        make_task("multiclass", CLASSES),
        counted=VALID.any(dim=1),
        supervised=0.0,
        weights=chosen,
    )
    (gradient,) = torch.autograd.grad(sum(found.values()), logits)  # type: ignore[arg-type]
    return found, gradient


KL = {"name": "kl", "temperature": 3.0}


@pytest.mark.parametrize("name", ["mean", "entropy", "ca_mkd"])
def test_losses_and_probabilities_are_one_objective_under_kl(name: str) -> None:
    losses, expected = terms({"name": name, "of": "losses"}, KL)
    joint, gradient = terms({"name": name, "of": "probabilities"}, KL)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    assert set(losses) == {"supervised", "edge/a", "edge/b", "edge/c"}
    assert set(joint) == {"supervised", "edge/teachers"}
    assert sum(losses.values()) > sum(joint.values())  # by the constant: how much the teachers differ
    _, other = terms({"name": name, "of": "logits"}, KL)
    assert not torch.allclose(other, expected, rtol=1e-3)


def test_losses_and_logits_are_one_objective_under_squares() -> None:
    _, expected = terms({"name": "entropy", "of": "losses"}, {"name": "logit_mse"})
    _, gradient = terms({"name": "entropy", "of": "logits"}, {"name": "logit_mse"})
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_without_weights_terms_are_summed_as_before() -> None:
    found, _ = terms(None, KL)
    for k, name in enumerate(NAMES):
        alone = OBJECTIVES.build(KL)
        logits = torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        known = {"label": LABEL, "labelled": torch.ones(ROWS).bool(), "index": torch.arange(ROWS)}
        expected = alone(Output(logits), Output(LOGITS[:, k]), **known, valid=VALID[:, k])
        torch.testing.assert_close(found[f"edge/{name}"], (1.0, 2.0, 0.5)[k] * expected.sum() / ROWS)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_mixture_of_probabilities_is_their_mean_once_softened(temperature: float) -> None:
    share = weights("mean")
    rows = VALID.any(dim=1)
    found = mixture(LOGITS, share, VALID, "probabilities", temperature)[rows]
    softened = (LOGITS / temperature).softmax(dim=-1)
    torch.testing.assert_close((found / temperature).softmax(dim=-1), (share.unsqueeze(-1) * softened).sum(dim=1)[rows])


# In a config.


def combined(small_study: Callable[..., Study], **combine: Any) -> Study:
    study = small_study()
    study.nodes["student"].combine = combine
    return study


def test_faults_of_a_combination(small_study: Callable[..., Study]) -> None:
    assert faults(combined(small_study, name="entropy")) == []
    (fault,) = faults(combined(small_study, name="entropi"))
    assert fault.startswith("nodes.student.combine.name: unknown weighting 'entropi'; did you mean 'entropy'?")
    (fault,) = faults(combined(small_study, name="fixed", shares={"one": 1.0}))
    assert fault.startswith("nodes.student.combine.shares.two: expected a number above 0")
    study = combined(small_study, name="mean", of="logits")
    study.edges["one"].loss = {"name": "logit_mse"}
    (fault,) = faults(study)
    assert fault == "nodes.student.combine.of: logits are combined before one objective; give its edges the same loss"
    study.edges["one"].loss = study.edges["two"].loss = {"name": "rkd"}
    (fault,) = faults(study)
    assert fault == "nodes.student.combine.of: rkd compares more than logits; combine losses"
    study = small_study()
    study.nodes["one"].combine = {"name": "mean"}
    (fault,) = faults(study)
    assert fault.startswith("nodes.one.combine: no edge leads to one")


def test_nodes_that_are_the_same_by_algebra_are_named(small_study: Callable[..., Study]) -> None:
    study = small_study()
    student, edges = study.nodes["student"], dict(study.edges)

    def add(name: str, loss: dict[str, Any], combine: dict[str, Any] | None, weight: float = 1.0) -> None:
        study.nodes[name] = replace(student, combine=combine)
        for teacher in ("one", "two"):
            study.edges[f"{name}_{teacher}"] = replace(edges[teacher], student=name, loss=loss, weight=weight)

    assert notes(study) == []
    add("losses", KL, {"name": "entropy"})
    add("mixed", KL, {"name": "entropy", "of": "probabilities"})
    add("logits", KL, {"name": "entropy", "of": "logits"})
    add("squares", {"name": "logit_mse"}, {"name": "ca_mkd"})
    add("squared", {"name": "logit_mse"}, {"name": "ca_mkd", "of": "logits"})
    add("halved", KL, None, weight=0.5)
    add("mean", KL, {"name": "mean"})
    add("hotter", {"name": "kl", "temperature": 4.0}, {"name": "mean"})
    told = notes(study)
    assert [note.partition(":")[0] for note in told] == [
        "nodes.losses, nodes.mixed",
        "nodes.squares, nodes.squared",
        "nodes.halved, nodes.mean",  # on complete rows shares are plain weights
    ]
    for name in ("halved", "mean"):
        study.nodes[name].rows = "any"
    assert len(notes(study)) == 2


def test_one_teacher_weighs_the_same_under_every_weighting(small_study: Callable[..., Study]) -> None:
    study = small_study()
    for name, combine in (("plain", None), ("weighed", {"name": "entropy"})):
        study.nodes[name] = replace(study.nodes["student"], combine=combine)
        study.edges[name] = replace(study.edges["one"], student=name)
    assert [note.partition(":")[0] for note in notes(study) if "algebra" in note] == ["nodes.plain, nodes.weighed"]
