"""The model card of a package: its `card.json` for people, as `README.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kd.types import Modality

MODEL_CARD = "README.md"
EVIDENCE = {
    "macs_ratio": "multiply-accumulates left",
    "sparsity": "weights that are zero",
    "parity_max": "greatest difference to what it was made from, relative to the scale of the logits",
    "agreement": "decisions equal to those before, over rows and patterns",
    "int8_share": "products and convolutions that run int8 kernels",
}
"""What of the evidence a reader wants first."""
MADE_OF = {"vector": "numbers", "image": "pixels", "text": "token ids", "sequence": "steps of numbers"}


def model_card(card: Mapping[str, Any]) -> str:
    """Return Markdown: what the model takes and gives, how to ask it, where it came from and what was measured."""
    modality = {name: Modality.of(card["modality"][name]) for name in card["modalities"]}
    classes = ", ".join(card.get("class_names") or []) or f"{card['classes']} outputs"
    parts = [
        f"# {card.get('stage', 'student')}: {card['task']} from {', '.join(modality)}",
        f"Gives logits [rows, {card['classes']}] ({classes}). Any of its modalities may be missing: `present` says "
        "which are there, a column each in the order below, and what is absent may hold anything.",
        _table(["input", "type", "shape of a row", "holds"], [_input(name, each) for name, each in modality.items()]),
        "## How to ask it",
        _asked(card, list(modality)),
        "## Where it came from",
        "\n".join(_origin(card)),
    ]
    evidence = card.get("evidence", {})
    measured = [f"- {words}: {evidence[key]:.4g}" for key, words in EVIDENCE.items() if key in evidence]
    measured += [f"- {note}" for note in evidence.get("notes", [])]
    parts += ["## What was measured", "\n".join(measured)] if measured else []
    if "sensitivity" in evidence:
        parts += ["## What int8 hurts: a branch, or a layer, alone in int8", _sensitive(evidence["sensitivity"])]
    return "\n\n".join(parts) + "\n"


def _sensitive(found: Mapping[str, Any]) -> str:
    rows = [*found["branches"], *found["layers"]]
    shown = {"agreement": ("equal decisions", ".4f"), "parity_max": ("greatest difference", ".1e")}
    columns = [key for key in shown if key in rows[0]]
    lines = [
        [f"`{row.get('layer', row['branch'])}`", *(format(row[key], shown[key][1]) for key in columns)] for row in rows
    ]
    return _table(["alone in int8", *(shown[key][0] for key in columns)], lines)


def _input(name: str, modality: Modality) -> list[str]:
    return [f"`{name}`", str(modality.dtype).removeprefix("torch."), str(list(modality.shape)), MADE_OF[modality.kind]]


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _asked(card: Mapping[str, Any], names: list[str]) -> str:
    feed = ", ".join(f'"{name}": {name}' for name in names)
    if card["kind"] == "torch":
        return (
            "```python\nfrom kd.models.package import load_package\n\n"
            f"logits = load_package(folder)({{{feed}}}, present).logits\n```"
        )
    return (
        '```python\nimport onnxruntime\n\nsession = onnxruntime.InferenceSession("model.onnx")\n'
        f'(logits,) = session.run(None, {{{feed}, "present": present}})\n```'
    )


def _origin(card: Mapping[str, Any]) -> list[str]:
    parents = [f"- made from {stage} `{address[:12]}`" for stage, address in card.get("parents", {}).items()]
    cost = card.get("cost", {})
    size = [f"- {cost['parameters']:,} parameters, {cost['macs']:,} multiply-accumulates per row"] if cost else []
    runs = [f"- opset {card['opset']['ai.onnx']}, checked with {card['runtime']}"] if "opset" in card else []
    files = [f"- sha256 of `{file}`: `{checksum}`" for file, checksum in card["checksums"].items()]
    return [*parents, *size, *runs, *files]
