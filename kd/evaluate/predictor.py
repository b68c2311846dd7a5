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
    """An ONNX file on the CPU by ONNX Runtime.

    Args:
        path: file whose inputs are the modalities and `present`, first output the logits.
        threads: of this session, within and between operators.

    Raises:
        RecordError: the file is missing, damaged, or has no input `present`.
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        import onnxruntime as ort

        self.path, self.threads = Path(path), threads
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class below Exception
            reason = " ".join(str(error).split())[:200]
            raise RecordError(f"{path}: not an ONNX model that runs here ({reason}); export it again") from None
        names = [value.name for value in self.session.get_inputs()]
        if PRESENT not in names:
            raise RecordError(f"{path}: expected an input named {PRESENT!r}, got {', '.join(names)}; export it again")
        self.modalities = [name for name in names if name != PRESENT]
        self._output = self.session.get_outputs()[0].name

    @property
    def bytes(self) -> int:
        """Size of the file, in bytes."""
        return self.path.stat().st_size

    def __call__(self, inputs: Mapping[str, Any], present: Any) -> Array:
        """Return logits [B, C]; inputs are read by name, whatever their order."""
        feed = {name: _single(inputs[name]) for name in self.modalities}
        feed[PRESENT] = np.asarray(present, dtype=bool)
        return np.asarray(self.session.run([self._output], feed)[0])


def _single(value: Any) -> Array:
    array = np.asarray(value)
    return array.astype(np.float32, copy=False) if np.issubdtype(array.dtype, np.floating) else array
