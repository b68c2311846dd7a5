"""Sources, splits and availability masks: what a model is shown, and which rows it may be shown."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kd.data.sources import Sources
from kd.registry import Entry, Registry

if TYPE_CHECKING:
    from kd.data.leaks.audit import Audit as Audit
    from kd.data.mask import Mask as Mask
    from kd.data.masks import MaskRequest as MaskRequest
    from kd.data.masks import draw as draw
    from kd.data.module import DataModule as DataModule
    from kd.data.source import Source as Source
    from kd.data.splits import Split as Split
    from kd.data.splits import split as split

SOURCES = Sources(
    {
        "mfeat": Entry(
            "kd.data.mfeat:mfeat",
            "2000 handwritten digits in six feature views (76, 216, 64, 240, 47, 6)",
            "UCI Multiple Features, CC BY 4.0, doi:10.24432/C5HC70",
        ),
        "synthetic": Entry(
            "kd.data.synthetic:synthetic",
            "class-conditional Gaussians with shared and private features and a known Bayes accuracy",
            "ours",
        ),
        "emoji": Entry(
            "kd.data.emoji:emoji",
            "1906 emoji, a picture and words of each: 9 categories or, harder, 62 subcategories",
            "emoji-data 16.0.0 (MIT) with Twemoji's graphics, CC BY 4.0",
        ),
        "digits": Entry(
            "kd.data.digits:digits",
            "1797 handwritten digits of 8 x 8 pixels, the four quadrants of each, from scikit-learn's own files",
            "UCI Optical Recognition of Handwritten Digits, CC BY 4.0, doi:10.24432/C50P49",
        ),
        "avmnist": Entry(
            "kd.data.avmnist:avmnist",
            "spoken digits, each with a picture of the same digit, from your own files; a group is a speaker",
            "ours, of MNIST and the Free Spoken Digit Dataset: docs/avmnist.md",
        ),
        "table": Entry(
            "kd.data.table:table",
            "your own CSV, Parquet and NPZ files, folders of pictures and columns of text, tied together by ids",
            "docs/your-data.md",
        ),
        "stored": Entry(
            "kd.data.stored:stored",
            "a Hugging Face data set that save_to_disk wrote",
            "docs/your-data.md",
        ),
        "adni": Entry(
            "kd.data.adni.source:adni",
            "tables that an approved user downloads from ADNI: NC, MCI or AD at a visit from MRI, PET, CSF, genotype",
            "docs/adni.md",
        ),
    },
    nested={
        "table": "kd.data.table:faults",
        "stored": "kd.data.stored:faults",
        "adni": "kd.data.adni.source:faults",
    },
)
"""What `data:` in a config may name, and `{import: package.module:factory, ...}`."""

MECHANISMS = Registry(
    "mechanism",
    {
        "complete": Entry("kd.data.mechanisms.at_random:complete", "nothing is hidden", "ours"),
        "mcar": Entry(
            "kd.data.mechanisms.at_random:mcar",
            "each modality is hidden completely at random, at least one stays",
            "Rubin 1976, doi:10.1093/biomet/63.3.581",
        ),
        "pattern": Entry(
            "kd.data.mechanisms.dependent:pattern",
            "each row shows one pattern of modalities, drawn from a distribution over patterns",
            "Rubin 1976, doi:10.1093/biomet/63.3.581",
        ),
        "mar": Entry(
            "kd.data.mechanisms.dependent:mar",
            "modalities are hidden depending on a driver that is always observed",
            "Rubin 1976, doi:10.1093/biomet/63.3.581",
        ),
        "mnar": Entry(
            "kd.data.mechanisms.dependent:mnar",
            "modalities are hidden depending on what they hide, or on the label",
            "Rubin 1976, doi:10.1093/biomet/63.3.581",
        ),
        "block": Entry(
            "kd.data.mechanisms.sites:block",
            "all rows of a site lose a modality together",
            "Yuan et al. 2012, doi:10.1016/j.neuroimage.2012.03.059",
        ),
        "cells": Entry(
            "kd.data.mechanisms.within:cells", "single values inside modalities are hidden completely at random", "ours"
        ),
        "span": Entry(
            "kd.data.mechanisms.within:span",
            "each row loses a run of neighbouring features, or steps, of a modality",
            "ours",
        ),
        "unlabelled": Entry(
            "kd.data.mechanisms.labels:unlabelled",
            "labels of training rows are hidden, at a rate or all but so many",
            "ours",
        ),
        "joint": Entry("kd.data.mechanisms.joint:joint", "what any of several mechanisms hides is hidden", "ours"),
        "file": Entry(
            "kd.data.mechanisms.given:file",
            "who sees what is read from a Parquet file, ours or another group's",
            "ours",
        ),
        "severe": Entry(
            "kd.data.mechanisms.at_random:severe",
            "a few complete training rows, the rest with one modality each",
            "Wang et al., KDD 2020, doi:10.1145/3394486.3403234",
        ),
    },
    nested={"joint": "kd.data.mechanisms.joint:faults"},
)

_LAZY = {
    "Audit": "kd.data.leaks.audit",
    "DataModule": "kd.data.module",
    "Mask": "kd.data.mask",
    "MaskRequest": "kd.data.masks",
    "Source": "kd.data.source",
    "Split": "kd.data.splits",
    "draw": "kd.data.masks",
    "split": "kd.data.splits",
}


def load_source(name: str = "", **arguments: Any) -> Source:
    """Build a source by its name in `SOURCES`, with the keyword-only arguments of its factory.

    Args:
        name: of the source; none where `import="package.module:factory"` is among the arguments.
        arguments: the factory's.

    Raises:
        ConfigError: the name or an argument is unknown.
        DataError: its files are missing or damaged.

    >>> len(load_source("synthetic", rows=100))
    100
    """
    return SOURCES.build({"name": name, **arguments} if name or "import" not in arguments else arguments)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
