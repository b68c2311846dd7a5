"""What a data card declares about encoders that somebody else trained: which of its rows they have seen.

    card: {pretraining: {"owner/name": unknown, "package:x/model": none, "mine:Net": [id7, id9]}}

`all` and a list of ids are facts about rows; `none` says that no row was seen; `unknown`, which is also what an encoder
has of which the card says nothing, is no obstacle and stamped on the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from kd.data.source import Source
from kd.errors import DataError, LeakError

WORDS = ("all", "none", "unknown")


def declared(source: Source, names: Iterable[str]) -> tuple[str, Tensor]:
    """Return what the card says of an encoder, in words, and which rows it has seen, int64.

    Args:
        source: whose card may hold `pretraining`.
        names: what the encoder goes by, the most exact first.

    Raises:
        DataError: the declaration is no word of ours and no list of rows.
    """
    listed = source.card.get("pretraining") or {}
    if not isinstance(listed, Mapping):
        raise DataError(
            f"{source.name}: card.pretraining: expected encoder -> all, none, unknown or ids, got {listed!r}"
        )
    key = next((name for name in names if name in listed), None)
    said = "unknown" if key is None else listed[key]
    if isinstance(said, str) and said in WORDS:
        rows = torch.arange(len(source)) if said == "all" else torch.empty(0, dtype=torch.int64)
        return said if key is not None else "unknown (not declared)", rows
    if not isinstance(said, list):
        raise DataError(
            f"{source.name}: card.pretraining.{key}: expected all, none, unknown or a list of ids, got {said!r}"
        )
    return f"{len(said)} rows", _rows(source, said, str(key))


def refuse_pretrained_on(source: Source, where: str, names: Iterable[str], test: Tensor) -> str:
    """Return what is known of the rows that an encoder was trained on, where no test row is among them.

    Args:
        source: whose card declares it.
        where: the node and modality that it stands in.
        names: what the encoder goes by, the most exact first.
        test: int64, rows that it must not have seen.

    Raises:
        LeakError: it has seen test rows; with its name and the rows'.
    """
    names = list(names)
    said, rows = declared(source, names)
    seen = test[torch.isin(test, rows)]
    if len(seen):
        first = ", ".join(source.named(int(row)) for row in seen[:5])
        raise LeakError(
            f"{where}: {names[0]} was trained on {len(seen)} test rows of {source.name} ({first}), as the data's card "
            "declares; take another encoder, or test on other rows"
        )
    return said


def _rows(source: Source, ids: list[Any], key: str) -> Tensor:
    places = {name: row for row, name in enumerate(source.ids or map(str, range(len(source))))}
    unknown = [str(name) for name in ids if str(name) not in places]
    if unknown:
        raise DataError(f"{source.name}: card.pretraining.{key}: {unknown[0]!r} is no row; name them by their ids")
    return torch.tensor(sorted(places[str(name)] for name in ids), dtype=torch.int64)
