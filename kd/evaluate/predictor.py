"""One contract for every stage: (inputs, present) -> logits, whether PyTorch or ONNX Runtime computes them.

What is hidden may hold anything, NaN included; columns of `present` follow `modalities`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from kd.errors import RecordError

PRESENT, LOGITS = "present", "logits"
"""Names of the availability input and of the output in every ONNX file of ours."""

Array = np.ndarray[Any, np.dtype[Any]]


class Predictor(Protocol):
    """What evaluation needs of a model, wherever it runs."""

    modalities: list[str]
    """Names of the inputs, in the order of `present`'s columns."""

    @property
    def bytes(self) -> int:
        """Size of the weights, in bytes."""
        ...

    def __call__(self, inputs: Mapping[str, Any], present: Any) -> Array:
        """Return logits [B, C] for inputs [B, ...] by modality and present bool [B, M]."""
        ...


class TorchPredictor:
    """A network of ours in eval mode, without gradients; its threads are torch's own.

    Args:
        model: maps (inputs, present) to `Output` and names its `modalities`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model.eval()
        self.modalities: list[str] = list(model.modalities)  # type: ignore[arg-type]
        self.takes_present: bool = getattr(model, "takes_present", True)
        first = next(model.parameters())
        self.device, self.dtype = first.device, first.dtype

    @property
    def bytes(self) -> int:
        """Size of parameters and buffers, in bytes."""
        return sum(value.numel() * value.element_size() for value in self.model.state_dict().values())

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, Any], present: Any) -> Array:
        """Return logits [B, C]; inputs are read by name, whatever their order."""
        tensors = {name: self._tensor(inputs[name]) for name in self.modalities}
        seen = torch.as_tensor(present, dtype=torch.bool, device=self.device)
        return np.asarray(self.model(tensors, seen).logits.cpu())

    def _tensor(self, value: Any) -> Tensor:
        tensor = torch.as_tensor(value, device=self.device)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor


class OnnxPredictor:
    """An ONNX graph on the CPU by ONNX Runtime.

    Args:
        graph: a file or an `onnx.ModelProto` whose inputs are the modalities and `present`, first output the logits;
            one without `present` needs all of its inputs.
        threads: of this session, within and between operators.

    Raises:
        RecordError: the file is missing or damaged.
    """

    def __init__(self, graph: str | Path | Any, *, threads: int = 1) -> None:
        import onnxruntime as ort

        written = str(graph) if isinstance(graph, str | Path) else graph.SerializeToString()
        self.threads = threads
        self._bytes = (
            Path(written).stat().st_size if isinstance(written, str) and Path(written).is_file() else len(written)
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self.session = ort.InferenceSession(written, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class below Exception
            reason = " ".join(str(error).split())[:200]
            named = written if isinstance(written, str) else "graph"
            raise RecordError(f"{named}: not an ONNX model that runs here ({reason}); export it again") from None
        names = [value.name for value in self.session.get_inputs()]
        self.takes_present = PRESENT in names
        self.modalities = [name for name in names if name != PRESENT]
        self._output = self.session.get_outputs()[0].name

    @property
    def bytes(self) -> int:
        """Size of the file, in bytes."""
        return self._bytes

    def __call__(self, inputs: Mapping[str, Any], present: Any) -> Array:
        """Return logits [B, C]; inputs are read by name, whatever their order.

        Raises:
            RecordError: something is absent, and the graph takes no `present`.
        """
        feed = {name: _single(inputs[name]) for name in self.modalities}
        seen = np.asarray(present, dtype=bool)
        if self.takes_present:
            feed[PRESENT] = seen
        elif not seen.all():
            raise RecordError(f"graph: it takes no input {PRESENT!r}, so every row needs {', '.join(self.modalities)}")
        return np.asarray(self.session.run([self._output], feed)[0])


def _single(value: Any) -> Array:
    array = np.asarray(value)
    return array.astype(np.float32, copy=False) if np.issubdtype(array.dtype, np.floating) else array
