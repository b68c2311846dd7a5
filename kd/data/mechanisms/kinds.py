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
    "block": "MAR",
    "cells": "MCAR",
    "span": "MCAR",
    "unlabelled": "stratified",
    "joint": "joint",
    "file": "declared",
}
"""Mechanism -> MCAR, MAR or MNAR (`block` depends on the site, which is always observed); `stratified`: by the labels
of training rows, so that every class keeps its share; `joint`: as the mechanisms inside; `declared`: what the mask's
argument of that name says."""

STRENGTH = ("MCAR", "MAR", "stratified", "unknown", "MNAR")
"""Kinds from the one that asks least; of several mechanisms together the last one counts."""

UNKNOWN = "unknown"
"""The kind of a mechanism that declares none."""


def kind_of(mechanism: str, parameters: Mapping[str, Any]) -> str:
    """Return MCAR, MAR, MNAR, stratified or unknown.

    >>> kind_of("mar", {}), kind_of("file", {"declared": "mcar"}), kind_of("file", {})
    ('MAR', 'MCAR', 'unknown')
    >>> kind_of("joint", {"parts": {"a": {"name": "mcar"}, "b": {"name": "mnar"}}})
    'MNAR'
    """
    kind = KINDS.get(mechanism, UNKNOWN)
    if mechanism == "unlabelled" and parameters.get("labels") is None:
        return "MCAR"
    if kind == "joint":
        inside = [kind_of(part["name"], part) for part in parameters.get("parts", {}).values()]
        return max(inside, key=STRENGTH.index, default=UNKNOWN)
    return (str(parameters.get("declared") or "").upper() or UNKNOWN) if kind == "declared" else kind
