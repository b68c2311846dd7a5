"""Which products and convolutions of a graph run in int8, as the session that ran them says.

A file of quantise and dequantise pairs promises nothing: what ONNX Runtime does not fuse runs in float between them.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd.compress.context import Model
from kd.compress.graph import CONVOLUTIONS, PRODUCTS

Feed = Mapping[str, np.ndarray[Any, Any]]
INT8 = frozenset(
    {
        *("QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QGemm", "DynamicQuantizeMatMul"),
        *("QLinearConv", "ConvInteger", "DynamicQuantizeLSTM", "QAttention"),
    }
)
FLOAT = frozenset(
    {
        *(*PRODUCTS, *CONVOLUTIONS, "FusedMatMul", "FusedGemm", "FusedConv", "ConvTranspose", "Einsum"),
        *("LSTM", "GRU", "RNN", "Attention", "MultiHeadAttention"),
    }
)
UNKNOWN = 4
"""Length of a dimension that the file leaves open, but for rows."""
KINDS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


def int8_share(graph: Model, feed: Feed | None = None) -> float:
    """Return the share of matrix products and convolutions that run in int8 on this machine, in [0, 1].

    A recurrent layer or attention, whose products no node of its own shows, counts as one of them.

    Args:
        graph: float or int8.
        feed: what it is asked, by name; by default one blank row.
    """
    ran = kernels(graph, feed)
    integer, floating = (sum(ran[kind] for kind in kinds) for kinds in (INT8, FLOAT))
    return integer / (integer + floating) if integer + floating else 0.0


def kernels(graph: Model, feed: Feed | None = None) -> Counter[str]:
    """Return how many nodes of each type ran, by the profile of a session that answered `feed`, or one blank row."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as scratch:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        session.run(None, feed or {value.name: _blank(value) for value in session.get_inputs()})
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    return Counter(event["args"]["op_name"] for event in nodes)


def _blank(value: Any) -> np.ndarray[Any, Any]:
    rows, *rest = value.shape or [1]
    shape = [size if isinstance(size, int) else UNKNOWN for size in rest]
    kind = KINDS[value.type]
    return np.full([rows if isinstance(rows, int) else 1, *shape], kind is np.bool_, dtype=kind)
