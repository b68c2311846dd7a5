"""What a pass is: a model and a context in, a new model and its evidence out; the input stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from torch import Tensor, nn

from kd.compress.rows import Rows

if TYPE_CHECKING:
    from onnx import ModelProto

Kind = Literal["torch", "onnx"]
Model = Any
"""An `nn.Module`, or an `onnx.ModelProto` where the kind is onnx."""
Evidence = dict[str, Any]
"""What a pass measured, as JSON: `parity_max`, `agreement`, `notes` and what else it has to say."""


@dataclass(frozen=True)
class Context:
    """What a pass may use besides the model.

    Attributes:
        rows: training rows, columns in the model's order of modalities; passes see these and no others.
        task: decides what a decision is; None where nobody knows.
        fit: trains a copy further with the student's own loss and returns it, with the settings of
            `kd.compress.training` as keywords where a pass has them; None where nothing can train.
        losses: the student's own loss on its training rows, batch by batch, for a network given.
        seed: of every draw a pass makes.
        threads: of the sessions a pass opens.
    """

    rows: Rows
    task: str | None = None
    fit: Callable[..., nn.Module] | None = None
    losses: Callable[[nn.Module], Iterator[Tensor]] | None = None
    seed: int = 0
    threads: int = 1


class Pass(Protocol):
    """What an entry of `PASSES` builds."""

    takes: Kind
    gives: Kind

    def __call__(self, model: Model, context: Context) -> tuple[Model, Evidence]:
        """Return a new model and what was measured."""
        ...


def kind_of(model: nn.Module | ModelProto) -> Kind:
    """Say whether a model is a network or a graph."""
    return "torch" if isinstance(model, nn.Module) else "onnx"
