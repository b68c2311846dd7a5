"""Time what compression buys: students pruned, in int8, and both, beside their float graphs; and what one loses.

python scripts/bench_compress.py [--quick]

A ResNet-18 student sees pictures of 96 x 96 and a vector; its normalisation is frozen, as that of pre-trained weights
is, so that it folds into the convolutions. Its weights, and those of the wide ones (products of width 1024, a BERT),
are drawn: those figures are speeds, sizes and kernels, never accuracies. Without --quick a student of a ResNet-18 and a
BERT is trained on emoji as well, pruned to a half and to a quarter of its work, distilled after each, put into int8,
and asked on every subset of the test rows.

Every speed is a ratio of two graphs' rows per second, each at the better of two batches, measured in this run, in turn,
on one thread; the last line is one JSON object. Without --quick the figures and the machine's facts go to docs/records,
where `make docs` reads them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # before torch is imported
    os.environ[_name] = "1"
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from keep_records import keep_bench  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import kd  # noqa: E402
from kd.compress.package import network_cost  # noqa: E402
from kd.compress.pipeline import Stage, compress  # noqa: E402
from kd.compress.rows import answers, every_pattern  # noqa: E402
from kd.evaluate.cost import latency, torch_threads  # noqa: E402
from kd.evaluate.predictor import OnnxPredictor, Predictor, TorchPredictor  # noqa: E402
from kd.models.classifier import Classifier  # noqa: E402
from kd.types import Batch, Modality  # noqa: E402

ROOMS = ("compress", "evaluate", "models")
SIDE, VECTOR, TOKENS, VOCABULARY, CLASSES, ROWS = 96, 32, 24, 2000, 10, 32
BATCHES = (1, 8)
HALF_THE_CHANNELS = 0.268
"""Of the multiply-accumulates: what a ResNet-18 at this resolution keeps with half of its channels."""
BERT = {
    "model_type": "bert",
    "num_hidden_layers": 4,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
}
LARGE_BERT = {**BERT, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
EPOCHS, TUNED = 12, 6
"""Over the emoji: of training, and of training on after pruning."""
CORES = os.cpu_count() or 1
PRUNED = {"name": "structured", "importance": "taylor", "multiple": 16}
Passes = dict[str, dict[str, Any]]


def passes(macs: float, **settings: Any) -> Passes:
    """Return what is timed: the float graph and its int8, and both once more of the pruned network."""
    return {
        "graph": {"name": "onnx"},
        "int8": {"name": "static_int8", "rows": ROWS},
        "pruned": {"name": "structured", "macs": macs, "multiple": 16, "of": "float", **settings},
        "pruned_graph": {"name": "onnx"},
        "pruned_int8": {"name": "static_int8", "rows": ROWS},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer pairs, under 50 seconds; writes nothing")
    quick = parser.parse_args().quick
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model, rows = resnet(Path(folder)), pictures()
        speeds = {"ResNet-18": timed(model, rows, passes(HALF_THE_CHANNELS), 200 if quick else 400)}
        if not quick:
            speeds |= {name: timed(*make(), passes(0.5), 400) for name, make in WIDE.items()}
            kept = trained(Path(folder))
    figures = headline(speeds["ResNet-18"])
    for name, value in figures.items():
        print(f"{name:<32}{value:8.3f}")
    if not quick:
        tables = {"speeds": [spelt(name, found) for name, found in speeds.items()], "trained": kept}
        keep_bench("compress", ROOMS, figures, tables)
    print(json.dumps(figures))
    return 0


def told(stage: str, seconds: float | None) -> None:
    if seconds is not None:
        print(f"{stage:<16}{seconds:6.1f} s", flush=True)


def timed(model: nn.Module, rows: Batch, wanted: Passes, repeats: int) -> dict[str, float]:
    """Return speed-ups, reductions of bytes and of multiply-accumulates as how many times, and the share of int8."""
    made = {stage.name: stage for stage in compress(model, rows, wanted, report=told)}
    graphs = {name: OnnxPredictor(made[name].model) for name in ("graph", "int8", "pruned_graph", "pruned_int8")}
    faster = rates(graphs, rows, repeats)
    smaller = {name: graphs["graph"].bytes / each.bytes for name, each in graphs.items()}
    cheaper = network_cost(model)["macs"] / network_cost(made["pruned"].model)["macs"]
    return {
        "int8": faster["int8"],
        "int8_bytes": smaller["int8"],
        "macs": cheaper,
        "pruned": faster["pruned_graph"],
        "both": faster["pruned_int8"],
        "both_bytes": smaller["pruned_int8"],
        "int8_share": min(made[name].evidence["int8_share"] for name in ("int8", "pruned_int8")),
    }


def rates(graphs: dict[str, OnnxPredictor], rows: Batch, repeats: int) -> dict[str, float]:
    """Return rows per second as how many times the first graph's, each at its better batch."""
    best: dict[str, float] = {}
    reference = 0.0
    for batch in BATCHES:
        asked = ({name: value[:batch] for name, value in rows.inputs.items()}, rows.present[:batch])
        found = latency(graphs, asked, max(repeats // batch, 10))
        # The ratio of neighbours in time is what a round measures well; the reference ties the batches together.
        seconds = found["graph"]["median_ms"] / batch
        reference = max(reference, 1 / seconds)
        best = {name: max(best.get(name, 0.0), 1 / (seconds * each["ratio"])) for name, each in found.items()}
    return {name: rate / reference for name, rate in best.items()}


def headline(found: dict[str, float]) -> dict[str, float]:
    return {
        "int8_vs_float_resnet18": found["int8"],
        "int8_bytes_ratio": found["int8_bytes"],
        "pruned_speed_over_macs_ratio": found["pruned"] / found["macs"],
        "pruned_int8_vs_float": found["both"],
        "pruned_int8_bytes_ratio": found["both_bytes"],
        "int8_kernel_share": found["int8_share"],
    }


def spelt(name: str, found: dict[str, float]) -> dict[str, str]:
    """Return one line of the table of speeds."""
    return {
        "student": name,
        "int8, faster": f"{found['int8']:.2f}×",
        "int8, smaller": f"{found['int8_bytes']:.2f}×",
        "pruned, MACs": f"{found['macs']:.2f}×",
        "pruned, faster": f"{found['pruned']:.2f}×",
        "both, faster": f"{found['both']:.2f}×",
        "both, smaller": f"{found['both_bytes']:.1f}×",
        "int8 kernels": f"{found['int8_share']:.0%}",
    }


def drawn(inputs: dict[str, Tensor]) -> Batch:
    return Batch.of(inputs, torch.zeros(ROWS, dtype=torch.int64))


def pictures() -> Batch:
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(256, (ROWS, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8)
    return drawn({"image": image, "vector": torch.randn(ROWS, VECTOR, generator=draw)})


def resnet(folder: Path) -> Classifier:
    """Return a student around a ResNet-18 whose statistics are those of the pictures."""
    from torchvision import models

    torch.manual_seed(0)
    plain = models.resnet18(weights=None).train()
    for norm in (m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = None  # the plain mean over what is seen
    with torch.no_grad():
        plain(pictures().inputs["image"] / 127.5 - 1)
    save_file(plain.state_dict(), folder / "drawn.safetensors")
    modality = {"image": Modality((3, SIDE, SIDE), "image"), "vector": Modality((VECTOR,))}
    return Classifier(modality, CLASSES, encoders={"image": around(folder / "drawn.safetensors")}).eval()


def around(weights: Path) -> dict[str, Any]:
    return {"name": "torchvision", "backbone": "resnet18", "pretrained": str(weights)}


def wide_products() -> tuple[Classifier, Batch]:
    torch.manual_seed(0)
    encoder = {"name": "mlp", "hidden": [1024, 1024]}
    model = Classifier({"a": Modality((512,)), "b": Modality((512,))}, CLASSES, width=1024, encoder=encoder)
    return model.eval(), drawn({name: torch.randn(ROWS, 512) for name in ("a", "b")})


def wide_words() -> tuple[Classifier, Batch]:
    torch.manual_seed(0)
    modality = {"words": Modality((TOKENS,), "text", vocabulary=VOCABULARY), "vector": Modality((VECTOR,))}
    encoders = {"words": {"name": "transformers", "config": LARGE_BERT}}
    words = torch.randint(1, VOCABULARY, (ROWS, TOKENS))
    return Classifier(modality, CLASSES, encoders=encoders).eval(), drawn(
        {"words": words, "vector": torch.randn(ROWS, VECTOR)}
    )


WIDE: dict[str, Callable[[], tuple[Classifier, Batch]]] = {
    "products of width 1024": wide_products,
    "BERT, 4 layers of 768": wide_words,
}


def trained(folder: Path) -> list[dict[str, str]]:
    """Return what a ResNet-18 and BERT student of emoji keeps of its accuracy, stage by stage."""
    data = kd.DataModule(kd.load_source("emoji", size=48, pieces="ngrams"), batch_size=32)
    encoders = {"image": around(looked(data, folder)), "words": {"name": "transformers", "config": BERT}}
    student = kd.classifier(data, encoders=encoders)
    fit(student, data, EPOCHS)
    training = data.source.batch(data.split.train, data.available[data.split.train])
    wanted: Passes = {
        "graph": {"name": "onnx"},
        "int8": {"name": "static_int8"},
        "half": {**PRUNED, "macs": 0.5, "of": "float"},
        "half_tuned": {"name": "tune"},
        "half_graph": {"name": "onnx"},
        "half_int8": {"name": "static_int8"},
        "quarter": {**PRUNED, "macs": HALF_THE_CHANNELS / 0.5, "of": "half_tuned"},
        "quarter_tuned": {"name": "tune"},
        "quarter_graph": {"name": "onnx"},
        "quarter_int8": {"name": "static_int8"},
    }

    def losses(model: nn.Module) -> Any:
        for chosen in torch.arange(len(training)).split(64):
            shown = {name: value[chosen] for name, value in training.inputs.items()}
            yield F.cross_entropy(model(shown, training.present[chosen]).logits, training.label[chosen])

    def tune(model: nn.Module) -> nn.Module:
        return fit(model, data, TUNED, teacher=student)

    made = compress(student, training, wanted, fit=tune, losses=losses, report=told)
    return kept(student, made, data)


def looked(data: kd.DataModule, folder: Path) -> Path:
    """Train a plain ResNet-18 on the pictures and return the file of its weights: what stands for pre-training."""
    from torchvision import models

    torch.manual_seed(0)
    plain = models.resnet18(weights=None, num_classes=data.source.classes).train()
    optimiser = torch.optim.AdamW(plain.parameters(), lr=1e-3)
    order = [data.split.train[torch.randperm(len(data.split.train))] for _ in range(EPOCHS)]
    with torch_threads(CORES):  # training is not what is timed
        for chosen in itertools.chain.from_iterable(rows.split(32) for rows in order):
            rows = data.source.batch(chosen, data.available[chosen])
            optimiser.zero_grad()
            F.cross_entropy(plain(rows.inputs["image"] / 127.5 - 1), rows.label).backward()
            optimiser.step()
    save_file(plain.state_dict(), folder / "looked.safetensors")
    return folder / "looked.safetensors"


def fit(model: Any, data: kd.DataModule, epochs: int, teacher: nn.Module | None = None) -> nn.Module:
    edges = [] if teacher is None else [kd.Edge(teacher, kd.KL(temperature=3))]
    module = kd.Distiller(model, edges=edges, drop=0.3, select="subsets", optimizer={"name": "adamw", "lr": 3e-4})
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    with torch_threads(CORES):  # training is not what is timed
        pl.Trainer(max_epochs=epochs, enable_model_summary=False, **quiet).fit(module, data)  # type: ignore[arg-type]
    return model.eval()  # type: ignore[no-any-return]


def kept(student: nn.Module, made: list[Stage], data: kd.DataModule) -> list[dict[str, str]]:
    """Return a line per stage: accuracy on every subset of the test rows, bytes, and the speed of its graph."""
    rows = data.source.batch(data.split.test, data.source.observed[data.split.test])
    opened: dict[str, Predictor] = {"float": TorchPredictor(student)}
    opened |= {
        s.name: TorchPredictor(s.model) if isinstance(s.model, nn.Module) else OnnxPredictor(s.model) for s in made
    }
    scores = {name: accuracies(each, rows) for name, each in opened.items()}
    graphs = {name: each for name, each in opened.items() if isinstance(each, OnnxPredictor)}
    faster = rates(graphs, rows, 100)
    names = [
        "+".join(n for n, on in zip(rows.inputs, row, strict=True) if on) for row in every_pattern(list(rows.inputs))
    ]
    return [
        {
            "stage": name,
            **{f"{subset}, %": f"{100 * score:.1f}" for subset, score in zip(names, own, strict=True)},
            "mean, %": f"{100 * sum(own) / len(own):.1f}",
            "KiB": f"{opened[name].bytes / 1024:,.0f}",
            "faster than the float graph": f"{faster[name]:.2f}×" if name in faster else "–",
        }
        for name, own in scores.items()
    ]


def accuracies(predictor: Predictor, rows: Batch) -> list[float]:
    """Return the accuracy under every pattern, over the rows that it leaves something."""
    logits = answers(predictor, rows)
    shown = [(rows.present & pattern).any(1) for pattern in every_pattern(list(rows.inputs))]
    right = logits.argmax(-1) == rows.label
    return [own[some].double().mean().item() for own, some in zip(right, shown, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
