"""What a teacher knows and how much of it a student took over: agreement, certainty, information on the label."""

from __future__ import annotations

import torch
from torch import Tensor


def agreement(student: Tensor, teacher: Tensor) -> float:
    """Return the share of rows for which two networks name the same class first; NaN without rows.

    Stanton et al. 2021 (arXiv 2106.05945), section 3: fidelity, which accuracy does not tell.

    Args:
        student: logits [N, C].
        teacher: logits [N, C].

    >>> agreement(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[9.0, 1.0], [3.0, 0.0]]))
    0.5
    """
    return float((student.argmax(dim=-1) == teacher.argmax(dim=-1)).double().mean())


def uncertainty(logits: Tensor) -> float:
    """Return the mean entropy of softmax(logits), in nats; NaN without rows."""
    log = logits.double().log_softmax(dim=-1)
    return float(-(log.exp() * log).sum(dim=-1).mean())


def information(logits: Tensor, label: Tensor) -> float:
    """Return a lower bound on the information between what a network sees and the label, in nats.

    `H(y) - E[-log q(y | x)]` on rows that it did not learn from, H of the label's shares among them: the mutual
    information less the divergence of q from the true posterior (Barber & Agakov 2003; Xu et al. 2020, arXiv
    2002.10689). It is negative for a network that is worse than these shares.

    Args:
        logits: [N, C], of held-out rows.
        label: int64 [N].
    """
    return label_entropy(label) - float(torch.nn.functional.cross_entropy(logits.double(), label))


def label_entropy(label: Tensor) -> float:
    """Return the entropy of the labels' shares, in nats.

    >>> round(label_entropy(torch.tensor([0, 1, 0, 1])), 4)
    0.6931
    """
    shares = label.bincount().double() / len(label)
    return float(-torch.special.xlogy(shares, shares).sum())
