"""What `bench_training.py` needs other processes for: the same training in two of them, and the memory of a stack.

python scripts/timed_processes.py replicas|lightning|memory R

As a script it is one such process: it says `ready` once all is built and warm, then measures at every line it reads.
"""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

STATUS = Path("/proc/self/status")


class Worker:
    """A process that measures when told to.

    Args:
        kind: what it trains.
        replicas: how many students.
    """

    def __init__(self, kind: str, replicas: int) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), kind, str(replicas)]
        self.replicas = replicas
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()

    def tell(self) -> None:
        """Let it begin."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)

    def answer(self) -> str:
        """Wait for its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"bench: a process ended with status {self._process.wait()}; its errors are above")
        return line

    def end(self) -> None:
        """Close it and wait for its end."""
        self._process.communicate()


def two_processes_beside_one(replicas: int, pairs: int) -> dict[str, float]:
    """Say how many times more students two processes train in a second than one, stacked and under Lightning."""
    return {
        "two_processes_vs_one": _twofold("replicas", [replicas], [replicas] * 2, pairs),
        "two_half_stacks_vs_one": _twofold("replicas", [replicas], [replicas // 2] * 2, pairs),
        "two_processes_vs_one_lightning": _twofold("lightning", [1], [1, 1], pairs),
    }


def _twofold(kind: str, one: Sequence[int], two: Sequence[int], pairs: int) -> float:
    sides = [[Worker(kind, replicas) for replicas in side] for side in (one, two)]
    found = []
    for _ in range(pairs):
        alone, both = (_students_per_second(side) for side in sides)
        found.append(both / alone)
    for worker in (worker for side in sides for worker in side):
        worker.end()
    return statistics.median(found)


def _students_per_second(workers: Sequence[Worker]) -> float:
    """Let all begin at once; return the sum of their speeds."""
    for worker in workers:
        worker.tell()
    return sum(1 / float(worker.answer()) for worker in workers)


def memory_of_a_stack(replicas: int) -> dict[str, float]:
    """Return by how much a fit raises the largest size of a fresh process, per replica; nothing but on Linux."""
    if not STATUS.exists():
        return {}
    worker = Worker("memory", replicas)
    worker.tell()
    grown = float(worker.answer())
    worker.end()
    return {"memory_mb_per_replica": grown / replicas}


def _megabytes(field: str) -> float:
    """Return a size of this process's own: `getrusage` would begin with the largest size of the one that started it."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return float(line.split()[1]) / 1024


def _growth(measured: Callable[[int], float], steps: int) -> float:
    Path("/proc/self/clear_refs").write_text("5")  # the largest size so far is forgotten
    before = _megabytes("VmRSS")
    measured(steps)
    return _megabytes("VmHWM") - before


def main() -> None:
    kind, replicas = sys.argv[1], int(sys.argv[2])
    import bench_training  # sets the number of threads before torch is imported
    import torch

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    digits = bench_training.Digits(64)
    measured: Callable[[int], float] = digits.lightning if kind == "lightning" else digits.stack(replicas)
    steps = 10 * bench_training.STEPS if kind == "lightning" else bench_training.STEPS
    if kind != "memory":
        measured(steps)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(_growth(measured, steps) if kind == "memory" else measured(steps), flush=True)


if __name__ == "__main__":
    main()
