"""Randomness as a function of (seed, name, epoch, step): so that YAML order and restarts change no bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def derive(seed: int, *path: object) -> int:
    """Return an independent 63-bit seed for one use of randomness.

    >>> derive(0, "mask", "fou") == derive(0, "mask", "fou") != derive(0, "mask", "zer")
    True
    """
    text = "/".join([str(seed), *map(str, path)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *path: object) -> torch.Generator:
    """Return a CPU generator seeded by `derive`."""
    return torch.Generator().manual_seed(derive(seed, *path))


@contextmanager
def noise(seed: int, *path: object) -> Iterator[None]:
    """Run a block under its own global random state and restore the caller's afterwards."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        # Not torch.manual_seed, which without a GPU keeps a formatted traceback of every call for the day one starts.
        torch.default_generator.manual_seed(derive(seed, *path))
        if devices:
            torch.cuda.manual_seed(derive(seed, *path))
        yield


def initialise(model: nn.Module, seed: int) -> nn.Module:
    """Draw every submodule's parameters from (seed, its path), whatever order it was built in.

    Modules that own parameters must have `reset_parameters`, as torch's layers do. One whose `initialises_children` is
    true draws all that is below it at once, as networks of other libraries need.

    Raises:
        TypeError: a module owns parameters but has no `reset_parameters`.
    """
    drawn: list[str] = []
    for path, module in model.named_modules():
        if path.startswith(tuple(drawn)):
            continue
        whole = getattr(module, "initialises_children", False)
        if not whole and not any(True for _ in module.parameters(recurse=False)):
            continue
        if not callable(getattr(module, "reset_parameters", None)):
            raise TypeError(f"{path or type(module).__name__}: owns parameters but has no reset_parameters()")
        with noise(seed, "init", path):
            module.reset_parameters()
        if whole:
            drawn.append(f"{path}." if path else "")
    return model
