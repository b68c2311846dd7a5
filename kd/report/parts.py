"""Which variants of an ablation may stand in one table: those that share data and test rows, MNAR masks apart."""

from __future__ import annotations

import pandas as pd

from kd.record import RunRecord
from kd.report.setting import value_name
from kd.report.stamps import APART, under_mnar


def comparable(record: RunRecord, values: pd.DataFrame, axes: list[str]) -> dict[str, pd.DataFrame]:
    """Return the scores in parts that share data and test rows, by hash: no table mixes others (protocol 15).

    Those under MNAR masks are parts of their own, the last ones (protocol 3).

    Returns:
        label -> scores; the label, empty where there is one part, says what its variants have alone.
    """
    if not len(values):
        return {}
    origin, apart = values["variant"].astype(str).map(record.metrics["origins"]), under_mnar(values)
    found = {}
    for label, hidden in (("", values[~apart]), (APART, values[apart])):
        for _, own in hidden.groupby(origin[hidden.index], sort=False):
            alone = [axis for axis in axes if own[axis].nunique() == 1 and hidden[axis].nunique() > 1]
            several = origin[hidden.index].nunique() > 1
            where = ", " + ", ".join(f"{axis}={value_name(own[axis].iloc[0])}" for axis in alone) if several else ""
            found[where + label] = own
    return found
