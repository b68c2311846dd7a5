"""`trainer:` of a config: every argument of `pytorch_lightning.Trainer` but those that a study decides itself."""

from __future__ import annotations

import logging
import typing
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import callbacks as lightning_callbacks

from kd.distill.loggers import logger_faults
from kd.distill.module import PRECISIONS, SCORE
from kd.errors import ConfigError
from kd.importing import argument_faults, import_class, import_digest, in_words
from kd.record import runs_root
from kd.registry import fits, keywords, spell, suggest

ELSEWHERE: Mapping[str, str] = {
    "max_epochs": "set nodes.NAME.steps; training is counted in steps",
    "max_steps": "set nodes.NAME.steps",
    "min_epochs": "set nodes.NAME.steps",
    "min_steps": "set nodes.NAME.steps",
    "max_time": "set nodes.NAME.steps; a result must not depend on the clock",
    "fast_dev_run": "set nodes.NAME.steps and validate_every to a few",
    "check_val_every_n_epoch": "set nodes.NAME.validate_every",
    "val_check_interval": "set nodes.NAME.validate_every",
    "num_sanity_val_steps": "validation rows are read every validate_every steps only",
    "enable_checkpointing": "kd keeps the weights that nodes.NAME.select names, and resumes what was stopped",
    "default_root_dir": "set the environment variable KD_RUNS",
    "overfit_batches": "use limit_train_batches",
    "limit_val_batches": "every validation row counts; set split.validation",
    "use_distributed_sampler": "kd's batches are shared between processes as they are",
    "reload_dataloaders_every_n_epochs": "a study's rows stay the same",
    "barebones": "kd watches validation rows",
    "plugins": "it takes objects; train with a plain Trainer in Python",
    "num_nodes": "a study trains on one device; see docs/lightning.md for several",
}
"""Arguments that are not for `trainer:`, and what to do instead."""

UNDECIDING = (
    "logger",
    "loggers",
    "log_every_n_steps",
    "enable_progress_bar",
    "enable_model_summary",
    "enable_autolog_hparams",
    "model_registry",
    "profiler",
)
"""What changes no result, and so no content address."""

OUR_DEFAULTS: Mapping[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def trainer_faults(settings: Mapping[str, Any]) -> list[str]:
    """Return every fault of `trainer:`: names, types, what is set elsewhere, and what Lightning itself refuses."""
    known = {name: p for name, p in keywords(pl.Trainer).items() if name not in ELSEWHERE}
    hints = typing.get_type_hints(pl.Trainer.__init__)
    found = []
    for key, value in settings.items():
        if key in ELSEWHERE:
            found.append(f"trainer.{key}: not set here; {ELSEWHERE[key]}")
        elif key in ("logger", "loggers", "callbacks"):
            continue
        elif key not in known:
            found.append(f"trainer.{key}: unknown argument; {suggest(str(key), [*known, 'loggers'])}")
        elif not fits(value, hints[key]):
            found.append(f"trainer.{key}: expected {spell(hints[key])}, got {value!r}")
    found += logger_faults(settings) + callback_faults(settings.get("callbacks", {}))
    if not found:
        try:
            make_trainer(settings)
        except ConfigError as error:
            found += error.faults
    return found


def callback_faults(parts: Any) -> list[str]:
    """Return every fault of `trainer.callbacks`: label -> `{name: EarlyStopping, ...}` or `{import: module:Class}`."""
    where = "trainer.callbacks"
    if not isinstance(parts, Mapping):
        return [f"{where}: expected a mapping, label -> {{name: EarlyStopping, ...}}, got {parts!r}"]
    found = []
    for label, part in parts.items():
        try:
            factory, arguments = _callback(part, f"{where}.{label}")
        except ConfigError as error:
            found += error.faults
        else:
            found += argument_faults(factory, arguments, f"{where}.{label}")
            if not any("import" in (other or {}) for other in parts.values()):  # one's own may log what it likes
                found += _monitor_faults(arguments.get("monitor", SCORE), f"{where}.{label}.monitor")
    return found


def _monitor_faults(monitor: Any, where: str) -> list[str]:
    logged = (SCORE, "validation_loss", "train_loss")
    # `train/edge/NAME` and `train/supervised` are there as well, where a node has edges.
    if monitor is None or monitor in logged or str(monitor).startswith("train/"):
        return []
    return [f"{where}: nothing of that name is logged, {monitor!r}; {suggest(str(monitor), logged)}"]


def _callback(part: Any, where: str) -> tuple[Any, dict[str, Any]]:
    if not isinstance(part, Mapping) or ("name" in part) == ("import" in part):
        raise ConfigError(f"{where}: expected {{name: EarlyStopping, ...}} or {{import: module:Class}}, got {part!r}")
    arguments = {key: value for key, value in part.items() if key not in ("name", "import")}
    if "import" in part:
        return import_class(part["import"], pl.Callback, f"{where}.import"), arguments
    known = [name for name in lightning_callbacks.__all__ if name != "Callback"]
    if part["name"] not in known:
        raise ConfigError(f"{where}.name: unknown callback {part['name']!r}; {suggest(str(part['name']), known)}")
    return getattr(lightning_callbacks, part["name"]), arguments


def make_callbacks(settings: Mapping[str, Any]) -> list[pl.Callback]:
    """Build the callbacks that `trainer:` names.

    Raises:
        ConfigError: one cannot be built.
    """
    made = []
    for label, part in settings.get("callbacks", {}).items():
        factory, arguments = _callback(part, f"trainer.callbacks.{label}")
        try:
            made.append(factory(**arguments))
        except Exception as error:  # each checks its arguments in its own way
            raise ConfigError(f"trainer.callbacks.{label}: {in_words(error)}") from None
    return made


def make_trainer(
    settings: Mapping[str, Any], *, callbacks: Sequence[pl.Callback] = (), loggers: Sequence[Any] = (), epochs: int = 1
) -> pl.Trainer:
    """Return the trainer of one node: `trainer:` with what a study decides itself.

    Args:
        settings: `trainer:`, without faults.
        callbacks: ours; the last of them, which writes checkpoints, comes after the user's own.
        loggers: ready.
        epochs: rounds of `validate_every` steps.

    Raises:
        ConfigError: Lightning refuses the settings, or they ask for more than one device.
    """
    ours = {key: value for key, value in settings.items() if key not in ("logger", "loggers", "callbacks")}
    every = [*callbacks[:-1], *make_callbacks(settings), *callbacks[-1:]]
    with quiet():
        try:
            trainer = pl.Trainer(
                **{**OUR_DEFAULTS, **ours},
                callbacks=every,
                logger=list(loggers),
                max_epochs=epochs,
                enable_checkpointing=any(isinstance(each, lightning_callbacks.Checkpoint) for each in every),
                num_sanity_val_steps=0,
                default_root_dir=str(runs_root()),
            )
        except Exception as error:  # its own classes share no base
            raise ConfigError(f"trainer: {in_words(error)}") from None
    if trainer.world_size > 1:
        raise ConfigError(
            f"trainer.devices: a study trains on one device, got {trainer.world_size}; distil on several with "
            "scripts/distill_student.py"
        )
    if str(trainer.precision) not in PRECISIONS:
        raise ConfigError(f"trainer.precision: expected one of {', '.join(PRECISIONS)}, got {trainer.precision!r}")
    return trainer


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of `trainer:` enters a content address: no loggers, bars, profilers; an `auto` device by its name."""
    found = {key: value for key, value in settings.items() if key not in UNDECIDING}
    if "accelerator" in found:
        found["accelerator"] = type(make_trainer(settings).accelerator).__name__
    parts = found.get("callbacks", {})
    imported = {label: import_digest(p["import"], pl.Callback) for label, p in parts.items() if "import" in p}
    return found | ({"imported": imported} if imported else {})


class quiet(warnings.catch_warnings):
    """Silence Lightning's advice on settings that were chosen on purpose."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
