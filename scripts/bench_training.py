"""Time training: replicas beside Lightning and a bare loop, a student beside a bare loop, cached beside live teachers.

python scripts/bench_training.py [--quick] [--replicas 128]

Every figure is a ratio of two things measured in this run, in turn, one thread; the median of the pairs is printed, and
the last line is one JSON object. Without --quick the figures and the machine's facts go to docs/records, where
`make docs` reads them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # before torch is imported
    os.environ[_name] = "1"
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

import kd  # noqa: E402
from kd.data.module import batches  # noqa: E402
from kd.data.stream import StepBatches  # noqa: E402
from kd.distill.replicas import Replicas  # noqa: E402
from kd.distill.stack import ReplicaBatches  # noqa: E402
from kd.distill.teachers import Cached, Frozen, cache  # noqa: E402

VIEWS, BATCH, TEMPERATURE = ["fou", "zer", "mor"], 32, 3.0
STEPS = 40
"""Of a stack's round: enough that its first steps, which fetch fresh memory, do not decide."""
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer pairs, under 50 seconds; writes nothing")
    parser.add_argument("--replicas", type=int, default=128)
    options = parser.parse_args()
    quiet()
    pairs = 2 if options.quick else 9
    figures = replicas_beside_one(options.replicas, pairs)
    figures |= products_of_a_wide_stack(pairs)
    figures |= one_student_beside_a_loop(pairs)
    figures |= cached_beside_live(pairs)
    if not options.quick:
        from timed_processes import memory_of_a_stack, two_processes_beside_one

        figures |= stacks_of_sizes(pairs)
        figures |= two_processes_beside_one(options.replicas, pairs)
        figures |= memory_of_a_stack(options.replicas)
    for name, value in figures.items():
        print(f"{name:28} {value:10.3f}")
    if not options.quick:
        keep(figures, options.replicas)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
    return 0


def quiet() -> None:
    """Let Lightning say nothing, and everything run in one thread."""
    warnings.filterwarnings("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)


class Stopwatch(pl.Callback):
    """Seconds of a fit's steps, without its set-up."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds = time.perf_counter() - self.started


def fit(module: pl.LightningModule, feed: Any, **options: Any) -> float:
    """Return the seconds per step of one round under a Trainer, a quiet one unless options say otherwise."""
    watch = Stopwatch()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trainer = pl.Trainer(max_epochs=1, callbacks=[watch], **{**QUIET, **options})
        trainer.fit(module, feed)
    taken = trainer.fit_loop.epoch_loop.batch_progress.current.completed
    if taken != len(feed):
        raise RuntimeError(f"bench: the fit took {taken} steps of {len(feed)}; its seconds per step would be wrong")
    return watch.seconds / len(feed)


def ratios(one: Callable[[], float], other: Callable[[], float], pairs: int) -> tuple[float, float, float]:
    """Return the median ratio of pairs measured in turn, and the medians of both; the first pair warms up."""
    found = [(one(), other()) for _ in range(pairs + 1)][1:]
    first, second = (statistics.median(side) for side in zip(*found, strict=True))
    return statistics.median(a / b for a, b in found), first, second


class Digits:
    """KDD 2020's students on three views of mfeat, teachers cached: what all are timed on."""

    def __init__(self, width: int) -> None:
        self.data = kd.DataModule(
            kd.load_source("mfeat", modalities=VIEWS), mask=kd.masks.severe(complete=50, pool=200)
        )
        self.data.setup("fit")
        self.rows = self.data.rows_for(VIEWS, "complete")
        self.model = {"width": width, "encoder": {"name": "mlp", "hidden": [width]}}
        teachers = {view: Frozen(kd.classifier(self.data, sees=[view], **self.model).eval()) for view in VIEWS}
        self.cached = {view: self.table(teacher) for view, teacher in teachers.items()}

    def table(self, teacher: Frozen) -> Cached:
        """Return a teacher's answers to all rows."""
        source, available = self.data.source, self.data.available
        return cache(teacher, [source.batch(ids, available[ids]) for ids in torch.arange(len(source)).split(256)])

    def student(self, seed: int) -> kd.Distiller:
        edges = {view: kd.Edge(table, kd.KL(temperature=TEMPERATURE)) for view, table in self.cached.items()}
        return kd.Distiller(kd.classifier(self.data, seed=seed, **self.model), edges=edges, rows="complete", seed=seed)

    def order(self, seed: int, steps: int) -> StepBatches:
        return StepBatches(self.rows, batch_size=BATCH, steps=steps, seed=seed)

    def loss(self, model: torch.nn.Module, rows: Tensor) -> Tensor:
        """Return the loss as anybody would write it, for one student."""
        source, tables = self.data.source, [table.logits for table in self.cached.values()]
        inputs = {view: source.inputs[view][rows] for view in VIEWS}
        logits = model(inputs, self.data.available[rows]).logits
        return F.cross_entropy(logits, source.label[rows]) + divergence(logits, [table[rows] for table in tables])

    def lightning(self, steps: int, **options: Any) -> float:
        """Return the seconds per step of a LightningModule of the loop's body, with a DataLoader of rows."""
        feed = DataLoader(torch.arange(len(self.data.source)), batch_sampler=list(self.order(0, steps)))
        return fit(Plain(self.student(0).model, self.loss), feed, **options)

    def tuned(self, steps: int) -> float:
        """Return the seconds per step of the quickest Lightning fit we can write of the loop's body."""
        module = Tuned(self.student(0).model, self.loss)
        return fit(module, self.order(0, steps), barebones=True)  # a list would be many loaders to Lightning

    def ours(self, steps: int) -> float:
        """Return the seconds per step of one student in our module."""
        return self.fit(self.student(0), steps)

    def fit(self, student: kd.Distiller, steps: int) -> float:
        """Return the seconds per step of one student."""
        return fit(student, batches(self.data.source, self.data.available, self.order(0, steps)))

    def fit_stack(self, students: Sequence[kd.Distiller], steps: int) -> float:
        """Return the seconds per step of a stack, per student."""
        stack, available = Replicas(students), self.data.available.expand(len(students), -1, -1)
        orders = [self.order(seed, steps) for seed in range(len(students))]
        return fit(stack, ReplicaBatches(self.data.source, available, orders, stack.fold)) / len(students)

    def stack(self, replicas: int) -> Callable[[int], float]:
        students = [self.student(seed) for seed in range(replicas)]
        return lambda steps: self.fit_stack(students, steps)

    def loop(self, steps: int) -> float:
        """Return the seconds per step of the same training in plain PyTorch, fused Adam, no framework."""
        model = self.student(0).model.train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        order = list(self.order(0, steps))
        started = time.perf_counter()
        for rows in order:
            optimizer.zero_grad()
            self.loss(model, rows).backward()
            optimizer.step()
        return (time.perf_counter() - started) / steps


class Plain(pl.LightningModule):
    """What a user of Lightning writes first."""

    def __init__(self, model: torch.nn.Module, loss: Callable[[torch.nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self._loss = model.train(), loss

    def training_step(self, rows: Tensor, batch_index: int) -> Tensor:
        return self._loss(self.model, rows)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Tuned(Plain):
    """What is left of Lightning's costs once optimisation is manual, Adam fused, and batches are rows' numbers."""

    automatic_optimization = False

    def training_step(self, rows: Tensor, batch_index: int) -> None:
        optimizer = self.optimizers(use_pl_optimizer=False)
        optimizer.zero_grad()  # type: ignore[union-attr]
        self._loss(self.model, rows).backward()
        optimizer.step()  # type: ignore[union-attr]

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3, fused=True)


def divergence(logits: Tensor, teachers: Sequence[Tensor]) -> Tensor:
    """Return the sum over teachers of T^2 KL, the mean over rows."""
    log_student = F.log_softmax(logits / TEMPERATURE, dim=-1)
    found = torch.zeros(())
    for teacher in teachers:
        log_teacher = F.log_softmax(teacher / TEMPERATURE, dim=-1)
        found = found + (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1).mean()
    return TEMPERATURE**2 * found


def replicas_beside_one(replicas: int, pairs: int) -> dict[str, float]:
    """Time R students in one fit against one student under Lightning, and in a bare loop."""
    digits = Digits(64)
    stacked = digits.stack(replicas)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        usual = {name: True for name in QUIET if name != "accelerator"} | {"default_root_dir": folder}
        sides = {
            "lightning": lambda: digits.lightning(150),
            "tuned_lightning": lambda: digits.tuned(150),
            "loop": lambda: digits.loop(150),
            "our_module": lambda: digits.ours(100),
            "default_script": lambda: digits.lightning(100, **usual),
            "replica": lambda: stacked(STEPS),
        }
        for _ in range(pairs + 1):
            for name, measured in sides.items():
                found.setdefault(name, []).append(measured())
    kept = {name: seconds[1:] for name, seconds in found.items()}
    each = kept.pop("replica")
    times = {
        f"per_replica_vs_{name}": statistics.median(a / b for a, b in zip(side, each, strict=True))
        for name, side in kept.items()
    }
    return times | {f"{name}_us_per_step": statistics.median(side[1:]) * 1e6 for name, side in found.items()}


def stacks_of_sizes(pairs: int) -> dict[str, float]:
    """Say what a step costs each of 64 and of 256 replicas, over what it costs each of 128."""
    digits = Digits(64)
    stacks = {replicas: digits.stack(replicas) for replicas in (64, 128, 256)}
    found = [{replicas: measured(STEPS) for replicas, measured in stacks.items()} for _ in range(pairs + 1)][1:]
    return {
        f"cost_at_{replicas}_vs_128": statistics.median(each[replicas] / each[128] for each in found)
        for replicas in (64, 256)
    }


def products_of_a_wide_stack(pairs: int, width: int = 256, replicas: int = 32) -> dict[str, float]:
    """Say which share of the peak of float32 products a stack of width 256 reaches, all its work included."""
    digits = Digits(width)
    stacked, square = digits.stack(replicas), torch.randn(1024, 1024)

    def peak() -> float:
        started = time.perf_counter()
        for _ in range(8):
            square @ square
        return (time.perf_counter() - started) / (8 * 2 * 1024**3)

    share, _, _ = ratios(peak, lambda: stacked(STEPS // 2) / _products(digits.student(0).model), pairs)
    return {"matmul_peak_fraction": share}


def _products(model: torch.nn.Module) -> int:
    """Return the floating point operations in products of one step: forward, weights, and inputs but for the first."""
    found = 0
    for path, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear):
            first = path.endswith("layers.0")
            found += (2 if first else 3) * 2 * BATCH * layer.in_features * layer.out_features
    return found


def one_student_beside_a_loop(pairs: int) -> dict[str, float]:
    """Time our module with one torchvision-size student against a bare loop of the same operations."""
    source = kd.Source("noise", {"image": _pictures(64)}, torch.arange(64) % 4, 4)
    network = kd.Classifier(
        {"image": source.modality["image"]}, 4, encoder={"name": "torchvision", "backbone": "resnet18"}
    )
    rows = torch.arange(64)
    present = torch.ones(64, 1, dtype=torch.bool)
    teacher = Cached(torch.randn(64, 4), ["image"])
    steps = 6

    def module() -> float:
        student = kd.Distiller(network, edges={"t": kd.Edge(teacher, kd.KL(temperature=TEMPERATURE))})
        return fit(student, batches(source, present, StepBatches(rows, batch_size=16, steps=steps, seed=0)))

    def loop() -> float:
        optimizer = torch.optim.Adam(network.train().parameters(), lr=1e-3, fused=True)
        started = time.perf_counter()
        for ids in StepBatches(rows, batch_size=16, steps=steps, seed=0):
            logits = network({"image": source.inputs["image"][ids]}, present[ids]).logits
            loss = F.cross_entropy(logits, source.label[ids]) + divergence(logits, [teacher.logits[ids]])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return (time.perf_counter() - started) / steps

    share, _, _ = ratios(module, loop, pairs)
    return {"module_vs_loop": share}


def _pictures(rows: int) -> Tensor:
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (rows, 3, 64, 64), generator=drawn, dtype=torch.uint8)


def cached_beside_live(pairs: int) -> dict[str, float]:
    """Say which share of the bound 1 + t / 3s cached teachers reach on emoji without augmentation."""
    source = kd.load_source("emoji", size=48, pieces="ngrams")
    data = kd.DataModule(source, batch_size=BATCH)
    data.setup("fit")
    model = {"encoders": {"image": {"name": "cnn"}, "words": {"name": "bag", "hidden": []}}}
    nodes = {name: Frozen(kd.classifier(data, sees=[name], **model).eval()) for name in ("image", "words")}
    rows = data.rows_for(["image", "words"], "complete")
    whole = [data.source.batch(ids, data.available[ids]) for ids in torch.arange(len(source)).split(256)]
    tables = {name: cache(teacher, whole) for name, teacher in nodes.items()}
    steps = 10

    def train(teachers: dict[str, Any]) -> float:
        edges = {name: kd.Edge(teacher, kd.KL(temperature=TEMPERATURE)) for name, teacher in teachers.items()}
        student = kd.Distiller(kd.classifier(data, **model), edges=edges, rows="complete")
        return fit(
            student, batches(data.source, data.available, StepBatches(rows, batch_size=BATCH, steps=steps, seed=0))
        )

    student, batch = kd.classifier(data, **model).train(), data.source.batch(rows[:BATCH], data.available[rows[:BATCH]])

    def forward(call: Callable[[], Any]) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            call()
        return (time.perf_counter() - started) / steps

    shares: list[float] = []
    for _ in range(pairs + 1):
        speed = train(nodes) / train(tables)
        of_teachers = forward(lambda: [teacher(batch) for teacher in nodes.values()])
        of_student = forward(lambda: student(batch.inputs, batch.present))
        shares.append(speed / (1 + of_teachers / (3 * of_student)))
    return {"cached_share_of_bound": statistics.median(shares[1:])}


def keep(figures: dict[str, float], replicas: int) -> None:
    """Write figures and machine into docs/records for docs/benchmarks.md."""
    import pandas as pd

    from kd.record import machine, package_versions

    rows: Sequence[tuple[str, str]] = [(name, f"{value:.3g}") for name, value in figures.items()]
    records = ROOT / "docs" / "records"
    pd.DataFrame(rows, columns=["figure", "measured"]).to_parquet(records / "bench_training.parquet")
    facts = {"machine": machine(), "torch": package_versions()["torch"], "threads": 1, "replicas": replicas}
    frame = pd.DataFrame([(key, str(value)) for key, value in facts.items()], columns=["fact", "value"])
    frame.to_parquet(records / "bench_machine.parquet")


if __name__ == "__main__":
    sys.exit(main())
