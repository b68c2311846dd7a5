"""What a model scores at a missing rate, exactly, from its answers on all subsets of modalities.

At rate r every modality is hidden with chance r, completely at random. How many of the M modalities stay is then
known, and all subsets of one size are equally likely, so

    score(r) = sum_k P(k stay | r) * mean over tested subsets S of size k of score(S),

no mask need be drawn. With a sample of subsets (beyond 8 modalities) the inner mean is over those sampled of that size,
which leaves the sum unbiased.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import metrics
from torch import Tensor

from kd.data.mechanisms.at_random import unconditioned_stay
from kd.evaluate.predictions import SEPARATOR
from kd.tasks import Task

Numbers = NDArray[np.float64]
Law = Callable[[float, int], Numbers]
"""(rate, M) -> chances [M + 1] that 0, 1, ..., M modalities stay."""

STEP, INDEPENDENT_TOP = 0.1, 0.9


def one_stays(rate: float, count: int) -> Numbers:
    """Return the chances that 0..M modalities stay at a realised rate, given that at least one does.

    The law of the mask `mcar`: binomial with the stay probability that `unconditioned_stay` of
    `kd.data.mechanisms.at_random` solves for, divided by the chance that something stays; possible up to 1 - 1/M.

    >>> one_stays(0.5, 2).round(6), one_stays(0.0, 2).round(6)
    (array([0., 1., 0.]), array([0., 0., 1.]))
    """
    stay = float(unconditioned_stay(torch.full((count,), rate, dtype=torch.float64))[0])
    chances = _binomial(stay, count)
    chances[0] = 0.0
    return chances / chances.sum()


def independent(rate: float, count: int) -> Numbers:
    """Return the chances that 0..M modalities stay when each is hidden on its own (`mcar` with `allow_empty`).

    >>> independent(0.5, 2)
    array([0.25, 0.5 , 0.25])
    """
    return _binomial(1 - rate, count)


def _binomial(stay: float, count: int) -> Numbers:
    from scipy.stats import binom

    return np.asarray(binom.pmf(np.arange(count + 1), count, stay))


def rate_points(law: Law, count: int) -> list[float]:
    """Return the rates of a curve: 0, 0.1, ... up to 1 - 1/M where one modality must stay, else 0.9 (protocol 3).

    >>> rate_points(one_stays, 3)[-2:], rate_points(independent, 3)[-1]
    ([0.6, 0.6666666666666667], 0.9)
    """
    top = INDEPENDENT_TOP if law is independent else 1 - 1 / count
    steps = [round(STEP * place, 9) for place in range(round(1 / STEP))]
    return [rate for rate in steps if rate < top - 1e-9] + [top]


def row_weights(chances: Numbers, present: NDArray[np.bool_], observed: NDArray[np.bool_]) -> Numbers:
    """Return the chance of each answer for each row, [1 + K, N], first that of the training prior; columns sum to 1.

    A subset of which nature left a row nothing is the prior's where everything may be hidden; where one modality must
    stay, it cannot happen, and the others share its chance: the law of `mcar` on a row with gaps of its own.

    Args:
        chances: [M + 1], how many modalities stay.
        present: [K, M], the tested subsets; every size with a chance is among them.
        observed: [N, M], what nature left of the rows.
    """
    size = present.sum(axis=1)
    each = chances[size] / np.bincount(size, minlength=len(chances))[size]
    shown = (present.astype(int) @ observed.T.astype(int)) > 0
    weight = np.where(shown, each[:, None], 0.0)
    kept = weight.sum(axis=0)
    if chances[0] == 0:
        weight = np.divide(weight, kept, out=np.zeros_like(weight), where=kept > 0)
        kept = (kept > 0).astype(float)
    return np.vstack([1 - kept, weight])


def patterns(subsets: Sequence[str], modalities: Sequence[str]) -> NDArray[np.bool_]:
    """Return bool [K, M]: which modality is in which subset.

    >>> patterns(["b", "a+b"], ["a", "b"]).tolist()
    [[False, True], [True, True]]
    """
    return np.array([[name in subset.split(SEPARATOR) for name in modalities] for subset in subsets])


def mean_at(scores: Numbers, weights: Numbers) -> float:
    """Return a metric that is a mean over rows at one rate: exactly the mixture of its values on the subsets.

    Args:
        scores: [1 + K, N], per answer and row.
        weights: of `row_weights`.
    """
    return float((scores * weights).sum(axis=0).mean())


def weighted_at(metric: str, task: Task, logits: Tensor, label: Tensor, weights: Numbers) -> float:
    """Return a metric that is no mean over rows at one rate: scikit-learn's, every answer with its chance as weight.

    Macro-F1, AUROC and R2 can be had; nothing else can (ECE has no such form), and gives NaN.

    Args:
        metric: its name.
        task: of the labels.
        logits: [1 + K, N, C].
        label: of the N rows.
        weights: of `row_weights`.
    """
    if metric not in WEIGHTED:
        return float("nan")
    flat = torch.from_numpy(weights.reshape(-1))
    used = flat > 0
    answers = task.probabilities(logits.flatten(0, 1)[used]).numpy()
    truth = label.repeat(len(logits), *[1] * (label.dim() - 1))[used].numpy()
    return WEIGHTED[metric](answers, truth, flat[used].numpy())


def _macro_f1(probabilities: Any, truth: Any, weight: Any) -> float:
    found = probabilities.argmax(axis=1) if truth.ndim == 1 else probabilities > 0.5
    truth = truth if truth.ndim == 1 else truth > 0.5
    return float(metrics.f1_score(truth, found, average="macro", sample_weight=weight, zero_division=0))


def _auroc(probabilities: Any, truth: Any, weight: Any) -> float:
    wanted = truth > 0.5 if truth.ndim > 1 else truth[:, None] == np.arange(probabilities.shape[1])
    ranked = [k for k in range(wanted.shape[1]) if 0 < wanted[:, k].mean() < 1]
    each = [metrics.roc_auc_score(wanted[:, k], probabilities[:, k], sample_weight=weight) for k in ranked]
    return float(np.mean(each)) if each else float("nan")


def _r2(probabilities: Any, truth: Any, weight: Any) -> float:
    return float(metrics.r2_score(truth, probabilities, sample_weight=weight))


WEIGHTED: dict[str, Callable[[Any, Any, Any], float]] = {"macro_f1": _macro_f1, "auroc": _auroc, "r2": _r2}


def area(rates: Sequence[float], values: Sequence[float]) -> float:
    """Return the area under a rate curve by the trapezoid rule, divided by the range of its rates: its mean height.

    >>> area([0.0, 0.5], [1.0, 0.5])
    0.75
    """
    span = rates[-1] - rates[0]
    return float(np.trapezoid(values, rates) / span) if span > 0 else float("nan")


def retained(value: float, *, clean: float, chance: float, lower_is_better: bool = False) -> float:
    """Return the share of a model's margin over chance that is left: (value - chance) / (clean - chance).

    Chance is what the constant training prior scores on the same rows. NaN where the model is no better than chance
    with everything present, so that it has no margin to keep.

    >>> retained(0.75, clean=1.0, chance=0.5)
    0.5
    """
    margin = chance - clean if lower_is_better else clean - chance
    return (value - chance) / (clean - chance) if margin > 0 else float("nan")
