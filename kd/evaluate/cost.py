"""What an answer costs: parameters, multiply-accumulates, bytes on disk, and time as a ratio to a reference.

Milliseconds move with the machine's mood; a ratio of neighbours in time does not, so all predictors take turns.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kd.errors import KDError
from kd.evaluate.predictor import Predictor

WARM_UP = 10


def parameters(model: nn.Module) -> int:
    """Return the number of parameters.

    >>> parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def macs(model: nn.Module, inputs: Mapping[str, Tensor], present: Tensor) -> int:
    """Return multiply-accumulates per sample in matrix products and convolutions; elementwise work is not counted."""
    with FlopCounterMode(display=False) as counter:
        model(inputs, present)
    return counter.get_total_flops() // (2 * len(present))


def bytes_on_disk(path: Path) -> int:
    """Return the size of a file, or of all files below a folder, in bytes."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def latency(
    predictors: Mapping[str, Predictor],
    example: tuple[Mapping[str, Any], Any],
    repeats: int = 200,
    *,
    threads: int = 1,
) -> dict[str, dict[str, float]]:
    """Time predictors in turn on one batch; the first is the reference.

    Every round calls each once, every second round in reverse order. `ratio` is the median over rounds of
    `own time / the reference's time in the same round`: 0.5 takes half as long.

    Args:
        predictors: name -> predictor; ONNX sessions keep the threads they were opened with.
        example: (inputs, present) of the batch.
        repeats: rounds after the warm-up.
        threads: torch's, during the measurement; restored afterwards.

    Returns:
        name -> median_ms, p95_ms, ratio, batch (rows), threads.

    Raises:
        KDError: nothing to time.
    """
    if not predictors or repeats < 1:
        raise KDError(f"latency: expected predictors and repeats >= 1, got {len(predictors)} and {repeats}")
    inputs, present = example
    with torch_threads(threads):
        seconds = _take_turns(predictors, inputs, present, repeats)
    reference = seconds[next(iter(predictors))]
    return {
        name: {
            "median_ms": float(np.median(own)) * 1e3,
            "p95_ms": float(np.percentile(own, 95)) * 1e3,
            "ratio": float(np.median(own / reference)),
            "batch": len(present),
            "threads": getattr(predictors[name], "threads", threads),
        }
        for name, own in seconds.items()
    }


def _take_turns(
    predictors: Mapping[str, Predictor], inputs: Mapping[str, Any], present: Any, repeats: int
) -> dict[str, np.ndarray[Any, Any]]:
    names = list(predictors)
    seconds = {name: np.empty(repeats) for name in names}
    for name in names * WARM_UP:
        predictors[name](inputs, present)
    for turn in range(repeats):
        for name in names if turn % 2 == 0 else reversed(names):
            start = time.perf_counter()
            predictors[name](inputs, present)
            seconds[name][turn] = time.perf_counter() - start
    return seconds


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Pin torch's threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
