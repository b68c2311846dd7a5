"""Compression: passes from a package to a new, smaller or faster one; the input stays byte-identical.

A pass is built from its YAML part; it has a `stage` name, the kind of package it `takes` and `gives`, and is called as
`pass_(package, context, folder) -> Package`. The table imports nothing heavy.
"""

from kd.registry import Entry, Registry

PASSES = Registry(
    "pass",
    {
        "structured": Entry(
            "kd.compress.prune:Structured",
            "removes whole channels by group magnitude along the dependency graph",
            "Fang et al. 2023, DepGraph, 2301.12900 (Torch-Pruning)",
        ),
        "tune": Entry("kd.compress.prune:Tune", "trains on with the loss the student was distilled with", "ours"),
        "onnx": Entry("kd.compress.export:Onnx", "exports to ONNX and checks parity on every subset", "torch.onnx"),
        "static_int8": Entry(
            "kd.compress.quantise:StaticInt8",
            "int8 products and convolutions, scales fixed from calibration rows (QDQ)",
            "Jacob et al. 2018, 1712.05877 (ONNX Runtime)",
        ),
    },
)
