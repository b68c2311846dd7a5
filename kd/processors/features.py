"""A table's rows: numbers and categories -> float32 vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kd.errors import DataError
from kd.processors.base import Processor
from kd.types import Modality

if TYPE_CHECKING:
    import pandas as pd


class Features(Processor):
    """A table's rows: numbers as they are (NaN where a cell is empty), categories as one column each.

    A category that training never saw, and an empty cell of a column of categories, give zeros in all its columns.

    Args:
        numbers: columns of numbers.
        categories: column -> the values it may take.
    """

    def __init__(self, numbers: Sequence[str], categories: Mapping[str, Sequence[str]]) -> None:
        self.numbers = list(numbers)
        self.categories = {name: list(values) for name, values in categories.items()}
        width = len(self.numbers) + sum(map(len, self.categories.values()))
        self.modality = Modality((width,), "vector", holes=True)

    @classmethod
    def fitted(cls, frame: pd.DataFrame) -> Features:
        """Learn which columns hold categories, and which ones, from training rows."""
        from pandas.api.types import is_bool_dtype, is_numeric_dtype

        numbers = [name for name in frame if is_numeric_dtype(frame[name]) or is_bool_dtype(frame[name])]
        rest = [name for name in frame if name not in numbers]
        return cls(numbers, {name: sorted(frame[name].dropna().astype(str).unique()) for name in rest})

    @property
    def names(self) -> list[str]:
        """Names of the columns that come out."""
        return self.numbers + [f"{column}={value}" for column, values in self.categories.items() for value in values]

    def __call__(self, values: Sequence[Any] | pd.DataFrame) -> Tensor:
        import pandas as pd

        frame = values if isinstance(values, pd.DataFrame) else pd.DataFrame(list(values))
        expected = [*self.numbers, *self.categories]
        for name in expected:
            if name not in frame:
                raise DataError(f"table: column {name!r} is missing; expected {', '.join(expected)}")
        columns = [_amounts(frame[name]) for name in self.numbers]
        for name, known in self.categories.items():
            written = frame[name].astype(str).where(frame[name].notna(), None).to_numpy()
            columns += [(written == value).astype(np.float32) for value in known]
        return torch.from_numpy(np.stack(columns, axis=1)) if columns else torch.empty(len(frame), 0)

    def state(self) -> dict[str, Any]:
        return {"name": "features", "numbers": self.numbers, "categories": self.categories}


def _amounts(cells: pd.Series) -> np.ndarray:
    """Return a column of numbers as float32 [N], NaN where empty."""
    try:
        return np.asarray(cells.to_numpy(np.float32, na_value=np.nan))
    except (TypeError, ValueError):
        wrong = next((cell for cell in cells if isinstance(cell, str) or not np.isscalar(cell)), cells.iloc[0])
        raise DataError(
            f"table: column {cells.name!r}: expected a number, or None where empty, got {wrong!r}"
        ) from None
