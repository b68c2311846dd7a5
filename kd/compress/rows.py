"""Rows as passes read them, the patterns of availability they are shown under, and how far two predictors differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kd.distill.view import pattern, subsets
from kd.evaluate.predictor import Predictor
from kd.types import conceal


class Rows(Protocol):
    """Rows as a pass reads them; a `kd.types.Batch` is one."""

    @property
    def inputs(self) -> Mapping[str, Tensor]:
        """Modality -> [B, ...]."""
        ...

    @property
    def present(self) -> Tensor:
        """Bool [B, M]."""
        ...


@dataclass(frozen=True)
class Shown:
    """Rows without labels.

    Attributes:
        inputs: modality -> [B, ...].
        present: bool [B, M], columns in the order of `inputs`.
    """

    inputs: Mapping[str, Tensor]
    present: Tensor


def take(rows: Rows, chosen: Tensor | slice) -> Shown:
    """Return some of the rows."""
    return Shown({name: value[chosen] for name, value in rows.inputs.items()}, rows.present[chosen])


def hidden(rows: Rows, modalities: list[str], present: Tensor) -> dict[str, Tensor]:
    """Return inputs with garbage wherever `present` is False."""
    return {name: conceal(rows.inputs[name], ~present[:, column]) for column, name in enumerate(modalities)}


def every_pattern(modalities: list[str]) -> Tensor:
    """Return bool [S, M]: every availability but none at all; beyond 8 modalities a sample, as `subsets` gives it.

    >>> every_pattern(["fou", "zer"]).tolist()
    [[True, False], [False, True], [True, True]]
    """
    return torch.stack([pattern(modalities, subset) for subset in subsets(modalities)])


def patterns_of(model: object, modalities: list[str]) -> Tensor:
    """Return the patterns that a model or predictor can be asked under: without `present` it needs everything."""
    if getattr(model, "takes_present", True):
        return every_pattern(modalities)
    return torch.ones(1, len(modalities), dtype=torch.bool)


def answers(predictor: Predictor, rows: Rows, *, limit: int | None = None) -> Tensor:
    """Return logits [S, B, C] under every pattern, NaN in all that is hidden.

    Only values a row truly has are shown; a row that a pattern leaves nothing is asked all the same.

    Args:
        predictor: whom to ask.
        rows: what.
        limit: rows at most.
    """
    names = list(predictor.modalities)
    shown = take(rows, slice(limit))
    found = []
    for availability in patterns_of(predictor, names):
        present = shown.present & availability
        found.append(torch.as_tensor(predictor(hidden(shown, names, present), present)))
    return torch.stack(found)


def differences(expected: Tensor, got: Tensor, task: str | None) -> dict[str, float]:
    """Compare two answers.

    Args:
        expected: logits [..., C] of the reference.
        got: logits [..., C] of what was made from it.
        task: decides what a decision is; regression and None have none.

    Returns:
        parity_max: greatest absolute difference of logits over the greatest absolute logit of the reference, infinite
        where either is not finite; agreement: share of equal decisions.
    """
    finite = bool(torch.isfinite(expected).all() and torch.isfinite(got).all())
    scale = expected.abs().max().clamp(min=1e-12)
    found = {"parity_max": ((expected - got).abs().max() / scale).item() if finite else float("inf")}
    if task == "multiclass":
        found["agreement"] = (expected.argmax(-1) == got.argmax(-1)).double().mean().item()
    if task == "multilabel":
        found["agreement"] = ((expected > 0) == (got > 0)).double().mean().item()
    return found
