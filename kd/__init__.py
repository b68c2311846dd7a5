"""kd: knowledge distillation when modalities are missing.

Names are imported when first used, so that `import kd` and `kd --help` stay fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd.data import load_source as load_source
    from kd.data import masks as masks
    from kd.data.leaks.audit import Audit as Audit
    from kd.data.module import DataModule as DataModule
    from kd.data.source import Source as Source
    from kd.distill.loss import Edge as Edge
    from kd.distill.module import Distiller as Distiller
    from kd.distill.mutual import Mutual as Mutual
    from kd.distill.replicas import Replicas as Replicas
    from kd.distill.shown import AuditRows as AuditRows
    from kd.models.adapted import adapt as adapt
    from kd.models.classifier import Classifier as Classifier
    from kd.models.imported import Imported as Imported
    from kd.models.start import start_from as start_from
    from kd.networks import classifier as classifier
    from kd.objectives.kl import KL as KL
    from kd.types import Batch as Batch
    from kd.types import Modality as Modality
    from kd.types import Output as Output

__version__ = "0.1.0"

_EXPORTS = {
    "Audit": "kd.data.leaks.audit",
    "AuditRows": "kd.distill.shown",
    "Batch": "kd.types",
    "Classifier": "kd.models.classifier",
    "DataModule": "kd.data.module",
    "Distiller": "kd.distill.module",
    "Edge": "kd.distill.loss",
    "Imported": "kd.models.imported",
    "KL": "kd.objectives.kl",
    "Modality": "kd.types",
    "Mutual": "kd.distill.mutual",
    "Output": "kd.types",
    "Replicas": "kd.distill.replicas",
    "Source": "kd.data.source",
    "adapt": "kd.models.adapted",
    "classifier": "kd.networks",
    "load_source": "kd.data",
    "start_from": "kd.models.start",
}


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    if name == "masks":
        return importlib.import_module("kd.data.masks")
    raise AttributeError(f"module 'kd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_EXPORTS, "masks"]
