"""What each mechanism declares about why values are missing (Rubin 1976, doi:10.1093/biomet/63.3.581)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINDS = {
    "complete": "MCAR",
    "mcar": "MCAR",
    "pattern": "MCAR",
    "mar": "MAR",
    "mnar": "MNAR",
    "severe": "stratified",
    "file": "declared",
}
"""Mechanism -> MCAR, MAR or MNAR; `stratified`: by the labels of training rows, so that every class keeps its share;
`declared`: what the mask's argument of that name says."""

UNKNOWN = "unknown"
"""The kind of a mechanism that declares none."""


def kind_of(mechanism: str, parameters: Mapping[str, Any]) -> str:
    """Return MCAR, MAR, MNAR, stratified or unknown.

    >>> kind_of("mar", {}), kind_of("file", {"declared": "mcar"}), kind_of("file", {})
    ('MAR', 'MCAR', 'unknown')
    """
    kind = KINDS.get(mechanism, UNKNOWN)
    return (str(parameters.get("declared") or "").upper() or UNKNOWN) if kind == "declared" else kind
