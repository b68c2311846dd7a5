"""Rows trained under MNAR masks: stamped, and kept out of the default tables (protocol 3).

What such a mask hides depends on what it hides, so that who lacks a modality tells something of the label or the value:
a score under it is no estimate of one under MCAR or MAR.
"""

from __future__ import annotations

import pandas as pd

KIND, MNAR = "mask_kind", "MNAR"
"""Column of a run's tables that says why values were missing in training, and the kind that is kept apart."""
APART = ", trained under MNAR masks"


def under_mnar(frame: pd.DataFrame) -> pd.Series:
    """Return which rows of a run's table were trained under an MNAR mask; none in records that do not say.

    >>> under_mnar(pd.DataFrame({"mask_kind": ["MAR", "MNAR"]})).tolist()
    [False, True]
    """
    return frame[KIND] == MNAR if KIND in frame else pd.Series(False, index=frame.index)


def stamped(table: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a shown table with a column that names the kind of mask, where it was made from rows under MNAR.

    Args:
        table: as text.
        frame: the rows it was made from, all under one mask.
    """
    return table.assign(**{"mask kind": MNAR}) if bool(under_mnar(frame).any()) else table


def warning(frame: pd.DataFrame) -> list[str]:
    """Return a sentence for a page whose rows were trained under an MNAR mask; else nothing."""
    if not bool(under_mnar(frame).any()):
        return []
    return [
        "Training modalities were hidden MNAR, depending on what they hide: do not set these scores beside those under "
        "other masks."
    ]
