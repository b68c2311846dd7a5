"""Time what compression buys: a ResNet-18 student pruned, in int8, and both, beside its float graph.

python scripts/bench_compress.py [--quick]

The student sees pictures of 96 x 96 and a vector; its normalisation is frozen, as that of pre-trained weights is, so
that it folds into the convolutions. Weights are drawn: the figures are speeds, sizes and kernels, never accuracies.
Every speed is a ratio of two graphs' rows per second, each at the better of two batches, measured in this run, in turn,
on one thread; the last line is one JSON object. Without --quick the figures and the machine's facts go to docs/records,
where `make docs` reads them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # before torch is imported
    os.environ[_name] = "1"
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from kd.compress.pipeline import Stage, compress  # noqa: E402
from kd.evaluate.cost import latency, macs  # noqa: E402
from kd.evaluate.predictor import OnnxPredictor  # noqa: E402
from kd.models.classifier import Classifier  # noqa: E402
from kd.models.network import blank_rows  # noqa: E402
from kd.types import Batch, Modality  # noqa: E402

SIDE, VECTOR, CLASSES, ROWS = 96, 32, 10, 32
BATCHES = (1, 8)
HALF_THE_CHANNELS = 0.268
"""Of the multiply-accumulates: what a ResNet-18 at this resolution keeps with half of its channels."""
PASSES: dict[str, dict[str, Any]] = {
    "graph": {"name": "onnx"},
    "int8": {"name": "static_int8", "rows": ROWS},
    "pruned": {"name": "structured", "macs": HALF_THE_CHANNELS, "multiple": 16, "of": "float"},
    "pruned_graph": {"name": "onnx"},
    "pruned_int8": {"name": "static_int8", "rows": ROWS},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer pairs, under 50 seconds; writes nothing")
    quick = parser.parse_args().quick
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    model, rows = resnet(), pictures()
    made = {stage.name: stage for stage in compress(model, rows, PASSES, report=told)}
    figures = measured(model, made, rows, repeats=80 if quick else 400)
    for name, value in figures.items():
        print(f"{name:<32}{value:8.3f}")
    print(json.dumps(figures))
    return 0


def told(stage: str, seconds: float | None) -> None:
    if seconds is not None:
        print(f"{stage:<16}{seconds:6.1f} s", flush=True)


def measured(model: nn.Module, made: dict[str, Stage], rows: Batch, repeats: int) -> dict[str, float]:
    """Return the figures; speed-ups and size reductions as how many times."""
    graphs = {name: OnnxPredictor(made[name].model) for name in ("graph", "int8", "pruned_graph", "pruned_int8")}
    faster = speeds(graphs, rows, repeats)
    smaller = {name: graphs["graph"].bytes / each.bytes for name, each in graphs.items()}
    cheaper = macs(model, *blank_rows(model)) / macs(made["pruned"].model, *blank_rows(made["pruned"].model))
    return {
        "int8_vs_float_resnet18": faster["int8"],
        "int8_bytes_ratio": smaller["int8"],
        "pruned_speed_over_macs_ratio": faster["pruned_graph"] / cheaper,
        "pruned_int8_vs_float": faster["pruned_int8"],
        "pruned_int8_bytes_ratio": smaller["pruned_int8"],
        "int8_kernel_share": min(made[name].evidence["int8_share"] for name in ("int8", "pruned_int8")),
        "pruned_vs_float": faster["pruned_graph"],
        "macs_ratio": cheaper,
    }


def speeds(graphs: dict[str, OnnxPredictor], rows: Batch, repeats: int) -> dict[str, float]:
    """Return rows per second as how many times the first graph's, each at its better batch."""
    best: dict[str, float] = {}
    reference = 0.0
    for batch in BATCHES:
        asked = ({name: value[:batch] for name, value in rows.inputs.items()}, rows.present[:batch])
        timed = latency(graphs, asked, max(repeats // batch, 10))
        # The ratio of neighbours in time is what a round measures well; the reference ties the batches together.
        seconds = timed["graph"]["median_ms"] / batch
        reference = max(reference, 1 / seconds)
        best = {name: max(best.get(name, 0.0), 1 / (seconds * each["ratio"])) for name, each in timed.items()}
    return {name: rate / reference for name, rate in best.items()}


def pictures() -> Batch:
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(256, (ROWS, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8)
    vector = torch.randn(ROWS, VECTOR, generator=draw)
    return Batch.of({"image": image, "vector": vector}, torch.zeros(ROWS, dtype=torch.int64))


def resnet() -> Classifier:
    """Return a student around a ResNet-18 whose statistics are those of the pictures."""
    from torchvision import models

    torch.manual_seed(0)
    plain = models.resnet18(weights=None).train()
    for norm in (m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = None  # the plain mean over what is seen
    with torch.no_grad():
        plain(pictures().inputs["image"] / 127.5 - 1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "resnet18.safetensors"
        save_file(plain.state_dict(), file)
        encoder = {"name": "torchvision", "backbone": "resnet18", "pretrained": str(file)}
        modality = {"image": Modality((3, SIDE, SIDE), "image"), "vector": Modality((VECTOR,))}
        return Classifier(modality, CLASSES, encoders={"image": encoder}).eval()


if __name__ == "__main__":
    start = time.perf_counter()
    status = main()
    sys.exit(status)
