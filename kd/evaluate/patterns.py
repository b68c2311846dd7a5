"""Which patterns of modalities a node's training rows showed it, and which it meets at test for the first time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from kd.evaluate.predictions import SEPARATOR


def training_patterns(available: Tensor, sees: Sequence[str]) -> dict[str, int]:
    """Return pattern -> number of training rows that show exactly it; rows that show nothing count for none.

    Args:
        available: bool [N, M'], the node's own modalities over its training rows.
        sees: their names.

    >>> import torch
    >>> training_patterns(torch.tensor([[True, False], [True, True], [True, True]]), ["a", "b"])
    {'a': 1, 'a+b': 2}
    """
    rows, counts = available.unique(dim=0, return_counts=True)
    named = [SEPARATOR.join(name for name, there in zip(sees, row, strict=True) if there) for row in rows.tolist()]
    return {pattern: count for pattern, count in zip(named, counts.tolist(), strict=True) if pattern}


def was_shown(subset: str, patterns: Mapping[str, int], sees: Sequence[str], *, drop: bool) -> bool:
    """Say whether training showed a node what is left to it of a test subset.

    Args:
        subset: of the source's modalities.
        patterns: of `training_patterns`.
        sees: the node's modalities.
        drop: whether training hides more at random, so that every part of a pattern is shown as well.

    >>> was_shown("a", {"a+b": 3}, ["a", "b"], drop=False), was_shown("a", {"a+b": 3}, ["a", "b"], drop=True)
    (False, True)
    """
    own = {name for name in subset.split(SEPARATOR) if name in sees}
    known = [set(pattern.split(SEPARATOR)) for pattern in patterns]
    return any(own <= pattern for pattern in known) if drop else own in known
