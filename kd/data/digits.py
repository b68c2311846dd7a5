"""UCI Optical Recognition of Handwritten Digits, as scikit-learn brings it: 1797 pictures, cut into four quadrants.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
doi:10.24432/C50P49 (CC BY 4.0); its test part is what `sklearn.datasets.load_digits` reads from scikit-learn's files.
"""

from __future__ import annotations

from collections.abc import Sequence

import sklearn
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from kd.data.source import Source, tensor_digest
from kd.errors import DataError

QUADRANTS = {
    "top_left": (slice(0, 4), slice(0, 4)),
    "top_right": (slice(0, 4), slice(4, 8)),
    "bottom_left": (slice(4, 8), slice(0, 4)),
    "bottom_right": (slice(4, 8), slice(4, 8)),
}
"""Modality -> the rows and the columns of the 8 x 8 picture that it shows."""

CONTENT = "c75a02bff9eef282557b2713fb458694fa225aac800c6007b8fdbb071a9714c0"
"""The digest of pixels and labels, float64 [1797, 65]: the same in scikit-learn 1.5.0 and 1.9.1."""

CARD = {
    "licence": "CC BY 4.0",
    "origin": "UCI Optical Recognition of Handwritten Digits, test part, E. Alpaydin and C. Kaynak, "
    "doi:10.24432/C50P49; read from scikit-learn",
    "traps": "13 writers whose rows nothing tells apart, so every part of a split may hold rows of each; strokes go on "
    "across the cuts; scores of networks that learnt from the data set's own training part do not compare",
}


def digits(*, modalities: Sequence[str] | None = None) -> Source:
    """Load the digits that scikit-learn brings; nothing is downloaded.

    Args:
        modalities: the quadrants to keep, in the source's order whatever the order asked; by default all four:
            top_left, top_right, bottom_left, bottom_right, each [1797, 16], counts of ink from 0 to 16.

    Raises:
        DataError: an unknown quadrant, or scikit-learn's copy is not the one that is known here.

    >>> digits(modalities=["top_left"]).modality["top_left"].shape
    (16,)
    """
    pictures, label = _load()
    inputs = {name: pictures[:, rows, columns].flatten(1) for name, (rows, columns) in QUADRANTS.items()}
    # No two pictures are equal, so every row is its own group.
    source = Source(name="digits", inputs=inputs, label=label, classes=10, card=dict(CARD))
    return source if modalities is None else source.select(modalities)


def _load() -> tuple[Tensor, Tensor]:
    """Return pictures float32 [1797, 8, 8] and labels int64 [1797]."""
    pixels, label = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    if tensor_digest(torch.cat([pixels, label[:, None].to(pixels.dtype)], dim=1)) != CONTENT:
        raise DataError(
            f"digits: scikit-learn {sklearn.__version__} brings other rows than those known here; "
            "install scikit-learn 1.9"
        )
    return pixels.float().view(-1, 8, 8), label.long()
