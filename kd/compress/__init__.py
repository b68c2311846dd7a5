"""Compression: passes from a model to a new, smaller or faster one and its evidence; the model given stays as it is.

A pass is built from its YAML part; it says what kind of model it `takes` and `gives`, a network or a graph, and is
called as `pass_(model, context) -> (model, evidence)`. `kd.compress.pipeline` applies them in turn to any `nn.Module`;
packages (`kd.compress.package`) put what comes out on disk. The table imports nothing heavy.
"""

from kd.registry import Entry, Registry

PASSES = Registry(
    "pass",
    {
        "structured": Entry(
            "kd.compress.prune:Structured",
            "removes whole channels and heads, by magnitude or by the loss, under a floor for every modality",
            "Fang et al. 2023, DepGraph, 2301.12900 (Torch-Pruning); Molchanov et al. 2019, 1906.10771",
        ),
        "unstructured": Entry(
            "kd.compress.sparse:Unstructured",
            "sets the smallest weights to zero and holds them there; no dense runtime is faster for it",
            "Han et al. 2015, 1506.02626; Zhu & Gupta 2017, 1710.01878",
        ),
        "tune": Entry("kd.compress.tune:Tune", "trains on with the loss the student was distilled with", "ours"),
        "qat": Entry(
            "kd.compress.qat:Qat",
            "trains on with weights and activations rounded to int8; the int8 graph takes the ranges it learnt",
            "Zafrir et al. 2019, Q8BERT, 1910.06188",
        ),
        "onnx": Entry("kd.compress.export:Onnx", "exports to ONNX and checks parity on every subset", "torch.onnx"),
        "static_int8": Entry(
            "kd.compress.quantise:StaticInt8",
            "int8 products, convolutions and embeddings, scales fixed from calibration rows (QDQ)",
            "Jacob et al. 2018, 1712.05877 (ONNX Runtime)",
        ),
        "dynamic_int8": Entry(
            "kd.compress.dynamic:DynamicInt8",
            "int8 products and embeddings without calibration: scales from each batch, which its rows share",
            "ONNX Runtime; embeddings: Zafrir et al. 2019, Q8BERT, 1910.06188",
        ),
    },
)
