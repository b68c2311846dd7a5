"""A network of the user's own, named in a config as `package.module:Class`, in the place of one of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.importing import argument_faults, import_class, import_digest, in_words
from kd.models.adapted import Adapter, Take, take_faults
from kd.models.checkpoint import load_weights
from kd.models.network import Network, as_output, blank_rows, evaluating
from kd.record import file_digest
from kd.registry import suggest
from kd.types import Modality, Output

OWN_KEYS = ("import", "takes", "checkpoint", "prefix")
"""Keys of a model with `import` that are ours; all others are arguments of the class."""


class Imported(Network):
    """Any `nn.Module`, built from its name and arguments.

    With `takes` its forward is called with named arguments (`kd.models.adapted`); without, it is called as ours are:
    inputs by modality, present bool [B, M]. Either way it sees zeros, or padding, in rows that lack a modality.

    Args:
        modality: name -> what it is; its order is the order of `present`'s columns.
        classes: C.
        spec: `import`, and where wanted `takes`, `checkpoint`, `prefix`; the rest are arguments of the class.
        task: name of the task.

    Raises:
        ConfigError: nothing of that name, an argument it refuses, weights of another network, or not C logits.
    """

    def __init__(
        self,
        modality: Mapping[str, Modality | Sequence[int] | Mapping[str, Any]],
        classes: int,
        spec: Mapping[str, Any],
        *,
        task: str = "multiclass",
    ) -> None:
        super().__init__(modality, classes, task=task)
        found = spec_faults(spec, self.modalities)
        if found:
            raise ConfigError(found)
        # The weights belong to the package from now on, not to the file they came from.
        self.spec = {key: value for key, value in spec.items() if key not in ("checkpoint", "prefix")}
        self.network = _built(spec["import"], {k: v for k, v in spec.items() if k not in OWN_KEYS})
        self._adapter = self._adapted(spec["takes"]) if "takes" in spec else None
        if "checkpoint" in spec:
            load_weights(self.network, spec["checkpoint"], spec.get("prefix", ""))
        self._check_answer()

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> Output:
        """Return logits [B, C] for inputs by modality and present bool [B, M]."""
        if self._adapter is not None:
            return self._adapter(self.network, inputs, present)
        shown = {}
        for column, name in enumerate(self.modalities):
            x = inputs[name]
            seen = present[:, column].view(-1, *[1] * (x.dim() - 1))
            shown[name] = torch.where(seen, x, self.modality[name].pad)
        return as_output(self.network(shown, present))

    def _adapted(self, takes: Mapping[str, Any]) -> Adapter:
        found = take_faults(self.network.forward, takes, "takes")
        if found:
            raise ConfigError(found)
        each = {n: Take.of(takes[n], f"takes.{n}", self.modality[n].pad) for n in self.modalities}
        return Adapter(each, self.network.forward)

    @torch.no_grad()
    def _check_answer(self) -> None:
        """Refuse a network that cannot answer two blank rows, or answers with another number of logits."""
        try:
            with evaluating(self):
                logits = self(*blank_rows(self)).logits
        except ConfigError:
            raise
        except Exception as error:  # it is not our code: whatever it raises, the user needs its words
            raise ConfigError(f"import: {self.spec['import']} cannot answer blank rows ({in_words(error)})") from None
        if tuple(logits.shape) != (2, self.classes):
            raise ConfigError(
                f"import: {self.spec['import']} answers 2 rows with {list(logits.shape)}, expected "
                f"[2, {self.classes}], a logit per class; give it that many outputs"
            )


def spec_faults(spec: Mapping[str, Any], sees: Sequence[str], where: str = "") -> list[str]:
    """Return every fault of a model with `import` that can be told without building it."""
    dot = f"{where}." if where else ""
    try:
        factory = import_class(spec["import"], nn.Module, f"{dot}import")
    except ConfigError as error:
        return error.faults
    found = argument_faults(factory, {k: v for k, v in spec.items() if k not in OWN_KEYS}, where)
    takes = spec.get("takes", {})
    if not isinstance(takes, Mapping):
        return [*found, f"{dot}takes: expected a mapping from modality to argument, got {takes!r}"]
    if "takes" in spec:
        unknown = [name for name in takes if name not in sees]
        found += [f"{dot}takes.{name}: the node does not see it; {suggest(str(name), sees)}" for name in unknown]
        lacking = [name for name in sees if name not in takes]
        found += [f"{dot}takes: the node sees {name!r}; name the argument it goes to" for name in lacking]
        forward = factory.forward if isinstance(factory, type) else _anything  # type: ignore[attr-defined]
        found += take_faults(forward, takes, f"{dot}takes")
    for key in ("checkpoint", "prefix"):
        if key in spec and not isinstance(spec[key], str):
            found.append(f"{dot}{key}: expected text, got {spec[key]!r}")
    if "prefix" in spec and "checkpoint" not in spec:
        found.append(f"{dot}prefix: belongs to a checkpoint; name one or remove it")
    if isinstance(spec.get("checkpoint"), str) and not Path(spec["checkpoint"]).expanduser().is_file():
        found.append(f"{dot}checkpoint: {spec['checkpoint']}: no such file")
    return found


def _anything(**arguments: Any) -> None:
    """Stand for the forward of a network that a function has yet to make."""


def _built(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    factory = import_class(name, nn.Module)
    try:
        network = factory(**arguments)
    except Exception as error:  # whatever the user's class raises
        raise ConfigError(f"import: {name} cannot be built ({in_words(error)}); check its arguments") from None
    if not isinstance(network, nn.Module):
        raise ConfigError(f"import: {name} made a {type(network).__name__}, no Module; name a class or function of one")
    return network


def addressed(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model with `import` as it enters a content address: its class by its code, its weights by their bytes.

    Raises:
        ConfigError: the class or the checkpoint is not there.
    """
    found = {**model, "code": import_digest(model["import"], nn.Module)}
    if "checkpoint" in model:
        path = Path(model["checkpoint"]).expanduser()
        if not path.is_file():
            raise ConfigError(f"checkpoint: {path}: no such file")
        found["checkpoint"] = file_digest(path)
    return found
