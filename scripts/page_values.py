"""Numbers of committed records for pages, each with its interval: one within a sentence, or a table of a few methods.

`scores:RECORD/AXIS/complete|mean/NODE+NODE` is a table of methods along an axis, with `/AXIS=VALUE&AXIS=VALUE` behind
it in the settings with these values alone; `cost:RECORD/AXIS/NODE+NODE` one of their optimiser steps and parameters. A
marker within a sentence is
`value:RECORD/claims/NAME`, what was measured of a claim, `value:RECORD/bound`, who passes the Bayes rule,
`value:RECORD+RECORD/minutes`, how long sweeps took together, or
`value:RECORD/NODE/complete|mean/AXIS=VALUE&AXIS=VALUE`, a method's score over seeds in the settings with these values,
the mean over all others; `ONE~OTHER` in the method's place is the first minus the second.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from page_figures import MINUS, committed, difference, table_of

from kd.errors import RecordError

if TYPE_CHECKING:
    import pandas as pd


def value(name: str, root: Path) -> str:
    """Return a number as prose shows it: `87.5 [87.1, 88.0]`.

    Args:
        name: what stands in the marker after `value:`.
        root: the checkout.

    Raises:
        RecordError: the marker is spelt otherwise, or its record has no such number.
    """
    record, *parts = name.split("/")
    if parts == ["bound"]:
        return _bound(name, committed(f"value:{name}", root, f"{record}_provenance.json"))
    if parts == ["minutes"]:
        tables = [committed(f"value:{name}", root, f"{one}_facts.parquet") for one in record.split("+")]
        return f"{sum(map(_minutes, tables)):.0f}"
    if len(parts) == 2 and parts[0] == "claims":
        return _claimed(name, committed(f"value:{name}", root, f"{record}_claims.parquet"), parts[1])
    if len(parts) not in (2, 3) or parts[1] not in ("complete", "mean"):
        raise RecordError(f"kd:value:{name}: expected RECORD/claims/NAME or RECORD/NODE/complete|mean/AXIS=VALUE")
    return _scored(name, committed(f"value:{name}", root, f"{record}_scores.parquet"), *parts)


def scores_table(name: str, root: Path) -> str:
    """Return methods along an axis as a table, a row per method.

    Args:
        name: what stands in the marker after `scores:`.
        root: the checkout.

    Raises:
        RecordError: the marker is spelt otherwise, or its record has no such method or axis.
    """
    import pandas as pd

    from kd.report.ablation import along
    from kd.report.tables import markdown

    parts = name.split("/")
    if len(parts) not in (4, 5) or parts[2] not in ("complete", "mean"):
        raise RecordError(f"kd:scores:{name}: expected RECORD/AXIS/complete|mean/NODE+NODE, or more /AXIS=VALUE")
    record, axis, what, nodes = parts[0], parts[1], parts[2], parts[3].split("+")
    path = committed(f"scores:{name}", root, f"{record}_scores.parquet")
    frame = table_of(f"scores:{name}", path, [axis], nodes)
    frame = _with(f"scores:{name}", path, frame, "".join(parts[4:]))
    own = [frame[(frame["node"] == node) & (frame["what"] == what)] for node in nodes]
    if not all(map(len, own)):
        raise RecordError(f"kd:scores:{name}: {path.name} has no such score")
    return markdown(along(pd.concat(own), axis, "accuracy").drop(columns="score"))


def cost_table(name: str, root: Path) -> str:
    """Return optimiser steps, those of all that a method is made from included, and parameters, a row per method.

    Args:
        name: what stands in the marker after `cost:`.
        root: the checkout.

    Raises:
        RecordError: the marker is spelt otherwise, or its record has no such method or axis.
    """
    import pandas as pd

    from kd.report.setting import value_name
    from kd.report.tables import NOTHING, markdown

    parts = name.split("/")
    if len(parts) != 3:
        raise RecordError(f"kd:cost:{name}: expected RECORD/AXIS/NODE+NODE")
    (record, axis, named), marker = parts, f"cost:{name}"
    nodes = named.split("+")
    frame = table_of(marker, committed(marker, root, f"{record}_cost.parquet"), [axis], nodes)
    rows = []
    for node in nodes:
        own = frame[frame["node"] == node].groupby(axis, sort=False).first()
        told = {value_name(value): _told(row["steps"], row["parameters"], NOTHING) for value, row in own.iterrows()}
        rows.append({"method": node, **told})
    return markdown(pd.DataFrame(rows))


def _told(steps: float, parameters: float, nothing: str) -> str:
    shown = [nothing if number != number else f"{int(number):,}" for number in (steps, parameters)]
    return " / ".join(shown)


def _bound(name: str, path: Path) -> str:
    told = json.loads(path.read_text()).get("bayes_bound")
    if not told:
        raise RecordError(f"kd:value:{name}: {path.name} says nothing of the Bayes rule; its data have no known law")
    return str(told)


def _minutes(path: Path) -> float:
    import pandas as pd

    return float(pd.read_parquet(path).set_index("fact").loc["minutes", "value"].replace(",", ""))


def _claimed(name: str, path: Path, claim: str) -> str:
    import pandas as pd

    from kd.report.tables import interval

    frame = pd.read_parquet(path).set_index("claim")
    if claim not in frame.index or pd.isna(frame.loc[claim, "estimate"]):
        raise RecordError(f"kd:value:{name}: {path.name} has no number for {claim!r}")
    row = frame.loc[claim]
    return interval(row["estimate"], row["low"], row["high"], row["metric"], signed=True)


def _scored(name: str, path: Path, node: str, what: str, settings: str = "") -> str:
    import pandas as pd

    from kd.report.tables import interval
    from kd.statistics.intervals import mean_interval

    frame = pd.read_parquet(path)
    frame = _with(f"value:{name}", path, frame[frame["what"] == what], settings)
    own = difference(frame, node)
    if not len(own):
        raise RecordError(f"kd:value:{name}: {path.name} has no such score")
    return interval(*mean_interval(own.groupby("seed")["value"].mean().to_numpy(float)), signed=MINUS in node)


def _with(marker: str, path: Path, frame: pd.DataFrame, settings: str) -> pd.DataFrame:
    """Return the scores of the settings with these values: `AXIS=VALUE&AXIS=VALUE`."""
    from kd.report.setting import value_name

    for axis, _, wanted in (one.partition("=") for one in settings.split("&") if one):
        if axis not in frame:
            raise RecordError(f"kd:{marker}: {path.name} has no axis {axis!r}")
        frame = frame[frame[axis].map(value_name) == wanted]
    return frame
