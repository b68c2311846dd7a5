"""What ADNI calls things: subjects, visits, diagnoses, dates, and the columns that are no features.

We have no access to ADNI's data: no file of it was seen, and no number here is ADNI's. Names and codes were read from
what is public:

- ADNI's own pages: the quick start guide, adni.loni.usc.edu/quick-start-guide-asset (`anatomy2.html`: RID, PTID, PHASE,
  VISCODE, VISCODE2; `diagnostic.html`: DXSUM, DIAGNOSIS; `domain.html`: GENOTYPE), the clinical FAQ (-4 not applicable
  or not collected, -1 confirmed missing), and the reference of its R package ADNIMERGE2, atri-biostats.github.io;
- `adnimerger()` of ADNI's R package ADNIMERGE: ROINAME, BATCH, IMAGETYPE, scmri as sc, one row per RID and VISCODE by
  OVERALLQC and the latest RUNDATE; and `csf2numeric`, which reads `>1700` at the limit;
- TADPOLE, github.com/noxtoby/TADPOLE (`TADPOLE_D1.m`, `TADPOLE_D1_D2.py`): joins by RID and VISCODE2, only rows whose
  OVERALLQC is Pass, the latest RUNDATE, screening as baseline where there is no row of the baseline, the codes of
  DXCHANGE and DXCURREN;
- Clinica's adni-to-bids, github.com/aramis-lab/clinica (`clinica/converters/adni_to_bids`): VISCODE2 of DXSUM,
  DIAGNOSIS 1, 2, 3 as CN, MCI, AD, DX as CN, MCI, Dementia, screening as the baseline of ADNI3.

Keys, diagnoses, visits and codes are in at least two of them. Where a file has columns that none of them mentions,
`drop` leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

SUBJECT = "RID"
"""The roster id: a whole number, the same in all tables and phases."""
VISITS = ("VISCODE2", "VISCODE")
"""Columns of visit codes; VISCODE2 is translated to one schedule for all phases and goes first, cell by cell."""
BASELINE = "bl"
SCREENING = ("sc", "scmri")
"""Visits before the baseline whose measurements are the baseline's."""
REGIONS = ("ROINAME", "ROILAT")
"""Columns that name a region of the brain, in tables with a row per region."""

CLASSES = ("NC", "MCI", "AD")
"""Cognitively normal, mild cognitive impairment, dementia."""
DIAGNOSES = ("DX", "DIAGNOSIS", "DXCHANGE", "DXCURREN")
"""Columns that hold a visit's diagnosis; the first that is filled counts: which one is, depends on file and phase."""
WORDS = {"CN": "NC", "NL": "NC", "MCI": "MCI", "Dementia": "AD", "AD": "AD"}
STATES: Mapping[float, str] = {1: "NC", 2: "MCI", 3: "AD"}
CHANGES: Mapping[float, str] = {**STATES, 4: "MCI", 5: "AD", 6: "AD", 7: "NC", 8: "MCI", 9: "NC"}
"""DXCHANGE: 1 to 3 stable, 4 NL to MCI, 5 MCI to AD, 6 NL to AD, 7 MCI to NL, 8 AD to MCI, 9 AD to NL."""

MISSING = (-4, -1)
"""Numbers that stand for an empty cell."""
PASSED: Mapping[str, Sequence[str]] = {"OVERALLQC": ("Pass",), "qc_flag": ("2",)}
"""Column -> what rows must hold there, where the table has it and nothing else is asked for."""
PREFERRED: Mapping[str, Sequence[str]] = {
    "OVERALLQC": ("Pass", "Partial"),
    "qc_flag": ("2", "1"),
    "IMAGETYPE": ("Non-Accelerated T1",),
    "BATCH": ("MEDIAN",),
}
"""Column -> what the row holds that is read where a visit has several, best first."""
DATES = (
    "EXAMDATE",
    "SCANDATE",
    "VISDATE",
    "DRAWDATE",
    "DRAWDTE",
    "RUNDATE",
    "PROCESSDATE",
    "VERSION",
    "update_stamp",
)
"""Columns of dates; where a visit has several rows, the last by the first of these is read, then by the second, ..."""

WORDY = ("GENOTYPE",)
"""Columns of words that are features; any other column of words is left out unless it is named."""
TELLING = ("DX*", "DIAGNOSIS")
"""Columns that are a diagnosis; no network may see them."""
TESTS = (
    *("CDR*", "CDGLOBAL", "CDMEMORY", "CDORIENT", "CDJUDGE", "CDCOMMUN", "CDHOME", "CDCARE"),
    *("MMSE*", "MMSCORE", "ADAS*", "TOTSCORE", "TOTAL11", "TOTAL13", "TOTALMOD", "MOCA*", "FAQ*", "Ecog*", "mPACC*"),
    *("RAVLT*", "LDELTOTAL*", "LIMMTOTAL", "DIGITSCOR*", "TRABSCOR*", "TRAASCOR*"),
)
"""Columns of tests that the diagnosis rests on; they are features only where they are named."""
ADMINISTRATIVE = (
    *(
        SUBJECT,
        "PTID",
        *VISITS,
        "ID",
        "SITE",
        "SITEID",
        "Phase",
        "PHASE",
        "COLPROT",
        "ORIGPROT",
        "VID",
        "GUSPECID",
        "SPID",
    ),
    *(*DATES, "EXAMDATE_bl", "USERDATE", "USERDATE2", "APTESTDT", "Years_bl", "Month", "Month_bl", "M"),
    *("LONISID", "LONIUID", "IMAGEUID*", "UID", "IMAGETYPE", "TRACER", "FLDSTRENG*", "FSVERSION*", *REGIONS),
    *("*QC", "qc_flag", "HAS_QC_ERROR", "STATUS", "COMMENT", "BATCH", "KIT", "STDS"),
    *("DD_CRF_VERSION_LABEL", "LANGUAGE_CODE", "APVOLUME", "APRECEIVE", "APAMBTEMP", "APRESAMP", "APUSABLE"),
)
"""Columns that say whose, when, where and how, but not what was measured."""


def matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that any pattern matches, as file names on a command line; case counts.

    >>> matching(["ST29SV", "ST29QC", "DX_bl"], ["ST*SV", "DX*"])
    ['ST29SV', 'DX_bl']
    """
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
