"""Passes one after another, each into its own folder, with the time and memory each took."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kd.compress import PASSES
from kd.compress.package import Context, Kind, Package
from kd.errors import ConfigError, StorageError
from kd.evaluate.cost import torch_threads
from kd.parsing import name_fault


class Pass(Protocol):
    """What an entry of `PASSES` builds."""

    stage: str
    takes: Kind
    gives: Kind

    def __call__(self, package: Package, context: Context, folder: Path) -> Package:
        """Return a new package in `folder`; the input stays byte-identical."""
        ...


@dataclass(frozen=True)
class StageResult:
    """One row of the stage table.

    Attributes:
        stage: its key in the config.
        package: what it made.
        seconds: wall clock.
        peak_mb: peak resident memory during the stage (of the process so far, where the system cannot say).
        parity: greatest difference of logits, relative to their scale; None where there is nothing to equal. Pruned:
            to the original with those channels zeroed; onnx: to the network; int8: to the float graph, no promise.
        notes: what was left undone, in words.
    """

    stage: str
    package: Package
    seconds: float
    peak_mb: float
    parity: float | None = None
    notes: list[str] = field(default_factory=list)


def compress(
    package: Package,
    passes: Mapping[str, Mapping[str, Any]],
    context: Context,
    folder: Path,
    report: Callable[[str, float | None], None] = lambda stage, seconds: None,
) -> list[StageResult]:
    """Apply passes in the order of the mapping; `folder/<stage>` holds each result.

    Args:
        package: the student.
        passes: stage -> part.
        context: training rows, fit, seed, threads.
        folder: parent of the stages' folders.
        report: called with (stage, None) when a stage starts and (stage, seconds) when it ends.

    Raises:
        ConfigError: every fault of the passes and of their order, before anything runs.
        KDError: a pass refused; the stages before it stay.
    """
    found = faults(passes, package.kind)
    if found:
        raise ConfigError(found)
    results: list[StageResult] = []
    for stage, part in passes.items():
        report(stage, None)
        result = _run(stage, PASSES.build(part, where=f"passes.{stage}"), package, context, folder / stage)
        report(stage, result.seconds)
        results.append(result)
        package = result.package
    return results


def faults(passes: Mapping[str, Mapping[str, Any]], kind: Kind = "torch") -> list[str]:
    """Return every fault of a dictionary of passes: unknown parts and arguments, and an order that cannot work.

    >>> faults({"int8": {"name": "static_int8"}})
    ['passes.int8: static_int8 takes a package of kind onnx, got torch; put onnx before it']
    """
    found: list[str] = []
    if not passes:
        found.append("passes: expected at least one pass")
    for stage, part in passes.items():
        if (fault := name_fault(stage, "passes")) is not None:
            found.append(fault)
            continue
        if stage == "float":
            found.append("passes.float: this name is the uncompressed student's; choose another")
        where = f"passes.{stage}"
        own = PASSES.faults(part, where)
        found += own
        if own:
            continue
        factory: Any = PASSES[part["name"]].load()
        if factory.takes != kind:
            order = "put onnx before it" if factory.takes == "onnx" else "put it before onnx"
            found.append(f"{where}: {part['name']} takes a package of kind {factory.takes}, got {kind}; {order}")
        kind = factory.gives
    return found


def _run(stage: str, pass_: Pass, package: Package, context: Context, folder: Path) -> StageResult:
    _reset_peak()
    start = time.perf_counter()
    if folder.resolve() == package.folder.resolve():
        raise StorageError(f"{folder}: is the package to compress; name another folder")
    with torch_threads(context.threads):
        made = pass_(package, context, folder)
    seconds = time.perf_counter() - start
    evidence = made.evidence
    return StageResult(stage, made, seconds, _peak_mb(), evidence.get("parity_max"), list(evidence.get("notes", [])))


def _reset_peak() -> None:
    """Let Linux count the resident peak anew; elsewhere it stays the peak of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_mb() -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
