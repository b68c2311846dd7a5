"""Passes one after another, each from a model to a new one, with the time and memory it took."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kd.compress import PASSES
from kd.compress.context import Context, Evidence, Kind, Model, Pass, kind_of
from kd.compress.plain import Arguments, Plain, as_network
from kd.compress.rows import Rows
from kd.errors import ConfigError
from kd.evaluate.cost import torch_threads
from kd.parsing import name_fault
from kd.registry import suggest

FLOAT = "float"
"""What is not compressed, as a stage."""
Parts = Mapping[str, Mapping[str, Any]]
"""Stage -> part, in the order in which they are applied."""


@dataclass(frozen=True)
class Stage:
    """What one pass made.

    Attributes:
        name: its key in the config.
        model: a network, or a graph where it exported.
        evidence: what the pass measured. `parity_max` is the greatest difference of logits, relative to their scale:
            pruned, to the original with those channels zeroed; qat, to the network before, and no promise; onnx, to the
            network; int8, to the float graph, and no promise.
        seconds: wall clock.
        peak_mb: peak resident memory during the pass (of the process so far, where the system cannot say).
    """

    name: str
    model: Model
    evidence: Evidence
    seconds: float
    peak_mb: float


def compress(
    model: Model,
    rows: Rows | Arguments,
    passes: Parts,
    *,
    task: str | None = None,
    fit: Callable[[nn.Module], nn.Module] | None = None,
    losses: Callable[[nn.Module], Iterator[Tensor]] | None = None,
    seed: int = 0,
    threads: int = 1,
    report: Callable[[str, float | None], None] = lambda stage, seconds: None,
) -> list[Stage]:
    """Apply passes in the order of the mapping, each to what the one before made; the model given stays as it is.

    A part with `of: STAGE` is applied to what that stage made instead, or to the model given with `of: float`.

    Args:
        model: a network of ours, or any module from tensors to logits; an `onnx.ModelProto` for passes on graphs.
        rows: training rows, the only ones passes see; for a module that is none of ours, arguments of its forward.
        passes: stage -> part.
        task: by default the network's own.
        fit: see `Context`.
        losses: see `Context`.
        seed: of every draw.
        threads: of torch and of sessions.
        report: called with (stage, None) when a stage starts and (stage, seconds) when it ends.

    Raises:
        ConfigError: every fault of the passes and of their order, before anything runs.
        KDError: a pass refused.

    >>> import torch
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> (pruned,) = compress(network, torch.randn(64, 6), {"pruned": {"name": "structured", "macs": 0.5}})
    >>> pruned.model[0], network[0].out_features
    (Linear(in_features=6, out_features=8, bias=True), 16)
    """
    found = faults(passes, kind_of(model))
    if found:
        raise ConfigError(found)
    if isinstance(model, nn.Module):
        model, rows = as_network(model, rows)
    context = Context(rows, task or getattr(model, "task", None), fit, losses, seed, threads)  # type: ignore[arg-type]
    made: dict[str, Stage] = {}
    for name, (source, part) in routes(passes).items():
        report(name, None)
        made[name] = apply(name, part, model if source == FLOAT else made[source].model, context)
        report(name, made[name].seconds)
    return [_unwrapped(stage) for stage in made.values()]


def apply(name: str, part: Mapping[str, Any], model: Model, context: Context) -> Stage:
    """Apply one pass, and see what it takes.

    Args:
        name: of the stage.
        part: the pass.
        model: of the kind that the pass takes.
        context: rows and what else it may use.

    Raises:
        KDError: the pass refused.
    """
    pass_: Pass = PASSES.build(part, where=f"passes.{name}")
    _reset_peak()
    start = time.perf_counter()
    with torch_threads(context.threads):
        made, evidence = pass_(model, context)
    return Stage(name, made, evidence, time.perf_counter() - start, _peak_mb())


def routes(passes: Parts) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return stage -> the stage it starts from, and its part.

    >>> routes({"small": {"name": "structured"}, "graph": {"name": "onnx", "of": "float"}})
    {'small': ('float', {'name': 'structured'}), 'graph': ('float', {'name': 'onnx'})}
    """
    found, before = {}, FLOAT
    for stage, part in passes.items():
        own = {key: value for key, value in part.items() if key != "of"}
        found[stage], before = (part.get("of", before), own), stage
    return found


def faults(passes: Parts, kind: Kind = "torch") -> list[str]:
    """Return every fault of a dictionary of passes: unknown parts and arguments, and an order that cannot work.

    >>> faults({"int8": {"name": "static_int8"}})
    ['passes.int8: static_int8 takes a model of kind onnx, got torch; put onnx before it']
    """
    found: list[str] = []
    if not passes:
        found.append("passes: expected at least one pass")
    not_parts = [stage for stage, part in passes.items() if not isinstance(part, Mapping)]
    for stage in not_parts:
        found += PASSES.faults(passes[stage], f"passes.{stage}")
    kinds: dict[str, Kind] = {FLOAT: kind}
    for stage, (source, part) in routes({k: v for k, v in passes.items() if k not in not_parts}).items():
        where = f"passes.{stage}"
        if (fault := name_fault(stage, "passes")) is not None:
            found.append(fault)
            continue
        if stage == FLOAT:
            found.append(f"passes.{FLOAT}: this name is the uncompressed student's; choose another")
        own = PASSES.faults(part, where)
        found += own
        if own:
            kinds[stage] = kinds.get(source, kind)
            continue
        factory: Any = PASSES[part["name"]].load()
        if source not in kinds:
            found.append(f"{where}.of: no stage {source!r} before it; {suggest(str(source), kinds)}")
        elif factory.takes != kinds[source]:
            order = "put onnx before it" if factory.takes == "onnx" else "put it before onnx"
            found.append(f"{where}: {part['name']} takes a model of kind {factory.takes}, got {kinds[source]}; {order}")
        kinds[stage] = factory.gives
    return found


def _unwrapped(stage: Stage) -> Stage:
    """Hand a module that is none of ours back as it came."""
    if not isinstance(stage.model, Plain):
        return stage
    return Stage(stage.name, stage.model.module, stage.evidence, stage.seconds, stage.peak_mb)


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
