"""Invented tables in the layout of ADNI's, which are not ours to ship: every number in them is drawn, none ADNI's."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

RIDS = range(101, 161)
"""The subjects of the invented tables below; each third is CN, MCI, Dementia."""


def adni_tables() -> dict[str, pd.DataFrame]:
    """Return file -> rows."""
    drawn = np.random.default_rng(0)

    def rows(visits: list[tuple[str, str]], **columns: Callable[[int, str], Any]) -> pd.DataFrame:
        """Return a row for each subject and (VISCODE, VISCODE2); what a column holds is a function of both."""
        keys = [(rid, first, second) for rid in RIDS for first, second in visits]
        found = {"RID": [k[0] for k in keys], "VISCODE": [k[1] for k in keys], "VISCODE2": [k[2] for k in keys]}
        return pd.DataFrame(found | {name: [make(k[0], k[2]) for k in keys] for name, make in columns.items()})

    def value(shift: float) -> Callable[[int, str], float]:
        return lambda rid, visit: round(float(drawn.normal(10 + shift * (rid % 3), 2)), 3)

    day = {"bl": "2011-01-05", "sc": "2010-12-20", "scmri": "2010-12-28", "m12": "2012-01-09"}
    dates = {"EXAMDATE": lambda rid, visit: day[visit], "update_stamp": lambda rid, visit: "2016-08-01 10:00:00.0"}
    merge = rows(
        [("bl", "bl"), ("m12", "m12")],
        PTID=lambda rid, visit: f"011_S_{rid:04d}",
        SITE=lambda rid, visit: 11,
        DX_bl=lambda rid, visit: ["CN", "LMCI", "AD"][rid % 3],
        AGE=value(0),
        MMSE=lambda rid, visit: [29, 26, 21][rid % 3],
        DX=lambda rid, visit: ["CN", "MCI", "Dementia"][rid % 3],
        **dates,
    )
    summary = rows(
        [("v01", "sc"), ("v11", "m12")],
        DIAGNOSIS=lambda rid, visit: rid % 3 + 1 if rid < 120 else "",
        DXCHANGE=lambda rid, visit: [7, 2, 5][rid % 3] if 120 <= rid < 140 else -4,
        DXCURREN=lambda rid, visit: rid % 3 + 1 if rid >= 140 else -4,
        **dates,
    )
    mri = rows(
        [("v02", "scmri"), ("v11", "m12")],
        IMAGEUID=lambda rid, visit: 5 * rid,
        RUNDATE=lambda rid, visit: "2013-02-02",
        STATUS=lambda rid, visit: "complete",
        OVERALLQC=lambda rid, visit: "Pass",
        IMAGETYPE=lambda rid, visit: "Non-Accelerated T1",
        ST29SV=value(2.0),
        ST88SV=value(1.5),
        ST24CV=value(1.0),
        ST8SV=lambda rid, visit: "",
        **dates,
    )
    pet = rows(
        [("bl", "bl"), ("v11", "m12")], MEAN=value(1.5), STDEV=value(0.5), TOTVOX=lambda rid, visit: 300, **dates
    )
    regions = [pet.assign(ROINAME=name, MEAN=pet["MEAN"] + k) for k, name in enumerate(("MetaROI", "Top50PonsVermis"))]
    csf = rows(
        [("bl", "bl"), ("v11", "m12")],
        PHASE=lambda rid, visit: "ADNI2",
        BATCH=lambda rid, visit: "UPENNBIOMK9",
        KIT=lambda rid, visit: 90,
        RUNDATE=lambda rid, visit: "2016-11-17",
        ABETA=lambda rid, visit: ">1700" if rid % 10 == 1 else round(float(drawn.normal(900, 100)), 1),
        TAU=lambda rid, visit: "<80" if rid % 10 == 4 else round(float(drawn.normal(200 + 60 * (rid % 3), 30)), 1),
        PTAU=value(2.0),
        COMMENT=lambda rid, visit: "",
        **dates,
    )
    genotype = pd.DataFrame({"RID": RIDS, "VISCODE": "sc", "GENOTYPE": drawn.choice(["3/3", "3/4", "2/3"], len(RIDS))})
    return {
        "ADNIMERGE.csv": merge.drop(columns="VISCODE2"),
        "DXSUM.csv": summary,
        "UCSFFSX51.csv": mri[mri["RID"] % 5 != 0],
        "UCBERKELEYFDG_8mm.csv": pd.concat(regions)[lambda frame: frame["RID"] % 4 != 0],
        "UPENNBIOMK9.csv": csf[csf["RID"] % 3 != csf["RID"] // 10 % 3],
        "APOERES.csv": genotype.assign(APVOLUME=10, APUSABLE=1, update_stamp="2016-08-01"),
    }


def write_adni(folder: Path) -> None:
    """Write the tables, every cell quoted as ADNI does."""
    folder.mkdir()
    for name, table in adni_tables().items():
        table.to_csv(folder / name, index=False, quoting=csv.QUOTE_ALL)
