"""UCI Multiple Features: 2000 handwritten digits, six hand-made feature views of each.

Source: Duin, R. P. W., Multiple Features, UCI Machine Learning Repository, doi:10.24432/C5HC70 (CC BY 4.0).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from kd.data.shipped import read_checked
from kd.data.source import Source

WIDTHS = {"fou": 76, "fac": 216, "kar": 64, "pix": 240, "zer": 47, "mor": 6}


def mfeat(*, modalities: Sequence[str] | None = None) -> Source:
    """Load the digits from the shipped files.

    Args:
        modalities: the views to keep, in the source's order whatever the order asked; by default all six:
            fou [2000, 76], fac [2000, 216], kar [2000, 64], pix [2000, 240], zer [2000, 47], mor [2000, 6].

    Raises:
        DataError: an unknown view, or a file that is missing or damaged.

    >>> mfeat(modalities=["zer", "fou"]).modality["zer"].shape
    (47,)
    """
    wanted = [name for name in WIDTHS if modalities is None or name in modalities]
    inputs = {name: torch.from_numpy(_matrix(name)) for name in wanted or WIDTHS}
    rows = read_checked("mfeat", "label.parquet")
    label, group = (torch.from_numpy(rows[name].to_numpy().astype(np.int64)) for name in ("label", "group"))
    source = Source(
        name="mfeat",
        inputs=inputs,
        label=label,
        classes=10,
        task="multiclass",
        class_names=[str(digit) for digit in range(10)],
        group=group,
        card={
            "licence": "CC BY 4.0",
            "origin": "UCI Multiple Features, Robert P. W. Duin, doi:10.24432/C5HC70",
            "traps": "rows are sorted by digit; six are exact copies (grouped); widths differ 40-fold, scales far more",
        },
    )
    return source if modalities is None else source.select(modalities)


def _matrix(name: str) -> np.ndarray:
    table = read_checked("mfeat", f"{name}.parquet")
    return np.stack([column.to_numpy() for column in table.columns], axis=1)
