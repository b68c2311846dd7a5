"""Every objective against its paper's equation, written out row by row in numpy, float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, cosine, pdist, squareform
from scipy.special import log_softmax, rel_entr, softmax
from scipy.stats import entropy as shannon
from scipy.stats import multivariate_normal, norm, pearsonr
from torch.nn import functional as F

from kd.objectives import OBJECTIVES
from kd.objectives.base import Objective
from kd.objectives.dkd import decoupled
from kd.types import Output
from tests.objectives.examples import CLASSES, PARTS, ROWS, WIDTH, Headed, answers, changed, labels, loss, prepared

Array = np.ndarray[Any, np.dtype[np.float64]]
STUDENT, TEACHER, LABEL = answers(seed=1), answers(seed=2), labels().numpy()
ZS, ZT = STUDENT.logits.numpy(), TEACHER.logits.numpy()
HS, HT = STUDENT.feature.numpy(), TEACHER.feature.numpy()  # type: ignore[union-attr]
PS, PT = STUDENT.parts.numpy(), TEACHER.parts.numpy()  # type: ignore[union-attr]
ONE_HOT = np.eye(CLASSES)[LABEL]


def found(name: str, **settings: Any) -> tuple[Objective, Array]:
    objective = prepared(name, settings=settings)
    return objective, loss(objective, STUDENT, TEACHER).detach().numpy()


def agree(mine: Array, paper: Any) -> None:
    np.testing.assert_allclose(mine, np.asarray(paper), rtol=1e-10, atol=1e-10)


def kl(temperature: float, student: Array = ZS, teacher: Array = ZT) -> Array:
    p, q = softmax(teacher / temperature, axis=1), softmax(student / temperature, axis=1)
    total: Array = temperature**2 * rel_entr(p, q).sum(axis=1)
    return total


# Responses.


@pytest.mark.parametrize("temperature", [1.0, 3.0, 10.0])
def test_kl(temperature: float) -> None:
    agree(found("kl", temperature=temperature)[1], kl(temperature))


@pytest.mark.parametrize("name", ["logit_mse", "regression"])
def test_logit_mse(name: str) -> None:
    agree(found(name)[1], ((ZS - ZT) ** 2).mean(axis=1))


def test_kl_at_high_temperature_is_the_squared_difference_of_centred_logits() -> None:
    # Hinton 2015, section 2.1: for T far above the logits, T^2 KL tends to sum (z_s - z_t)^2 / (2 C), logits centred.
    centred = (ZS - ZS.mean(axis=1, keepdims=True)) - (ZT - ZT.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(found("kl", temperature=1e4)[1], (centred**2).sum(axis=1) / (2 * CLASSES), rtol=1e-3)


def test_bernoulli_kl_is_two_class_kl_of_each_label() -> None:
    pairs = [[np.stack([z[:, c], np.zeros(ROWS)], axis=1) for z in (ZS, ZT)] for c in range(CLASSES)]
    agree(found("bernoulli_kl", temperature=2.0)[1], np.mean([kl(2.0, *pair) for pair in pairs], axis=0))


def test_gaussian_nll() -> None:
    objective, mine = found("gaussian_nll")
    with torch.no_grad():
        objective.raw.copy_(torch.linspace(-1, 2, CLASSES, dtype=torch.float64))  # type: ignore[operator, union-attr]
    variance = np.log1p(np.exp(np.linspace(-1, 2, CLASSES))) + 1e-5
    density = norm.logpdf(ZT, loc=ZS, scale=np.sqrt(variance)).mean(axis=1)
    # The constant of the density is left out, as in the paper.
    agree(loss(objective, STUDENT, TEACHER).detach().numpy(), -density - math.log(2 * math.pi) / 2)
    assert mine.shape == (ROWS,)


def test_dkd() -> None:
    temperature, alpha, beta = 4.0, 1.5, 8.0
    expected = []
    for s, t, y in zip(softmax(ZS / temperature, axis=1), softmax(ZT / temperature, axis=1), LABEL, strict=True):
        target = t[y] * math.log(t[y] / s[y]) + (1 - t[y]) * math.log((1 - t[y]) / (1 - s[y]))
        rest = [c for c in range(CLASSES) if c != y]
        others = sum(t[c] / (1 - t[y]) * math.log(t[c] / (1 - t[y]) / (s[c] / (1 - s[y]))) for c in rest)
        expected.append(temperature**2 * (alpha * target + beta * others))
    agree(found("dkd", temperature=temperature, alpha=alpha, beta=beta)[1], expected)


def test_dkd_adds_up_to_kl() -> None:
    # Zhao 2022, equation 6: KL = TCKD + (1 - p_target) NCKD.
    target, others = decoupled(STUDENT.logits, TEACHER.logits, labels(), 1.0)
    share = 1 - softmax(ZT, axis=1)[np.arange(ROWS), LABEL]
    agree((target + torch.from_numpy(share) * others).numpy(), kl(1.0))


def test_dkd_of_a_row_without_a_label_takes_the_teachers_class() -> None:
    objective = prepared("dkd")
    guessed = loss(objective, STUDENT, TEACHER, label=TEACHER.logits.argmax(dim=1))
    unlabelled = loss(objective, STUDENT, TEACHER, labelled=torch.zeros(ROWS, dtype=torch.bool))
    assert torch.equal(guessed, unlabelled)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_dist(form: str) -> None:
    temperature, beta, gamma = 2.0, 1.5, 0.5
    s, t = softmax(ZS / temperature, axis=1), softmax(ZT / temperature, axis=1)
    rows = np.array([1 - pearsonr(a, b).statistic for a, b in zip(s, t, strict=True)])
    classes = 1 - np.mean([pearsonr(a, b).statistic for a, b in zip(s.T, t.T, strict=True)])
    scale = temperature**2 if form == "code" else 1.0
    settings = {"temperature": temperature, "beta": beta, "gamma": gamma, "form": form}
    agree(found("dist", **settings)[1], scale * (beta * rows + gamma * classes))


@pytest.mark.parametrize(("form", "fewer"), [("paper", 0), ("code", 1)])
def test_logit_std(form: str, fewer: int) -> None:
    s, t = ((z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, ddof=fewer, keepdims=True) for z in (ZS, ZT))
    agree(found("logit_std", loss={"name": "kl", "temperature": 2.0}, form=form)[1], kl(2.0, s, t))


def test_logit_std_sees_neither_shift_nor_scale() -> None:
    objective = prepared("logit_std")
    scaled = answers(seed=1)
    scaled.logits = 3 * scaled.logits + 5
    torch.testing.assert_close(loss(objective, scaled, TEACHER), loss(objective, STUDENT, TEACHER))


def test_label_smoothing_is_torchs_but_for_the_entropy_of_its_labels() -> None:
    smooth = 0.9 * ONE_HOT + 0.1 / CLASSES
    cross = F.cross_entropy(STUDENT.logits, labels(), label_smoothing=0.1, reduction="none").numpy()
    agree(found("label_smoothing", smoothing=0.1)[1], cross - shannon(smooth, axis=1))


def test_label_smoothing_softened() -> None:
    # Yuan 2020, equation 9: the virtual teacher's distribution, softened at T.
    virtual = np.log(0.9 * ONE_HOT + 0.1 / CLASSES)
    agree(found("label_smoothing", smoothing=0.1, temperature=3.0)[1], kl(3.0, ZS, virtual))


def test_uncertainty_weighted() -> None:
    certainty = 1 - shannon(softmax(ZT, axis=1), axis=1) / math.log(CLASSES)
    agree(found("uncertainty_weighted", loss={"name": "kl", "temperature": 2.0})[1], certainty * kl(2.0))


def test_shuffled_takes_another_row_each_and_keeps_none() -> None:
    objective = prepared("shuffled", settings={"loss": {"name": "logit_mse"}})
    mine = loss(objective, STUDENT, TEACHER).numpy()
    gaps = ((ZS[:, None] - ZT[None, :]) ** 2).mean(axis=-1)  # [row, other row]
    taken = [int(np.flatnonzero(np.isclose(gaps[row], value))[0]) for row, value in enumerate(mine)]
    assert sorted(taken) == list(range(ROWS))
    assert all(row != other for row, other in enumerate(taken))


def test_shuffled_within_a_class_takes_a_row_of_it() -> None:
    objective = prepared("shuffled", settings={"loss": {"name": "logit_mse"}, "within": "class"})
    label = torch.tensor([0, 1, 0, 1, 0, 2, 2, 3])
    labelled = torch.tensor([1, 1, 1, 1, 1, 1, 0, 1]).bool()
    mine = loss(objective, STUDENT, TEACHER, label=label, labelled=labelled).numpy()
    gaps = ((ZS[:, None] - ZT[None, :]) ** 2).mean(axis=-1)
    for row, value in enumerate(mine[:5]):
        (other,) = np.flatnonzero(np.isclose(gaps[row], value))
        assert other != row
        assert label[other] == label[row]
    assert not mine[5:].any()  # one of its class alone, one without a label, one of its class alone


# Features.


def mapped(objective: Objective, x: Array = HS) -> Array:
    weight, bias = (getattr(objective.projection, name).detach().numpy() for name in ("weight", "bias"))  # type: ignore[union-attr]
    return np.asarray(x @ weight.T + bias)


def test_fitnet() -> None:
    objective, mine = found("fitnet")
    agree(mine, [np.linalg.norm(t - s) ** 2 / 2 for s, t in zip(mapped(objective), HT, strict=True)])


def test_fitnet_of_pictures_is_a_convolution_of_one_pixel() -> None:
    random = torch.Generator().manual_seed(0)
    own, given = (torch.randn(4, c, 3, 3, generator=random, dtype=torch.float64) for c in (2, 5))
    logits = torch.zeros(4, 2, dtype=torch.float64)
    student, teacher = Output(logits, hints={"a": own}), Output(logits, hints={"b": given})
    objective: Objective = OBJECTIVES.build({"name": "fitnet", "student": "a", "teacher": "b"})
    objective.prepare(student, teacher, None)
    objective.double()
    weight, bias = objective.projection.weight, objective.projection.bias  # type: ignore[union-attr]
    expected = (F.conv2d(own, weight[:, :, None, None], bias) - given).square().sum(dim=(1, 2, 3)) / 2  # type: ignore[index, arg-type]
    torch.testing.assert_close(loss(objective, student, teacher), expected, rtol=1e-10, atol=1e-10)


def test_feature_mse() -> None:
    agree(found("feature_mse")[1], ((HS - HT) ** 2).mean(axis=1))


def test_feature_cosine() -> None:
    agree(found("feature_cosine")[1], [cosine(s, t) for s, t in zip(HS, HT, strict=True)])


@pytest.mark.parametrize("form", ["paper", "code"])
def test_attention_transfer(form: str) -> None:
    expected = []
    for s, t in zip(PS, PT, strict=True):
        q, r = (np.array([sum(v**2 for v in position) for position in x]) for x in (s, t))
        gap = q / np.linalg.norm(q) - r / np.linalg.norm(r)
        expected.append(np.mean(gap**2) if form == "code" else np.linalg.norm(gap) / 2)
    agree(found("at", form=form)[1], expected)


def test_nst() -> None:
    def kernel(a: Array, b: Array) -> float:
        return float(np.mean([[(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) ** 2 for x in a.T] for y in b.T]))

    agree(
        found("nst")[1],
        [kernel(t, t) + kernel(s, s) - 2 * kernel(s, t) for s, t in zip(PS, PT, strict=True)],
    )


def test_vid() -> None:
    objective, _ = found("vid")
    with torch.no_grad():
        objective.raw.copy_(torch.linspace(-1, 2, WIDTH, dtype=torch.float64))  # type: ignore[operator, union-attr]
    variance = np.log1p(np.exp(np.linspace(-1, 2, WIDTH))) + 1e-5
    mean = mapped(objective)
    density = [multivariate_normal.logpdf(t, m, np.diag(variance)) for t, m in zip(HT, mean, strict=True)]
    expected = -np.array(density) - WIDTH * math.log(2 * math.pi) / 2
    agree(loss(objective, STUDENT, TEACHER).detach().numpy(), expected)
    objective.form = "code"  # type: ignore[assignment]
    agree(loss(objective, STUDENT, TEACHER).detach().numpy(), expected / WIDTH)


def test_srrl() -> None:
    objective, mine = found("srrl")
    head = Headed().head
    judged = mapped(objective) @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    agree(mine, ((mapped(objective) - HT) ** 2).mean(axis=1) + ((judged - ZT) ** 2).mean(axis=1))


def test_srrl_is_zero_where_the_teachers_head_reads_the_same() -> None:
    objective = prepared("srrl")
    with torch.no_grad():
        objective.projection.weight.copy_(torch.eye(WIDTH))  # type: ignore[union-attr, operator]
        objective.projection.bias.zero_()  # type: ignore[union-attr, operator]
    teacher = answers(seed=2)
    teacher.logits = Headed().head(teacher.feature).detach()
    assert loss(objective, teacher, teacher).abs().max() < 1e-20


def crd(objective: Any, told_apart: list[list[int]], known: int) -> list[float]:
    def length_one(linear: Any, x: Array) -> Array:
        mapped_ = x @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
        return np.asarray(mapped_ / np.linalg.norm(mapped_, axis=1, keepdims=True))

    s, t = length_one(objective.of_student, HS), length_one(objective.of_teacher, HT)
    found = []
    for i, others in enumerate(told_apart):

        def h(j: int, i: int = i, share: float = len(others) / known) -> float:
            e = math.exp(float(t[j] @ s[i]) / 0.1)
            return e / (e + share)

        found.append(-math.log(h(i)) - sum(math.log(1 - h(j)) for j in others))
    return found


def test_crd() -> None:
    objective, mine = found("crd")
    agree(mine, crd(objective, [[j for j in range(ROWS) if j != i] for i in range(ROWS)], ROWS))


def test_crd_remembers_rows_of_batches_before() -> None:
    objective = prepared("crd")
    first, then = torch.arange(5), torch.arange(5, ROWS)

    def batch(rows: torch.Tensor) -> Array:
        own, given = (changed(x, lambda y: y[rows]) for x in (STUDENT, TEACHER))
        return loss(objective, own, given, index=rows).detach().numpy()

    agree(batch(first), crd(objective, [[j for j in range(5) if j != i] for i in range(5)], 5))
    agree(batch(then), crd(objective, [[j for j in range(ROWS) if j != i] for i in range(ROWS)], ROWS)[5:])


def test_crd_draws_negatives_from_its_seed() -> None:
    losses = [found("crd", negatives=3, seed=seed)[1] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(losses[0], losses[1])
    assert not np.allclose(losses[0], losses[2])
    objective = prepared("crd", settings={"negatives": 3})
    loss(objective, STUDENT, TEACHER)
    chosen = objective._negatives(torch.arange(ROWS))  # type: ignore[operator]
    assert (chosen.sum(dim=1) == 3).all()
    assert not chosen.diagonal().any()


def test_protokd() -> None:
    def closeness(h: Array) -> Array:
        prototypes = [h[c == LABEL].mean(axis=0) for c in range(CLASSES)]
        return np.array([[1 - cosine(row, prototype) for prototype in prototypes] for row in h])

    agree(found("protokd")[1], ((closeness(HS) - closeness(HT)) ** 2).mean(axis=1))


# Relations: the batch's mean of a row's loss is the paper's loss of the batch.


def similarity(h: Array) -> Array:
    products = h @ h.T
    return np.asarray(products / np.linalg.norm(products, axis=1, keepdims=True))


def test_sp() -> None:
    expected = np.linalg.norm(similarity(HT) - similarity(HS), "fro") ** 2 / ROWS**2
    agree(found("sp")[1].mean(), expected)


def test_mad() -> None:
    uncertainty = shannon(softmax(ZT, axis=1), axis=1)
    weight = uncertainty / uncertainty.sum()
    squares = (similarity(HT) - similarity(HS)) ** 2
    agree(found("mad")[1].mean(), sum(w * row.sum() for w, row in zip(weight, squares, strict=True)))


def test_mad_of_a_certain_teacher_is_zero() -> None:
    certain = answers(seed=2)
    certain.logits = 1e4 * torch.eye(CLASSES, dtype=torch.float64)[labels()]
    assert torch.equal(loss(prepared("mad"), STUDENT, certain), torch.zeros(ROWS, dtype=torch.float64))


def test_cc() -> None:
    gamma, order = 0.4, 2

    def kernel(h: Array) -> Array:
        unit = h / np.linalg.norm(h, axis=1, keepdims=True)
        return np.array(
            [
                [
                    sum(
                        math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) * (x @ y) ** p
                        for p in range(order + 1)
                    )
                    for y in unit
                ]
                for x in unit
            ]
        )

    agree(found("cc")[1].mean(), ((kernel(HS) - kernel(HT)) ** 2).sum() / ROWS**2)


def test_cc_series_tends_to_the_gaussian_kernel() -> None:
    unit = HS / np.linalg.norm(HS, axis=1, keepdims=True)
    series = prepared("cc", settings={"order": 30}).kernel(STUDENT.feature)  # type: ignore[operator]
    agree(series.numpy(), np.exp(-0.4 * cdist(unit, unit) ** 2))


def huber(x: Array) -> Array:
    return np.where(np.abs(x) <= 1, x**2 / 2, np.abs(x) - 0.5)


def test_rkd_distances() -> None:
    gap = huber(squareform(pdist(HS) / pdist(HS).mean()) - squareform(pdist(HT) / pdist(HT).mean()))
    agree(found("rkd", distance=1.0, angle=0.0)[1], gap.sum(axis=1) / (ROWS - 1))


def test_rkd_angles() -> None:
    def angle(h: Array, i: int, j: int, k: int) -> float:
        a, b = h[i] - h[j], h[k] - h[j]
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    expected = []
    for j in range(ROWS):
        others = [(i, k) for i in range(ROWS) for k in range(ROWS) if len({i, j, k}) == 3]
        gaps = [angle(HS, i, j, k) - angle(HT, i, j, k) for i, k in others]
        expected.append(huber(np.array(gaps)).mean())
    agree(found("rkd", distance=0.0, angle=1.0)[1], expected)


def test_pkt() -> None:
    def neighbours(h: Array) -> Array:
        kernel = 1 - (squareform(pdist(h, "cosine")) / 2)
        np.fill_diagonal(kernel, 0)
        return np.asarray(kernel / kernel.sum(axis=1, keepdims=True))

    agree(found("pkt")[1], rel_entr(neighbours(HT), neighbours(HS)).sum(axis=1))


def test_relations_of_parts_are_those_of_all_their_numbers() -> None:
    s, t = PS.reshape(ROWS, PARTS * WIDTH), PT.reshape(ROWS, PARTS * WIDTH)
    agree(
        found("sp", student="parts", teacher="parts")[1].mean(),
        np.linalg.norm(similarity(t) - similarity(s), "fro") ** 2 / ROWS**2,
    )
    gap = huber(squareform(pdist(s) / pdist(s).mean()) - squareform(pdist(t) / pdist(t).mean()))
    agree(found("rkd", student="parts", teacher="parts", angle=0.0)[1], gap.sum(axis=1) / (ROWS - 1))


def test_extremes_that_public_code_cannot_take() -> None:
    # DKD at logits times 200, in float32: against the same in float64.
    student, teacher = answers(seed=1, scale=200), answers(seed=2, scale=200)
    wide = loss(prepared("dkd"), student, teacher)
    student.logits, teacher.logits = student.logits.float(), teacher.logits.float()
    torch.testing.assert_close(loss(prepared("dkd").float(), student, teacher).double(), wide, rtol=1e-4, atol=1e-4)
    assert np.isfinite(log_softmax(200 * ZS, axis=1)).all()
