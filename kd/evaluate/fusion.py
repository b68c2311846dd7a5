"""Late fusion: the answers of several trained members become one, whichever of them a subset lets answer."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from kd.errors import ConfigError
from kd.evaluate.predictions import Logits, answer

LOG_TEMPERATURES = (-4.0, 4.0)
"""Logarithms between which temperatures are looked for."""
LOG_WEIGHTS = (-10.0, 10.0)
"""The same of weights, before they are made to sum to 1."""
UNSEEN = math.log(1e-30)
"""Least log-share of a class that training showed."""


@dataclass(frozen=True)
class Combination(ABC):
    """How the members that can answer are fused.

    Attributes:
        task: multiclass, multilabel or regression.
        tasks: those it is defined for.

    Raises:
        ConfigError: it is not defined for the task.
    """

    task: str
    tasks: ClassVar[Sequence[str]] = ("multiclass",)

    def __post_init__(self) -> None:
        if self.task not in self.tasks:
            raise ConfigError(
                f"{type(self).__name__.lower()}: fuses {' and '.join(self.tasks)} answers, these are {self.task}; "
                "take mean"
            )

    @property
    def selected(self) -> str:
        """What validation labels have fitted, in words; empty where nothing."""
        return ""

    def fit(self, members: Sequence[Logits], label: Tensor, subsets: Sequence[str]) -> Combination:
        """Return the combination fitted on validation rows.

        Args:
            members: the answers of each on these rows.
            label: theirs.
            subsets: of modalities; what is fitted is judged by the mean over them.
        """
        return self

    def combine(self, members: Sequence[Logits], subset: str, prior: Tensor) -> Tensor | None:
        """Return the fused logits [N, C] for a subset of modalities; None where no member can answer.

        Args:
            members: the answers of each.
            subset: of modalities.
            prior: logits [C] of the constant answer that training labels suggest.
        """
        answers = {place: found for place, each in enumerate(members) if (found := answer(each, subset)) is not None}
        return self.fuse(torch.stack(list(answers.values())), list(answers), prior) if answers else None

    @abstractmethod
    def fuse(self, logits: Tensor, which: Sequence[int], prior: Tensor) -> Tensor:
        """Return [N, C] from the logits [K, N, C] of the members that answer, and their places among all."""


class Mean(Combination):
    """Mean of probabilities; of the values in regression."""

    tasks = ("multiclass", "multilabel", "regression")

    def fuse(self, logits: Tensor, which: Sequence[int], prior: Tensor) -> Tensor:
        if self.task == "regression":
            return logits.mean(dim=0)
        if self.task == "multilabel":
            return logits.sigmoid().mean(dim=0).logit(eps=1e-6)
        return _log(logits.softmax(dim=-1).mean(dim=0))


class Product(Combination):
    """Normalised product of probabilities, p ~ prod_m p_m (Hinton 2002, doi:10.1162/089976602760128018).

    A sum of log-probabilities, without correction for the prior that each member counts once more. Regression averages.
    """

    tasks = ("multiclass", "multilabel", "regression")

    def fuse(self, logits: Tensor, which: Sequence[int], prior: Tensor) -> Tensor:
        if self.task == "regression":
            return logits.mean(dim=0)
        return logits.log_softmax(dim=-1).sum(dim=0) if self.task == "multiclass" else logits.sum(dim=0)


class Corrected(Combination):
    """Product with the prior counted once: log p = sum_m log p_m - (K - 1) log prior, K members that answer.

    The Bayes rule where the members' inputs are independent given the class (Kittler et al. 1998,
    doi:10.1109/34.667881, the product rule). Members that share a modality break that.
    """

    tasks = ("multiclass", "multilabel")

    def fuse(self, logits: Tensor, which: Sequence[int], prior: Tensor) -> Tensor:
        # A class that training never showed is left as it is: nothing is known of how often it was counted.
        known = torch.where(prior > UNSEEN, prior, 0.0) if self.task == "multiclass" else prior
        repeated = (len(which) - 1) * known
        if self.task == "multilabel":
            return logits.sum(dim=0) - repeated
        return (logits.log_softmax(dim=-1).sum(dim=0) - repeated).log_softmax(dim=-1)


@dataclass(frozen=True)
class Weighted(Combination):
    """Weighted mean of probabilities, p = sum_m w_m p_m / sum_m w_m over the members that answer.

    The weights, convex and one set for all subsets, maximise the validation likelihood: a linear opinion pool
    (Stone 1961, doi:10.1214/aoms/1177704873).

    Attributes:
        weights: one for each member, once fitted.
    """

    weights: Sequence[float] = ()

    @property
    def selected(self) -> str:
        return f"weights {_spelt(self.weights)} by validation NLL, mean over subsets"

    def fit(self, members: Sequence[Logits], label: Tensor, subsets: Sequence[str]) -> Weighted:
        pools = [_right(members, label, subset) for subset in subsets]
        return replace(self, weights=_best_weights([pool for pool in pools if pool], len(members)))

    def fuse(self, logits: Tensor, which: Sequence[int], prior: Tensor) -> Tensor:
        weight = torch.tensor([self.weights[place] for place in which], dtype=logits.dtype)
        return _log(torch.einsum("k,knc->nc", weight / weight.sum(), logits.softmax(dim=-1)))


@dataclass(frozen=True)
class Calibrated(Combination):
    """Product of probabilities after temperature scaling of each member, p ~ prod_m softmax(z_m / T_m).

    Each T_m minimises the member's own validation NLL, the mean over the subsets it answers (Guo et al. 2017,
    arXiv 1706.04599).

    Attributes:
        temperatures: one for each member, once fitted.
    """

    temperatures: Sequence[float] = ()

    @property
    def selected(self) -> str:
        return f"temperatures {_spelt(self.temperatures)} by validation NLL, mean over subsets"

    def fit(self, members: Sequence[Logits], label: Tensor, subsets: Sequence[str]) -> Calibrated:
        return replace(self, temperatures=tuple(_best_temperature(each, label) for each in members))

    def fuse(self, logits: Tensor, which: Sequence[int], prior: Tensor) -> Tensor:
        temperature = torch.tensor([self.temperatures[place] for place in which], dtype=logits.dtype)
        return (logits / temperature.view(-1, 1, 1)).log_softmax(dim=-1).sum(dim=0)


def _log(probability: Tensor) -> Tensor:
    return probability.clamp_min(torch.finfo(probability.dtype).tiny).log()


def _spelt(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _right(members: Sequence[Logits], label: Tensor, subset: str) -> dict[int, Tensor]:
    """Return member -> probability of the right class, float64 [N], for those that answer a subset."""
    answers = {place: answer(each, subset) for place, each in enumerate(members)}
    return {
        place: found.double().softmax(dim=-1).gather(1, label[:, None]).squeeze(1)
        for place, found in answers.items()
        if found is not None
    }


def _best_weights(pools: Sequence[dict[int, Tensor]], members: int) -> tuple[float, ...]:
    """Return convex weights of least NLL, from equal ones on; L-BFGS on their logarithms."""
    from scipy.optimize import minimize

    def loss(logs: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        theta = torch.tensor(logs, requires_grad=True)
        weight = theta.softmax(dim=0)
        found = [_mixture_nll(pool, weight[list(pool)]) for pool in pools]
        value = torch.stack(found).mean()
        (slope,) = torch.autograd.grad(value, theta)
        return value.item(), slope.numpy()

    found = minimize(loss, np.zeros(members), jac=True, method="L-BFGS-B", bounds=[LOG_WEIGHTS] * members)
    return tuple(torch.from_numpy(found.x).softmax(dim=0).tolist())


def _mixture_nll(pool: dict[int, Tensor], weight: Tensor) -> Tensor:
    mixed = (weight / weight.sum()) @ torch.stack(list(pool.values()))
    return -_log(mixed).mean()


def _best_temperature(member: Logits, label: Tensor) -> float:
    """Return T of least NLL; it is convex in 1 / T, so the only minimum there is."""
    from scipy.optimize import minimize_scalar

    logits = [each.double() for each in member.values()]

    def loss(log: float) -> float:
        return sum(float(cross_entropy(each / math.exp(log), label)) for each in logits)

    return math.exp(minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded").x)
