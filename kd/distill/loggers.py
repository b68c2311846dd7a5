"""Loggers of a training by name: CSV, TensorBoard, W&B, MLflow; each gets the same values at the same steps."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from pytorch_lightning.loggers import Logger

from kd.distill import LOGGERS
from kd.errors import ConfigError
from kd.importing import argument_faults, in_words
from kd.record import runs_root
from kd.registry import suggest

NEEDS: Mapping[str, str] = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
"""Logger -> the package it writes with."""
HANDS_ON: Mapping[str, str] = {"tensorboard": "torch.utils.tensorboard:SummaryWriter", "wandb": "wandb:init"}
"""Logger -> who gets the arguments that it does not know itself."""


def parts_of(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return label -> `{name: csv, ...}` for every logger that `trainer:` names.

    Accepted are `logger: csv`, `logger: {name: csv, ...}`, and for several `loggers: {csv: {}, tensorboard: {...}}`,
    where a label is the name unless `name` says another.

    Raises:
        ConfigError: another form.
    """
    one, several = settings.get("logger", False), settings.get("loggers", {})
    if isinstance(one, str):
        one = {"name": one}
    if one is not False and not (isinstance(one, Mapping) and "name" in one):
        raise ConfigError(
            f"trainer.logger: expected false, a name or {{name: csv, ...}}, got {one!r}; {suggest('', LOGGERS)}"
        )
    if isinstance(several, Sequence) and not isinstance(several, str):
        several = {name: {} for name in several}
    if not isinstance(several, Mapping) or not all(isinstance(part or {}, Mapping) for part in several.values()):
        raise ConfigError(
            f"trainer.loggers: expected a mapping, as in {{csv: {{}}, wandb: {{offline: true}}}}, got {several!r}"
        )
    found = {str(label): {"name": label, **(part or {})} for label, part in several.items()}
    return found | ({"logger": dict(one)} if one else {})


def logger_faults(settings: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every logger that is unknown, not installed, or given an argument it does not take."""
    try:
        parts = parts_of(settings)
    except ConfigError as error:
        return error.faults
    found = []
    for label, part in parts.items():
        where, name = _where(label), part["name"]
        if name not in LOGGERS:
            found.append(f"{where}: unknown logger {name!r}; {suggest(str(name), LOGGERS)}")
        elif name in NEEDS and find_spec(NEEDS[name]) is None:
            found.append(f"{where}: {name} is not installed; pip install {NEEDS[name]}")
        else:
            found += _argument_faults(name, _arguments(name, part, "a run"), where)
    return found


def _argument_faults(name: str, arguments: Mapping[str, Any], where: str) -> list[str]:
    """Check a logger's arguments, and those that it hands on, against the signature of who takes them."""
    logger = LOGGERS[name].load()
    if name not in HANDS_ON:
        return argument_faults(logger, arguments, where)
    module, _, taker = HANDS_ON[name].partition(":")
    own = inspect.signature(logger).parameters
    further = {key: value for key, value in arguments.items() if key not in own}
    return argument_faults(logger, {key: arguments[key] for key in arguments if key in own}, where) + argument_faults(
        getattr(importlib.import_module(module), taker), further, where
    )


def make_loggers(settings: Mapping[str, Any], run: str) -> list[Logger]:
    """Open every logger that `trainer:` names.

    Args:
        settings: `trainer:`, without faults.
        run: what is trained, in words; each logger shows it as its run's name.

    Raises:
        ConfigError: one cannot be opened: no server, no permission, an argument it refuses.
    """
    made = []
    for label, part in parts_of(settings).items():
        try:
            logger = LOGGERS[part["name"]].load()(**_arguments(part["name"], part, run))
            # Opened now, where a fault costs nothing, and not after the first steps.
            assert logger.experiment is not None
        except Exception as error:  # each has errors of its own
            raise ConfigError(f"{_where(label)}: {in_words(error)}") from None
        made.append(logger)
    return made


def close_loggers(loggers: Sequence[Logger]) -> None:
    """End every run, so that the next node's is a new one."""
    for logger in loggers:
        finish = getattr(getattr(logger, "experiment", None), "finish", None)
        if callable(finish):
            finish()


def _arguments(name: str, part: Mapping[str, Any], run: str) -> dict[str, Any]:
    given = {key: value for key, value in part.items() if key != "name"}
    folder = str(runs_root() / "logs" / name)
    if name == "mlflow":
        return {"experiment_name": "kd", "run_name": run, "save_dir": folder, **given}
    if name == "wandb":
        return {"project": "kd", "name": run, "save_dir": folder, **given}
    return {"save_dir": folder, "name": run.replace(" ", "-"), **given}


def _where(label: str) -> str:
    return "trainer.logger" if label == "logger" else f"trainer.loggers.{label}"
