"""A source that words, a vector and a picture each tell alone, and baselines fitted on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kd.baselines import BASELINES
from kd.baselines.baseline import Baseline
from kd.data.columns import Texts
from kd.data.source import Source
from kd.distill.view import subsets

NAMES = ["red apple", "green pear", "blue sky"]
TRAIN, VALIDATION, TEST = torch.arange(60), torch.arange(60, 75), torch.arange(75, 90)


def mixed() -> Source:
    """Return 90 rows of three classes, of which every modality tells all."""
    label = torch.arange(90) % 3
    generator = torch.Generator().manual_seed(0)
    pictures = (label * 80).view(-1, 1, 1, 1) + torch.randint(0, 20, (90, 3, 8, 8), generator=generator)
    inputs = {
        "words": Texts([NAMES[k] for k in label.tolist()]),
        "vector": torch.nn.functional.one_hot(label, 3).float() + 0.1 * torch.randn(90, 3, generator=generator),
        "picture": pictures.to(torch.uint8),
    }
    source = Source("mixed", inputs, label, 3)
    return source.prepare(dict.fromkeys(source.modalities, TRAIN))


@pytest.fixture
def source() -> Source:
    return mixed()


@pytest.fixture
def fitted() -> Callable[..., Baseline]:
    """Return a maker of baselines, fitted on the first 60 rows."""

    quick = {
        "logistic": {"penalties": [1.0]},
        "stacked": {"penalties": [1.0], "folds": 2},
        "boosting": {"iterations": 10},
    }

    def make(name: str, source: Source, sees: list[str] | None = None, available: Tensor | None = None, **own: Any):
        shown = source.observed if available is None else available
        settings = {"components": 3, "pixels": 8, "copies": 2, **quick[name], **own}
        seen = source.modalities if sees is None else sees
        baseline = BASELINES.build({"name": name, **settings})
        return baseline.fit(source, seen, TRAIN, shown, VALIDATION, judged=subsets(seen))

    return make
