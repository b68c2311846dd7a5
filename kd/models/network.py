"""What training, packages and evaluation need of a network, whoever wrote it; what every network of ours answers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.processors import Processor
from kd.types import Modality, Output

Ranges = dict[str, tuple[float, float]]
"""Path of a layer -> smallest and largest value of what enters it."""


class Network(nn.Module):
    """Maps inputs by modality and present bool [B, M] to `Output`.

    Args:
        modality: name -> what it is, or a vector's plain shape; its order is the order of `present`'s columns.
        classes: C, the number of logits.
        task: name of the task, kept for the package's card.

    Attributes:
        spec: the keyword arguments that build it anew; in the package's card.
        processors: modality -> what turns its raw values into tensors.
        class_names: one per logit, where they have names.
        skip_absent: do not compute encoders of absent rows; for one process, and never while exporting.
        ranges: what its weights were trained to expect, where they were trained for int8; its int8 graph uses them.
        shows_parts: give `Output.parts`, where the network has them.
    """

    spec: dict[str, Any]

    def __init__(
        self,
        modality: Mapping[str, Modality | Sequence[int] | Mapping[str, Any]],
        classes: int,
        *,
        task: str = "multiclass",
    ) -> None:
        super().__init__()
        self.modality = {name: Modality.of(described) for name, described in modality.items()}
        self.modalities = list(self.modality)
        self.classes, self.task = classes, task
        self.processors: dict[str, Processor] = {}
        self.class_names: list[str] = []
        self.ranges: Ranges = {}
        self.skip_absent = False
        self.shows_parts = True

    @property
    def scaled(self) -> list[str]:
        """Modalities whose constants are fitted on training rows."""
        return []

    def fit_scalers(self, inputs: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Fit the constants of `scaled` and return the positions of the rows used, by modality."""
        return {}

    def encode(self, raw: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Tensor], Tensor]:
        """Turn raw values into what `forward` takes: inputs by modality, present bool [B, M].

        Args:
            raw: modality -> one value per row: a path or picture, a string, a table's row as a mapping, or a list of
                numbers; None in a row, or no entry for a modality, where it is missing.

        Raises:
            DataError: a name is unknown, lengths differ, nothing is there, or a value cannot be read.
        """
        from kd.models.raw import encode

        return encode(self.modality, self.processors, raw)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write a package (safetensors, card, checksums) that `from_pretrained` reads."""
        from kd.models.package import save_package

        return save_package(self, Path(folder))

    @classmethod
    def from_pretrained(cls, name: str | Path, *, imports: bool = False) -> Network:
        """Load a package written by `save_pretrained`.

        Args:
            name: a folder, or a hub's `owner/name`.
            imports: run the code that the package names, where its network is an imported one.

        Raises:
            RecordError: there is no such package, it is damaged, or it names code and `imports` is False.
        """
        from kd.models.package import load_package, package_folder

        return load_package(package_folder(name), imports=imports)


def blank_rows(network: nn.Module, rows: int = 2) -> tuple[dict[str, Tensor], Tensor]:
    """Return (inputs, present) of a network's shapes that say nothing, all present: zeros, of texts padding.

    Enough to trace it, or to see what its layers give.

    Raises:
        AttributeError: the network does not say what it takes.
    """
    modality: Mapping[str, Modality] = network.modality  # type: ignore[assignment]
    inputs = {name: torch.full((rows, *m.shape), m.pad, dtype=m.dtype) for name, m in modality.items()}
    return inputs, torch.ones(rows, len(inputs), dtype=torch.bool)


def copy_to_change(network: nn.Module) -> Any:
    """Return a copy to train or prune, without the `ranges` that hold for the original alone."""
    changed: Any = copy.deepcopy(network)
    changed.ranges = {}
    return changed


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Put networks into eval mode, and every module back into its own afterwards."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def as_output(returned: Any) -> Output:
    """Return what a network gave as `Output`: an `Output`, plain logits, or anything with `.logits` (transformers).

    Raises:
        ConfigError: it is nothing of these.
    """
    if isinstance(returned, Output):
        return returned
    logits = returned if isinstance(returned, Tensor) else getattr(returned, "logits", None)
    if isinstance(logits, Tensor):
        return Output(logits=logits)
    raise ConfigError(
        f"network: its forward returned {type(returned).__name__}; expected logits [B, C], kd.Output, or an object "
        "with .logits"
    )
