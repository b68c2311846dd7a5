"""Time what each objective and weighting adds to a step: a taught student beside the same one without a teacher.

python scripts/bench_objectives.py [--quick]

The student is KDD 2020's on three views of mfeat, alone and in a stack of 20 seeds where it stacks; teachers' answers
are cached, their representations asked anew, as in a study. An objective has one teacher, a weighting three. Every
figure is a ratio of two things measured in this run, in turn, one thread, and the median of the pairs; the last line is
one JSON object. Without --quick they go to docs/records, where `make docs` reads them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench_training import VIEWS, Digits, quiet, ratios  # it pins the threads before torch is imported
from keep_records import keep_bench

import kd
from kd.distill.teachers import Frozen
from kd.objectives import OBJECTIVES, TEACHER_WEIGHTS
from kd.registry import Registry, keywords

SEEDS, WIDTH = 20, 64
REQUIRED = {"loss": {"name": "kl"}, "shares": dict.fromkeys(VIEWS, 1.0)}
"""What is given for an argument without a default."""
POSITIONS = {name: {"student": "parts", "teacher": "parts"} for name in ("at", "nst")}
"""Objectives on positions, which are modalities here."""


@dataclass(frozen=True)
class Taught:
    """How a student is taught: the edges' teachers and objective, and how teachers are weighed."""

    teachers: list[str]
    part: Mapping[str, Any]
    combine: Mapping[str, Any] | None = None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short pair of each, under 50 seconds; writes nothing")
    options = parser.parse_args()
    quiet()
    pairs, steps = (1, 4) if options.quick else (7, 40)
    bench, found = Bench(steps), []
    for name, taught in ways().items():
        found.append({"name": name, **bench.ratios(taught, pairs)})
        print(" ".join(f"{key} {value}" for key, value in found[-1].items()), flush=True)
    if not options.quick:
        keep_bench("objectives", ["objectives"], {"seeds of a stack": SEEDS}, {"cost": found})
    print(json.dumps({f"{row['name']}_{side}": row[side] for row in found for side in ("alone", "stacked")}))
    return 0


def ways() -> dict[str, Taught]:
    """Return every objective with its defaults and one teacher, and every weighting of three."""
    alone = {name: Taught(["full"], part(OBJECTIVES, name)) for name in OBJECTIVES}
    weighted = {
        f"weighted {name}": Taught(VIEWS, {"name": "kl"}, part(TEACHER_WEIGHTS, name)) for name in TEACHER_WEIGHTS
    }
    return alone | weighted


def part(registry: Registry, name: str) -> dict[str, Any]:
    """Return a part with its defaults, and with what it requires."""
    known = keywords(registry[name].load()).items()
    return {"name": name, **{k: REQUIRED[k] for k, own in known if own.default is own.empty}, **POSITIONS.get(name, {})}


class Bench(Digits):
    """Students taught in any way, timed against the student that nobody teaches."""

    def __init__(self, steps: int) -> None:
        super().__init__(WIDTH)
        self.steps = steps
        self.live = {"full": Frozen(kd.classifier(self.data, sees=VIEWS, **self.model).eval())}
        self.tables = {**self.cached, "full": self.table(self.live["full"])}
        self.untaught, self.untaught_stack = self.alone(None), self.stacked(None)

    def taught(self, seed: int, taught: Taught | None) -> kd.Distiller:
        """Return a student with its edges."""
        edges, combine = {}, None
        if taught is not None:
            for name in taught.teachers:
                objective = OBJECTIVES.build(taught.part)
                objective.remember(len(self.data.source))
                edges[name] = kd.Edge((self.tables if objective.compares_logits else self.live)[name], objective)
            combine = TEACHER_WEIGHTS.build(taught.combine, taught.teachers) if taught.combine else None
        network = kd.classifier(self.data, seed=seed, **self.model)
        return kd.Distiller(network, edges=edges, combine=combine, rows="complete", seed=seed)

    def alone(self, taught: Taught | None) -> Callable[[], float]:
        """Return what measures the seconds per step of one student."""
        student = self.taught(0, taught)
        return lambda: self.fit(student, self.steps)

    def stacked(self, taught: Taught | None) -> Callable[[], float]:
        """Return what measures the seconds per step of a stack of seeds."""
        students = [self.taught(seed, taught) for seed in range(SEEDS)]
        return lambda: self.fit_stack(students, self.steps)

    def ratios(self, taught: Taught, pairs: int) -> dict[str, Any]:
        """Return how many times a step without a teacher one with it takes, alone and stacked where it stacks."""
        parts = [OBJECTIVES[taught.part["name"]].load()]
        parts += [TEACHER_WEIGHTS[taught.combine["name"]].load()] if taught.combine else []
        found: dict[str, Any] = {
            "alone": round(ratios(self.alone(taught), self.untaught, pairs)[0], 2),
            "stacked": None,
        }
        if all(part.replicable for part in parts):
            found["stacked"] = round(ratios(self.stacked(taught), self.untaught_stack, pairs)[0], 2)
        return found


if __name__ == "__main__":
    sys.exit(main())
