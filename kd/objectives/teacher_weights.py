"""How much each of several teachers counts for a row: weights that add up to 1 over the teachers that saw it.

Contract: `forward(teachers [B, K, C], label, labelled, valid [B, K]) -> weights [B, K]`, 0 where a teacher does not
count; rows that no teacher saw get zeros. The weights belong to the student; those of the edges multiply them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.objectives.base import entropy
from kd.registry import suggest

Of = Literal["losses", "logits", "probabilities"]
"""What is combined: each teacher's loss; or their logits, or their softened probabilities, into one teacher first."""


class TeacherWeights(nn.Module):
    """Base of all weights.

    Args:
        teachers: the edges' names, in order.
        of: what is combined.

    Attributes:
        replicable: runs under `vmap`, and rows of several students may lie side by side in one batch.
        reads_losses: weighs by the teachers' losses, with `weigh` in the place of `forward`.
        tasks: kinds of label that it makes sense for.
    """

    replicable = True
    reads_losses = False
    tasks: tuple[str, ...] = ("multiclass", "multilabel", "regression")

    def __init__(self, teachers: Sequence[str], /, *, of: Of = "losses") -> None:
        super().__init__()
        self.teachers, self.of = list(teachers), of

    def weigh(self, losses: Tensor, logits: Tensor, valid: Tensor) -> Tensor:
        """Return the weights [B, K] from the teachers' losses [B, K] and the student's logits [B, C]."""
        raise NotImplementedError

    def score(self, teachers: Tensor, label: Tensor, labelled: Tensor, valid: Tensor) -> Tensor:
        """Return numbers of at least 0 [B, K], in proportion to the weights among the teachers that count."""
        raise NotImplementedError

    def forward(self, teachers: Tensor, label: Tensor, labelled: Tensor, valid: Tensor) -> Tensor:
        """Return the weights [B, K] from logits [B, K, C]."""
        teachers = torch.where(
            valid.unsqueeze(-1), teachers.to(torch.promote_types(teachers.dtype, torch.float32)), 0.0
        )
        return shares(self.score(teachers, label, labelled, valid), valid)


def shares(score: Tensor, valid: Tensor) -> Tensor:
    """Return scores [B, K] as shares of their sum over the teachers that count; equal ones where all of them are 0."""
    score = torch.where(valid, score, 0.0)
    score = torch.where(score.sum(dim=-1, keepdim=True) > 0, score, valid.to(score.dtype))
    return score / score.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(score.dtype).tiny)


class Mean(TeacherWeights):
    """All alike (You et al. 2017, doi:10.1145/3097983.3098135).

    When to use:
        First, and to compare the others with.
    """

    def score(self, teachers: Tensor, label: Tensor, labelled: Tensor, valid: Tensor) -> Tensor:
        return torch.ones_like(teachers[..., 0])


class Fixed(TeacherWeights):
    """A number per teacher, shared out anew among those that saw the row (KDD 2020's alpha, as shares).

    When to use:
        Where one teacher is known to be better: its share is yours to set, or to tune.

    Args:
        teachers: the edges' names.
        of: what is combined.
        shares: edge -> number above 0.
    """

    numbers: Tensor

    def __init__(self, teachers: Sequence[str], /, *, shares: Mapping[str, float], of: Of = "losses") -> None:
        super().__init__(teachers, of=of)
        wrong = [name for name in shares if name not in self.teachers]
        if wrong:
            raise ConfigError(f"shares.{wrong[0]}: no such edge; {suggest(wrong[0], self.teachers)}")
        for name in self.teachers:
            if not shares.get(name, 0) > 0:
                got = shares.get(name)
                raise ConfigError(f"shares.{name}: expected a number above 0, one for every edge, got {got}")
        numbers = torch.tensor([float(shares[name]) for name in self.teachers], dtype=torch.float64)
        self.register_buffer("numbers", numbers, persistent=False)

    def score(self, teachers: Tensor, label: Tensor, labelled: Tensor, valid: Tensor) -> Tensor:
        return self.numbers.to(teachers.dtype).expand(teachers.shape[:2])


class Best(Fixed):
    """The teacher with the best validation score among those that saw the row, alone.

    LCKD's election of a teacher (Wang et al. 2023, arXiv 2310.01035), which elects anew as training goes on; ours is
    elected once, by validation rows, and per row among those that are there.

    When to use:
        Unimodal teachers of very unequal quality.

    Args:
        teachers: the edges' names.
        of: what is combined.
        scores: edge -> validation score; the study puts in those of its teachers' runs.
    """

    def __init__(
        self, teachers: Sequence[str], /, *, scores: Mapping[str, float] | None = None, of: Of = "losses"
    ) -> None:
        ranked = sorted(teachers, key=lambda name: ((scores or {}).get(name, 0.0), name))
        super().__init__(teachers, shares={name: place + 1.0 for place, name in enumerate(ranked)}, of=of)

    def score(self, teachers: Tensor, label: Tensor, labelled: Tensor, valid: Tensor) -> Tensor:
        rank = torch.where(valid, super().score(teachers, label, labelled, valid), 0.0)
        return (rank == rank.amax(dim=-1, keepdim=True)).to(teachers.dtype)


class Entropy(TeacherWeights):
    """`(1 - H_k / sum H) / (K - 1)` over the K teachers that saw the row; one alone counts fully.

    Kwon et al. 2020 (doi:10.1109/ICASSP40776.2020.9054698), in the form that the code of CA-MKD compares with.

    When to use:
        Teachers whose certainty can be trusted; rows need no label.
    """

    tasks = ("multiclass",)

    def score(self, teachers: Tensor, label: Tensor, labelled: Tensor, valid: Tensor) -> Tensor:
        return least_first(entropy(teachers), valid)


def least_first(value: Tensor, valid: Tensor) -> Tensor:
    """Return `1 - share` of each value of at least 0 [B, K] in their sum over what counts, and 1 where one counts."""
    alone = valid.sum(dim=-1, keepdim=True) == 1
    return torch.where(alone, 1.0, 1 - shares(value, valid))


class Confidence(TeacherWeights):
    """CA-MKD: `(1 - softmax_k(CE_k)) / (K - 1)`, CE_k the teacher's cross-entropy with the label.

    Zhang et al. 2022 (arXiv 2201.00007), equation 3, over the K teachers that saw the row; one alone counts fully, and
    a row without a label is weighed by entropy. The released code divides once more by the number of teachers.

    When to use:
        Teachers that are each wrong on other rows, and rows with labels.
    """

    tasks = ("multiclass",)

    def score(self, teachers: Tensor, label: Tensor, labelled: Tensor, valid: Tensor) -> Tensor:
        known = torch.where(labelled, label, 0)
        log = teachers.log_softmax(dim=-1)
        one_hot = F.one_hot(known, teachers.shape[-1]).to(log.dtype).unsqueeze(1)
        surprise = -(log * one_hot).sum(dim=-1)
        lowest = torch.finfo(log.dtype).min / 2
        share = torch.where(valid, surprise, lowest).softmax(dim=-1)
        alone = valid.sum(dim=-1, keepdim=True) == 1
        confident = torch.where(alone, 1.0, 1 - share)
        return torch.where(labelled.unsqueeze(-1), confident, least_first(entropy(teachers), valid))


class Learnt(TeacherWeights):
    """A softmax of one number per teacher, learnt with the student and shared out among those that saw the row.

    Amortised over rows, as in the student-led weighting of AMTML-KD (Liu et al. 2020, arXiv 2103.04062) without its
    dependence on the row. Left to itself it prefers the teacher that is easiest to imitate.

    When to use:
        Long trainings whose best shares nobody knows.
    """

    raw: Tensor

    def __init__(self, teachers: Sequence[str], /, *, of: Of = "losses") -> None:
        super().__init__(teachers, of=of)
        self.raw = nn.Parameter(torch.zeros(len(self.teachers)))

    def reset_parameters(self) -> None:
        """Weigh all alike."""
        nn.init.zeros_(self.raw)

    def score(self, teachers: Tensor, label: Tensor, labelled: Tensor, valid: Tensor) -> Tensor:
        return self.raw.softmax(dim=0).expand(teachers.shape[:2])
