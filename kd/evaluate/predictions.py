"""A network's logits for every subset of modalities, on validation and test rows, as a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kd.distill.view import subsets
from kd.errors import MaskError
from kd.types import conceal

if TYPE_CHECKING:
    from kd.data.source import Source

Logits = dict[str, Tensor]
"""Subset (`"fou+zer"`, source order) -> logits [N, C]."""

SEPARATOR = "+"
CHUNK = 256


def all_subsets(modalities: Sequence[str]) -> list[str]:
    """Return all subsets that are tested, by size, spelt in the order given: 2^M - 1, or a sample beyond 8 modalities.

    >>> all_subsets(["fou", "zer"])
    ['fou', 'zer', 'fou+zer']
    """
    return [SEPARATOR.join(chosen) for chosen in subsets(modalities)]


def seen_subsets(modalities: Sequence[str], sees: Sequence[str]) -> list[str]:
    """Return what is left of all tested subsets for a network that sees some of the modalities, by size.

    >>> seen_subsets(["fou", "kar", "zer"], ["fou", "zer"])
    ['fou', 'zer', 'fou+zer']
    """
    left = [tuple(name for name in chosen if name in sees) for chosen in subsets(modalities)]
    return [SEPARATOR.join(chosen) for chosen in sorted(filter(None, dict.fromkeys(left)), key=len)]


def predict(
    predictor: Callable[[Mapping[str, Any], Any], Any], source: Source, sees: Sequence[str], ids: Tensor
) -> Logits:
    """Return logits for rows `ids` under every tested subset of the modalities in `sees`.

    A hidden modality is handed over as NaN (-1 where it holds whole numbers), so that reading it cannot go unnoticed.
    """
    return {
        subset: _predict_subset(predictor, source, sees, ids, subset.split(SEPARATOR))
        for subset in seen_subsets(source.modalities, sees)
    }


def _predict_subset(
    predictor: Callable[[Mapping[str, Any], Any], Any],
    source: Source,
    sees: Sequence[str],
    ids: Tensor,
    subset: Sequence[str],
) -> Tensor:
    pieces = []
    for rows in ids.split(CHUNK):
        batch = source.batch(rows, source.observed[rows]).select(sees)
        present = batch.present & torch.tensor([name in subset for name in sees])
        inputs = {name: conceal(batch.inputs[name], ~present[:, column]) for column, name in enumerate(sees)}
        pieces.append(np.asarray(predictor(inputs, present)))
    return torch.from_numpy(np.concatenate(pieces)).float()


def answer(logits: Logits, subset: str) -> Tensor | None:
    """Return a node's logits when the modalities in `subset` are there, of which it may see only some; None if none.

    >>> answer({"fou": torch.zeros(1, 2)}, "fou+zer")
    tensor([[0., 0.]])
    >>> answer({"fou": torch.zeros(1, 2)}, "zer") is None
    True
    """
    sees = {name for key in logits for name in key.split(SEPARATOR)}
    own = SEPARATOR.join(name for name in subset.split(SEPARATOR) if name in sees)
    return logits.get(own)


def under(logits: Logits, shown: Tensor, modalities: Sequence[str], *, prior: Tensor) -> Tensor:
    """Return each row's logits for the subset of modalities that a mask leaves it, [N, C].

    Args:
        logits: a node's, for every subset of the modalities it sees.
        shown: bool [N, M], what the rows have, columns in the order of `modalities`.
        modalities: M names, in the order in which subsets are spelt.
        prior: logits [C] of the rows that have nothing the node may see.

    Raises:
        MaskError: a row shows a subset for which there is no answer.

    >>> logits = {"a": torch.tensor([[1.0, 0.0], [2.0, 0.0]])}
    >>> under(logits, torch.tensor([[True, True], [False, True]]), ["a", "b"], prior=torch.zeros(2)).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    found = prior.expand(len(shown), -1).clone()
    sees = {name for subset in logits for name in subset.split(SEPARATOR)}
    kinds, place = shown.unique(dim=0, return_inverse=True)
    for number, kind in enumerate(kinds.tolist()):
        subset = SEPARATOR.join(name for name, there in zip(modalities, kind, strict=True) if there and name in sees)
        if subset and subset not in logits:
            raise MaskError(f"mask: leaves rows with {subset}, on which nothing was predicted; predict that subset too")
        if subset:
            found[place == number] = logits[subset][place == number].to(found.dtype)
    return found
