"""Test every mechanism against its own law over many seeds, and time masks of a million rows.

python scripts/bench_masks.py [--quick] [--seeds 2000]

A mechanism that is MCAR or MAR must not let anything hidden help to say who is hidden, once what it depends on is
known; one that is MNAR must. Whether it helps is asked by a likelihood-ratio test of two logistic regressions at 5%
(`kd.statistics.dependence`); the share of seeds that say yes is the false-alarm rate, or the power. Unless
--quick is given, the figures go to docs/records, where `make docs` reads them; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # before torch is imported
    os.environ[_name] = "1"
ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "docs" / "records"
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from keep_records import keep_bench  # noqa: E402
from scipy.stats import binomtest, chisquare  # noqa: E402

from kd.data.mask import Mask  # noqa: E402
from kd.data.masks import draw  # noqa: E402
from kd.data.mechanisms.dependent import principal_score  # noqa: E402
from kd.data.source import Source  # noqa: E402
from kd.data.splits import Split  # noqa: E402
from kd.record import code_address  # noqa: E402
from kd.statistics.dependence import likelihood_ratio  # noqa: E402

ROWS, SITES, LEVEL = 800, 200, 0.05
ROOMS = ("data/mechanisms", "data/masks", "statistics/dependence", "report/gaps")
"""Rooms and modules whose code decides the figures."""


@dataclass(frozen=True)
class World:
    """One drawn mask, and what may tell who is hidden: each [ROWS]."""

    mask: Mask
    driver: np.ndarray
    value: np.ndarray
    label: np.ndarray

    @property
    def hidden(self) -> np.ndarray:
        """Who lacks modality b."""
        return (~self.mask.keep[:, 1]).numpy()


@dataclass(frozen=True)
class Case:
    """A mechanism, a question, and the p-value that answers it.

    Attributes:
        part: the mechanism.
        question: what is asked.
        p: world -> p-value.
        effect: "" where the answer must be no in 95% of seeds; else the effect that must be found.
    """

    part: dict[str, Any]
    question: str
    p: Callable[[World], float]
    effect: str = ""


def world(part: dict[str, Any], seed: int) -> World:
    """Draw three modalities that share a factor with each other and with the label, and a mask of all rows."""
    random = torch.Generator().manual_seed(seed)
    factor = torch.randn(ROWS, 1, generator=random)
    inputs = {
        name: 0.7 * factor + 0.7 * torch.randn(ROWS, width, generator=random)
        for name, width in {"a": 3, "b": 2, "c": 4}.items()
    }
    label = (factor[:, 0] + 0.5 * torch.randn(ROWS, generator=random) > 0).long()
    source = Source("correlated", inputs, label, 2)
    none = torch.empty(0, dtype=torch.int64)
    rows = Split(torch.arange(ROWS), none, none)
    driver, value = (principal_score(source, name, rows.train, "test").numpy() for name in "ab")
    return World(draw(source, rows, part, seed), driver, value, label.double().numpy())


NOTHING = np.empty((ROWS, 0))
"""Of what is known beforehand, where nothing is."""


def of_value(w: World) -> float:
    """Ask whether the hidden value helps to say who is hidden."""
    return likelihood_ratio(w.hidden, NOTHING, w.value)


def of_label(w: World) -> float:
    """Ask whether the label helps."""
    return likelihood_ratio(w.hidden, NOTHING, w.label)


def of_value_given_driver(w: World) -> float:
    """Ask whether the hidden value helps, once the driver is known."""
    return likelihood_ratio(w.hidden, w.driver, w.value)


def of_label_given_driver(w: World) -> float:
    """Ask whether the label helps, once the driver is known."""
    return likelihood_ratio(w.hidden, w.driver, w.label)


def of_driver(w: World) -> float:
    """Ask whether the driver helps."""
    return likelihood_ratio(w.hidden, NOTHING, w.driver)


def of_conditioned_law(w: World) -> float:
    """Ask whether the patterns differ from the law of three equal rates given that one modality stays."""
    rate = w.mask.parameters["rate"]
    q = (-(1 - rate) + np.sqrt((1 - rate) ** 2 + 4 * (1 - rate) * rate)) / (2 * (1 - rate))
    kept = np.array([bin(code).count("1") for code in range(1, 8)])
    law = (1 - q) ** kept * q ** (3 - kept) / (1 - q**3)
    counts = np.bincount((w.mask.keep.long() @ torch.tensor([1, 2, 4])).numpy(), minlength=8)
    return float(chisquare(counts[1:], law * ROWS).pvalue)


def of_sites(w: World) -> float:
    """Ask, site by site, whether the mean hidden value of a site helps to say which sites are hidden."""
    site = torch.randperm(ROWS, generator=_dealing(w.mask.seed)) % SITES
    hidden = np.zeros(SITES, dtype=bool)
    hidden[site.numpy()] = w.hidden
    means = np.bincount(site.numpy(), weights=w.value, minlength=SITES) / (ROWS // SITES)
    return likelihood_ratio(hidden, np.empty((SITES, 0)), means)


def _dealing(seed: int) -> torch.Generator:
    """Return the stream by which `block` deals rows to sites."""
    from kd.seeding import generator

    return generator(seed, "mask", "block", "sites")


def of_cell(w: World) -> float:
    """Ask whether a single value helps to say whether it is hidden: the second feature of b."""
    return likelihood_ratio((~w.mask.cells["b"][:, 1]).numpy(), NOTHING, w.value)


def of_hidden_label(w: World) -> float:
    """Ask whether a label helps to say whether it is hidden."""
    assert w.mask.labelled is not None
    return likelihood_ratio((~w.mask.labelled).numpy(), NOTHING, w.label)


def of_value_given_label(w: World) -> float:
    """Ask whether a hidden value helps to say which rows are complete, once the label is known."""
    return likelihood_ratio((~w.mask.keep.all(dim=1)).numpy(), w.label, w.value)


MCAR = {"name": "mcar", "rate": 0.4}
MAR = {"name": "mar", "driver": "a", "rate": 0.4}
WEAK, SIZE = {"strength": 0.5}, "log odds of 0.5 per standard deviation"
CASES = [
    Case({**MCAR, "allow_empty": True}, "hidden value", of_value),
    Case({**MCAR, "allow_empty": True}, "label", of_label),
    Case(MCAR, "hidden value", of_value),
    Case(MCAR, "label", of_label),
    Case(MCAR, "patterns against the conditioned law", of_conditioned_law),
    Case({"name": "pattern", "chances": {"a+b": 0.4, "c": 0.3, "a+b+c": 0.3}}, "hidden value", of_value),
    Case({"name": "pattern", "chances": {"a+b": 0.4, "c": 0.3, "a+b+c": 0.3}}, "label", of_label),
    Case(MAR, "hidden value, given the driver", of_value_given_driver),
    Case(MAR, "label, given the driver", of_label_given_driver),
    Case({"name": "severe", "complete": 200}, "hidden value, given the label", of_value_given_label),
    Case({"name": "block", "rate": 0.4, "sites": SITES}, "mean hidden value of a site", of_sites),
    Case({"name": "cells", "rate": 0.4}, "hidden value", of_cell),
    Case({"name": "span", "rate": {"b": 0.4}}, "hidden value", of_cell),
    Case({"name": "unlabelled", "rate": 0.4}, "hidden label", of_hidden_label),
    Case({"name": "joint", "parts": {"x": MCAR, "y": {"name": "unlabelled", "rate": 0.5}}}, "hidden value", of_value),
    Case({**MAR, **WEAK}, "driver", of_driver, SIZE),
    Case(
        {"name": "mnar", "given": "value", "rate": 0.4, **WEAK},
        "hidden value, given the driver",
        of_value_given_driver,
        SIZE,
    ),
    Case(
        {"name": "mnar", "given": "label", "rate": 0.4, **WEAK}, "label, given the driver", of_label_given_driver, SIZE
    ),
]


def self_tests(seeds: int) -> pd.DataFrame:
    """Return a row per case: how often its test rejects at 5%, with the exact 99% interval of that rate."""
    rows = []
    for case in CASES:
        rejected = sum(case.p(world(case.part, seed)) < LEVEL for seed in range(seeds))
        low, high = binomtest(rejected, seeds).proportion_ci(0.99, "exact")
        holds = rejected / seeds >= 0.9 if case.effect else low <= LEVEL <= high
        rows.append(
            {
                "mechanism": _spelt(case.part),
                "does it help?": case.question,
                "effect": case.effect or "none",
                "rows": SITES if case.p is of_sites else ROWS,
                "seeds": seeds,
                "rejected": rejected / seeds,
                "low": low,
                "high": high,
                "holds": "yes" if holds else "no",
            }
        )
        print(
            f"{rows[-1]['mechanism']:58} {case.question:38} {rejected / seeds:6.3f} [{low:.3f}, {high:.3f}]", flush=True
        )
    return pd.DataFrame(rows)


def _spelt(part: dict[str, Any]) -> str:
    return " ".join([part["name"], *(f"{key}={value}" for key, value in part.items() if key not in ("name", "parts"))])


def million() -> dict[str, float]:
    """Draw, save, load and summarise a mask of a million rows and sixteen modalities, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--million"], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _million() -> dict[str, float]:
    """Return seconds, and the peak memory beyond what the imports and the empty process hold."""
    import resource

    from kd.data.splits import split
    from kd.report.gaps import drawn, patterns

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    held, rows = peak(), 10**6
    inputs = {f"m{place}": torch.zeros(rows, 1) for place in range(16)}
    source = Source("million", inputs, torch.arange(rows) % 10, 10)
    division = split(source)
    started = time.perf_counter()
    mask = draw(source, division, {"name": "mcar", "rate": 0.3}, 0)
    with tempfile.TemporaryDirectory() as folder:
        mask.save(Path(folder) / "mask.parquet")
        loaded = Mask.load(Path(folder) / "mask.parquet").check(source, division)
    found = patterns(loaded.available(source)[division.train], source.modalities)
    drawn(found, source.modalities)
    return {"seconds_million_by_16": time.perf_counter() - started, "peak_gib": peak() - held}


def keep(tests: pd.DataFrame, large: dict[str, float]) -> None:
    """Write the figures into docs/records, with the code and the machine that gave them."""
    shown = tests.assign(
        rejected=[f"{100 * r.rejected:.1f}% [{100 * r.low:.1f}, {100 * r.high:.1f}]" for r in tests.itertuples()]
    )
    figures = {**{name: float(f"{value:.3g}") for name, value in large.items()}, **extremes(tests)}
    keep_bench("masks", ROOMS, figures, {"self_tests": shown.drop(columns=["low", "high"]).to_dict("records")})


def extremes(tests: pd.DataFrame) -> dict[str, float]:
    """Return the false-alarm rate farthest from 5%, and the least power."""
    null = tests[tests["effect"] == "none"]["rejected"]
    farthest = (null - LEVEL).abs().idxmax()
    power = tests[tests["effect"] != "none"]["rejected"].min()
    return {"worst_false_alarm_rate": float(null[farthest]), "least_power": float(power)}


def committed() -> dict[str, Any]:
    """Return what only the full benches measure, from their records, and whether the code is still the same."""
    masks = json.loads((RECORDS / "bench_masks.json").read_text())
    statistics = json.loads((RECORDS / "bench_statistics.json").read_text())
    code = {**masks["code"], **{key: value for key, value in statistics["code"].items() if "/" in key}}
    return {
        "worst_coverage": round(statistics["figures"]["worst_coverage"] / 100, 4),
        "best_coverage": round(statistics["figures"]["best_coverage"] / 100, 4),
        **{name: masks["figures"][name] for name in ("worst_false_alarm_rate", "least_power")},
        "code_of_full_bench": {room: address[:12] for room, address in code.items()},
        "same_code": code == code_address(*code),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few seeds, under 50 seconds; writes nothing")
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--million", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.million:
        print(json.dumps(_million()))
        return 0
    large = million()
    tests = self_tests(40 if options.quick else options.seeds)
    if not options.quick:
        keep(tests, large)
    print(json.dumps({**large, **committed()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
