"""A small grid: three synthetic views' study, its fields as axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

from kd.ablate.grid import Grid, make_grid
from kd.config import Study


@pytest.fixture
def small_grid(small_study: Callable[..., Study]) -> Callable[..., Grid]:
    """Return a maker of grids over the small study's fields; keywords change the study."""

    def make(axes: dict[str, list[Any]] | None = None, replicas: int = 128, **changes: Any) -> Grid:
        tree = asdict(small_study(**changes))
        return make_grid({**tree, "grid": axes or {}, "replicas": replicas})

    return make
