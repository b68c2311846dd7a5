"""The data of every place of a grid (variant, seed, fold), loaded and drawn when asked for and kept while in use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from kd.config import Study
from kd.data.source import Source
from kd.distill.setting import Setting
from kd.record import digest
from kd.study.check import examined
from kd.study.replicate import setting_for

SOURCES, SETTINGS = 4, 512
"""How many are kept: variants of one data set share it, and those of a stack are built together."""


class Places:
    """Sources and settings by what decides them."""

    def __init__(self) -> None:
        self._sources: OrderedDict[str, Source] = OrderedDict()
        self._settings: OrderedDict[str, Setting] = OrderedDict()

    def source(self, study: Study) -> Source:
        """Return a study's data.

        Raises:
            ConfigError: they cannot be loaded, or tell the label.
        """
        return _kept(self._sources, digest(study.data), lambda: examined(study), SOURCES)

    def setting(self, study: Study, seed: int, fold: int) -> Setting:
        """Return the data side of one replicate."""
        key = digest([study.data, vars(study.split), study.mask, study.mask_seed, seed, fold])
        return _kept(self._settings, key, lambda: setting_for(study, self.source(study), seed, fold), SETTINGS)


def _kept(store: OrderedDict[str, Any], key: str, make: Callable[[], Any], most: int) -> Any:
    if key not in store:
        store[key] = make()
        if len(store) > most:
            store.popitem(last=False)
    store.move_to_end(key)
    return store[key]
