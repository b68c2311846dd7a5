"""Simulate studies whose truth is known: how often intervals cover it, and how often tests reject where nothing is.

python scripts/bench_statistics.py [--quick] [--studies 4000]

The last line is one JSON object. Without --quick tables and figures go to docs/records/bench_statistics.json, stamped
with the hash of the code they speak of, the room's and its measured files'; `make docs` reads them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # before numpy is imported
    os.environ[_name] = "1"
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from scipy import stats  # noqa: E402

from kd.statistics import ALPHA  # noqa: E402
from kd.statistics.crossed import Crossed, by_group  # noqa: E402
from kd.statistics.intervals import fold_difference, half_width  # noqa: E402
from kd.statistics.power import seen  # noqa: E402
from kd.statistics.significance import holm, mcnemar, permutation, wilcoxon  # noqa: E402

Row = dict[str, Any]
SEEDS, ROWS, AT_ONCE = (5, 10, 20), (100, 500), 250
SHARES = {"seed": (0.8, 0.1, 0.1), "row": (0.1, 0.8, 0.1), "residual": (0.1, 0.1, 0.8)}
"""Dominant part -> shares of the variance of the mean difference that seeds, rows and residual bring."""
MIXTURES = {"thirds": (1 / 3, 1 / 3, 1 / 3), "residual alone": (0.0, 0.0, 1.0), "seed and residual": (0.5, 0.0, 0.5)}
ACCURACIES = {
    "75% and 75%": (0.75, 0.75),
    "80% and 75%": (0.8, 0.75),
    "97% and 97%": (0.97, 0.97),
    "99.8% and 99%": (0.998, 0.99),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer studies and rows, under 40 seconds; writes nothing")
    parser.add_argument("--studies", type=int, default=4_000, help="of each of the nine cells; half of them elsewhere")
    options = parser.parse_args()
    studies, rows = (4_000, ROWS[:1]) if options.quick else (options.studies, ROWS)
    fewer = 300 if options.quick else studies // 2
    started = time.perf_counter()
    found = {
        "coverage": coverage(studies, rows),
        "beyond": [*mixtures(fewer), *correctness(fewer, rows), *grouped(fewer)],
        "level": [*levels(fewer), *families(fewer)],
    }
    figures = headline(found) | {"power_at_seen": power(fewer), "studies": studies}
    for name, table in found.items():
        print(f"\n{name}")
        for row in table:
            print("  " + "  ".join(f"{value}" for value in row.values()))
    if not options.quick:
        keep(figures, found)
    print(json.dumps(figures | {"seconds": round(time.perf_counter() - started, 1)}))
    return 0


def rate(hits: int, studies: int) -> str:
    """Return a share of studies in percent with its Monte Carlo standard error."""
    share = hits / studies
    return f"{100 * share:.1f} ± {100 * np.sqrt(share * (1 - share) / studies):.1f}"


def chunks(studies: int) -> Iterator[int]:
    """Give numbers of studies that are simulated at once."""
    for start in range(0, studies, AT_ONCE):
        yield min(AT_ONCE, studies - start)


def tables(
    random: np.random.Generator, studies: int, seeds: int, rows: int, shares: tuple[float, float, float]
) -> np.ndarray:
    """Return differences [studies, S, R] around 0, the mean's variance 1, divided among seeds, rows and residual."""
    by_seed, by_row, residual = np.sqrt(np.array(shares) * (seeds, rows, seeds * rows))
    return np.asarray(
        by_seed * random.standard_normal((studies, seeds, 1))
        + by_row * random.standard_normal((studies, 1, rows))
        + residual * random.standard_normal((studies, seeds, rows))
    )


def covered(difference: np.ndarray, truth: float = 0.0) -> int:
    """Return how many intervals of tables [studies, S, R] hold the truth."""
    table = Crossed.of(difference)
    half = half_width(np.sqrt(table.variance), table.degrees)
    return int((np.abs(table.mean - truth) <= half).sum())


def simulate(
    studies: int, draw: Callable[[np.random.Generator, int], np.ndarray], *cell: int, truth: float = 0.0
) -> int:
    """Return how many intervals of a cell's studies hold the truth; every cell draws from a stream of its own."""
    random = np.random.default_rng(cell)
    return sum(covered(draw(random, many), truth) for many in chunks(studies))


def coverage(studies: int, rows_of: Sequence[int]) -> list[Row]:
    """Return coverage of the crossed interval by seeds, by what dominates, and by rows."""
    found = []
    for seeds, (place, (dominant, shares)) in product(SEEDS, enumerate(SHARES.items())):
        row: Row = {"seeds": seeds, "dominant": dominant}
        for rows in rows_of:
            draw = partial(tables, seeds=seeds, rows=rows, shares=shares)
            row[f"{rows} rows"] = rate(simulate(studies, draw, 0, seeds, rows, place), studies)
        found.append(row)
    return found


def mixtures(studies: int, rows: int = 200) -> list[Row]:
    found = []
    for (place, (name, shares)), seeds in product(enumerate(MIXTURES.items()), SEEDS):
        hits = simulate(studies, partial(tables, seeds=seeds, rows=rows, shares=shares), 1, seeds, rows, place)
        found.append({"data": f"normal, {name}", "seeds": seeds, "rows": rows, "covers": rate(hits, studies)})
    return found


def answers(random: np.random.Generator, studies: int, seeds: int, rows: int, pair: tuple[float, float]) -> np.ndarray:
    """Return differences of 0/1 correctness of two probit models over rows of unequal difficulty.

    A row's difficulty is shared by both, a part of it is the method's own, and each training has its own skill. Their
    variances sum to 3.1, so a model is right with probability `Phi(mu / sqrt(1 + 3.1))`: the truth is known.
    """
    shared = np.sqrt(2.0) * random.standard_normal((studies, 1, rows))
    sides = []
    for accuracy in pair:
        own = random.standard_normal((studies, 1, rows))
        skill = np.sqrt(0.1) * random.standard_normal((studies, seeds, 1))
        latent = stats.norm.ppf(accuracy) * np.sqrt(4.1) + shared + own + skill
        sides.append(latent + random.standard_normal((studies, seeds, rows)) > 0)
    return np.subtract(*(side.astype(float) for side in sides))


def correctness(studies: int, rows_of: Sequence[int]) -> list[Row]:
    found = []
    for (place, (name, pair)), seeds, rows in product(enumerate(ACCURACIES.items()), SEEDS, rows_of):
        draw = partial(answers, seeds=seeds, rows=rows, pair=pair)
        hits = simulate(studies, draw, 2, seeds, rows, place, truth=pair[0] - pair[1])
        found.append({"data": f"0/1, {name}", "seeds": seeds, "rows": rows, "covers": rate(hits, studies)})
    return found


def grouped(studies: int, seeds: int = 10, groups: int = 60) -> list[Row]:
    """Return coverage where rows of a group share most of their effect, with groups whole and with groups ignored."""
    random = np.random.default_rng(0)
    whole = naive = 0
    for many in chunks(studies):
        sizes = random.integers(1, 9, groups)
        group = np.repeat(np.arange(groups), sizes)
        effect = random.standard_normal((many, 1, groups))[..., group]
        rows = 0.5 * random.standard_normal((many, 1, len(group)))
        training = 0.05 * random.standard_normal((many, seeds, 1))
        difference = effect + rows + training + 0.5 * random.standard_normal((many, seeds, len(group)))
        whole += covered(by_group(difference, group))
        naive += covered(difference)
    about = {"seeds": seeds, "rows": f"{groups} groups of 1 to 8"}
    return [
        {"data": "groups kept whole", **about, "covers": rate(whole, studies)},
        {"data": "groups ignored", **about, "covers": rate(naive, studies)},
    ]


def rejected(
    test: Callable[[np.ndarray], float], draw: Callable[[np.random.Generator], np.ndarray], studies: int
) -> int:
    random = np.random.default_rng(0)
    return sum(test(draw(random)) < ALPHA for _ in range(studies))


def levels(studies: int, seeds: int = 20, rows: int = 100) -> list[Row]:
    """Return how often each test rejects at 5% where nothing is: under the hypothesis it tests, and outside it."""

    def drawn(shares: tuple[float, float, float]) -> Callable[[np.random.Generator], np.ndarray]:
        return lambda random: tables(random, 1, seeds, rows, shares)[0]

    def crossed(table: np.ndarray) -> float:
        units = Crossed.of(table)
        return float(2 * stats.t.sf(abs(units.mean) / np.sqrt(units.variance), units.degrees))

    def over_seeds(table: np.ndarray) -> float:
        return wilcoxon(table.mean(axis=1))

    def over_rows(table: np.ndarray) -> float:
        return permutation(table.mean(axis=0), resamples=999)

    fewer = studies // 4
    plan: list[tuple[str, str, Callable[..., float], Callable[..., np.ndarray], int]] = [
        ("crossed t", "new seeds and new rows, thirds", crossed, drawn(MIXTURES["thirds"]), studies),
        ("wilcoxon, 20 seeds", "new seeds, rows fixed", over_seeds, drawn((0.5, 0.0, 0.5)), studies),
        ("wilcoxon, 20 seeds", "new seeds and new rows, rows dominate", over_seeds, drawn(SHARES["row"]), studies),
        ("permutation, 100 rows", "new rows, networks fixed", over_rows, drawn((0.0, 0.5, 0.5)), fewer),
        ("permutation, 100 rows", "new seeds and new rows, seeds dominate", over_rows, drawn(SHARES["seed"]), fewer),
        *group_levels(fewer),
        ("mcnemar, mid-p", "about 15 rows differ", _mcnemar, _correct(100, 0.15), studies),
        ("mcnemar, exact", "about 60 rows differ", _mcnemar, _correct(400, 0.15), studies),
        ("folds", "5 seeds x 5 folds, correlation 1/5", _folds, _fold_means(25, 0.2), studies),
    ]
    return [
        {"test": name, "where nothing differs": what, "rejects": rate(rejected(test, draw, many), many)}
        for name, what, test, draw, many in plan
    ]


def group_levels(studies: int, groups: int = 25) -> list[tuple[str, str, Any, Any, int]]:
    group = np.repeat(np.arange(groups), 4)

    def draw(random: np.random.Generator) -> np.ndarray:
        return random.standard_normal(groups)[group] + 0.5 * random.standard_normal(len(group))

    what = "25 groups of 4 rows, networks fixed"
    return [
        ("permutation by group", what, lambda rows: permutation(rows, group, resamples=999), draw, studies),
        ("permutation, groups ignored", what, lambda rows: permutation(rows, resamples=999), draw, studies),
    ]


def _mcnemar(pair: np.ndarray) -> float:
    return mcnemar(*pair)


def _correct(rows: int, differ: float) -> Callable[[np.random.Generator], np.ndarray]:
    def draw(random: np.random.Generator) -> np.ndarray:
        first = random.random(rows) < 0.5
        return np.stack([first, first ^ (random.random(rows) < differ)])

    return draw


def _folds(means: np.ndarray) -> float:
    return fold_difference(means, overlap=0.25, margin=0.01).p


def _fold_means(values: int, correlation: float) -> Callable[[np.random.Generator], np.ndarray]:
    """Return values that correlate as the correction supposes: `n_test / (n_test + n_train)`."""

    def draw(random: np.random.Generator) -> np.ndarray:
        common = np.sqrt(correlation) * random.standard_normal()
        return common + np.sqrt(1 - correlation) * random.standard_normal(values)

    return draw


def families(studies: int, members: int = 6, seeds: int = 20, rows: int = 100) -> list[Row]:
    """Return how often a family of contrasts with one baseline makes a false claim, with Holm's correction and without.

    All members share the baseline's part, half of every difference's variance.
    """
    random = np.random.default_rng(0)
    false = raw = 0
    for _ in range(studies):
        baseline = tables(random, 1, seeds, rows, MIXTURES["thirds"])
        table = Crossed.of(tables(random, members, seeds, rows, MIXTURES["thirds"]) - baseline)
        p = 2 * stats.t.sf(np.abs(table.mean) / np.sqrt(table.variance), table.degrees)
        false += bool((holm(p) < ALPHA).any())
        raw += bool((p < ALPHA).any())
    what = f"{members} contrasts with one baseline, one claim or more"
    return [
        {"test": "crossed t, Holm", "where nothing differs": what, "rejects": rate(false, studies)},
        {"test": "crossed t, unadjusted", "where nothing differs": what, "rejects": rate(raw, studies)},
    ]


def power(studies: int, seeds: int = 20, rows: int = 200) -> float:
    """Return how often the difference that 80% power is said to see leaves 0 out of its interval; thirds."""
    # Mean squares in expectation: the mean's variance is 1, a third from each part.
    share = seeds * rows / 3
    known = Crossed(seeds, rows, 0.0, 2 * share, 2 * share, share)
    truth, random, hits = seen(float(np.sqrt(known.variance)), float(known.degrees)), np.random.default_rng(0), 0
    for many in chunks(studies):
        hits += many - covered(truth + tables(random, many, seeds, rows, MIXTURES["thirds"]))
    return round(hits / studies, 4)


def headline(found: dict[str, list[Row]]) -> dict[str, float]:
    """Return the lowest and highest coverage of the nine cells, in percent, and the family's rate of false claims."""
    cells = [
        float(row[f"{rows} rows"].split()[0]) for row in found["coverage"] for rows in ROWS if f"{rows} rows" in row
    ]
    rates = {row["test"]: float(row["rejects"].split()[0]) for row in found["level"]}
    return {
        "worst_coverage": min(cells),
        "best_coverage": max(cells),
        "holm_family_error": rates["crossed t, Holm"],
        "unadjusted_family_error": rates["crossed t, unadjusted"],
    }


def keep(figures: dict[str, float], found: dict[str, list[Row]]) -> None:
    """Write figures and tables into docs/records."""
    from keep_records import keep_bench

    parts = (f"statistics/{part}" for part in ("crossed", "intervals", "power", "significance"))
    keep_bench("statistics", ["statistics", *parts], figures, found)


if __name__ == "__main__":
    sys.exit(main())
