"""Quantisation-aware training: a network learns with weights and activations already on the grid of its int8 graph.

Weights lie on the grid that their largest value sets, per output channel of products and convolutions, per table of
embeddings; what enters a product or convolution is rounded in a moving range; gradients pass straight through, biases
stay float. The network that comes out holds weights on the grid and the ranges, which the int8 graph then uses.
`torchao` has no such training for convolutions, nor ranges fixed beforehand, and `torch.ao.quantization` is deprecated.
Source: Zafrir et al. 2019, Q8BERT (1910.06188), with the student's own teachers and loss.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kd.compress.calibration import calibration
from kd.compress.context import Context, Evidence, Kind, Model
from kd.compress.quantise import COMPARED
from kd.compress.rounding import Entering, RoundedWeight
from kd.compress.rows import answers, differences
from kd.compress.training import Training
from kd.errors import ConfigError, KDError
from kd.evaluate.predictor import PRESENT, TorchPredictor
from kd.models.classifier import Classifier
from kd.models.network import Ranges, copy_to_change

MEASURED = 512
"""Rows, under missing patterns in turn, that set the ranges before training; what is frozen keeps those."""


@dataclass(frozen=True, kw_only=True)
class Qat(Training):
    """Train on, with the loss that the student was distilled with, as the int8 graph will compute.

    Args:
        like, steps, optimizer, schedule: see `Training`.
        average: share of a range that each step keeps, in (0, 1); the rest is the step's smallest and largest value.
        activations: `unsigned` with a zero point, as a graph with learnt ranges has them by default, or `signed` where
            the int8 graph will be, for TensorRT.
    """

    average: float = 0.99
    activations: Literal["unsigned", "signed"] = "unsigned"
    takes: ClassVar[Kind] = "torch"
    gives: ClassVar[Kind] = "torch"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.average < 1:
            raise ConfigError(f"qat.average: expected a share in (0, 1), got {self.average}")

    def __call__(self, model: Model, context: Context) -> tuple[Model, Evidence]:
        """Return the network with weights on the grid and `ranges`; its evidence compares it, rounding, with before.

        Raises:
            KDError: the context cannot train, or the network has nothing that is quantised.
        """
        if not any(True for _ in _layers(model)):
            raise KDError("qat: the network has no product, convolution or embedding; drop the pass")
        unsigned = self.activations == "unsigned"
        prepared = prepare(copy_to_change(model), unsigned=unsigned, average=self.average)
        _measure(prepared, context)
        trained = finish(self.train(prepared, context), model)
        expected, got = (
            answers(TorchPredictor(network), context.rows, limit=COMPARED)
            for network in (model, prepare(trained, unsigned=unsigned))
        )
        return trained, {**differences(expected, got, context.task), "notes": _notes(trained)}


def prepare(model: nn.Module, *, unsigned: bool = True, average: float = Qat.average) -> nn.Module:
    """Return a copy of a network that computes as its int8 graph will, and learns so.

    Paths of its layers stay; its state has more entries. Its ranges are those it came with, and move while it trains.

    Args:
        model: stays as it is.
        unsigned: activations that its int8 graph will have.
        average: see `Qat`.
    """
    prepared = copy.deepcopy(model).eval()
    known: Ranges = getattr(prepared, "ranges", {})
    layers = list(_layers(prepared))
    multiplied = {id(layer.weight) for _, layer in layers if not isinstance(layer, nn.Embedding)}
    for path, layer in layers:
        if not isinstance(layer, nn.Embedding):
            layer.entering = Entering(known.get(path), average, unsigned=unsigned)
            layer.register_forward_pre_hook(_enter, with_kwargs=True)
        rounded = RoundedWeight(multiplied=id(layer.weight) in multiplied)
        parametrize.register_parametrization(layer, "weight", rounded)
    # Stand-ins that fill an absent modality show encoders what they have to be measured on.
    if isinstance(prepared, Classifier) and not prepared.absent.filled:
        prepared.register_forward_pre_hook(_tell_encoders, with_kwargs=True)
        for encoder in prepared.encoders.values():
            encoder.register_forward_pre_hook(_borrow)
    prepared.register_forward_hook(_move)
    return prepared


def finish(trained: nn.Module, model: nn.Module) -> nn.Module:
    """Return a plain copy of a network with the weights, on their grid, and the ranges of its prepared twin.

    Args:
        trained: what `prepare` made, trained.
        model: what it was made from.
    """
    finished: Any = copy_to_change(model)
    weights = {f"{path}.weight": layer.weight.detach() for path, layer in _layers(trained, remove_duplicate=False)}
    state = trained.state_dict() | weights
    finished.load_state_dict({name: state[name] for name in finished.state_dict()})
    ranges = {path: layer.entering.range for path, layer in _layers(trained) if hasattr(layer, "entering")}
    finished.ranges = {path: held for path, held in ranges.items() if held is not None}
    return finished.cpu().eval()


def _layers(model: nn.Module, *, remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
    for path, layer in model.named_modules(remove_duplicate=remove_duplicate):
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Embedding):
            yield path, layer


def _entering(model: nn.Module) -> list[Entering]:
    return [module for module in model.modules() if isinstance(module, Entering)]


def _enter(layer: Any, given: Sequence[Tensor], named: Mapping[str, Tensor]) -> tuple[tuple[Tensor], dict[str, Tensor]]:
    (x,) = (*given, *named.values())
    return (layer.entering(x),), {}


def _tell_encoders(network: Any, given: Sequence[Any], named: Mapping[str, Any]) -> None:
    present = named["present"] if "present" in named else given[1]
    for column, encoder in enumerate(network.encoders.values()):
        encoder.seen = present[:, column]


def _borrow(encoder: Any, given: tuple[Tensor]) -> tuple[Tensor] | None:
    """Show an encoder a row that has its modality in the place of rows that lack it, whose answers nobody reads.

    What stands there otherwise may be far outside the data, and would set the ranges; see `Calibrated`.
    """
    (x,), seen = given, encoder.seen
    some = bool(seen.any())
    for entering in _entering(encoder):
        entering.counts = some
    # Fewer rows: those that lack it were left out already.
    if not some or len(x) < len(seen):
        return None
    rows = torch.arange(len(x), device=x.device)
    return (x[torch.where(seen, rows, seen.nonzero()[0])],)


def _move(network: nn.Module, given: Any, returned: Any) -> None:
    if network.training:
        for entering in _entering(network):
            entering.move()


@torch.no_grad()
def _measure(prepared: Any, context: Context) -> None:
    """Set the ranges from training rows under missing patterns, without dropout and before anything is rounded."""
    names = [*prepared.modalities, *([PRESENT] if getattr(prepared, "takes_present", True) else [])]
    for entering in _entering(prepared):
        entering.train()
    for feed in calibration(context, names, MEASURED):
        shown = {name: torch.as_tensor(value) for name, value in feed.items()}
        present = shown.pop(PRESENT, torch.ones(len(next(iter(shown.values()))), len(shown), dtype=torch.bool))
        prepared(shown, present)
    for entering in _entering(prepared):
        entering.move()


def _notes(trained: Any) -> list[str]:
    missed = [p for p, layer in _layers(trained) if p not in trained.ranges and not isinstance(layer, nn.Embedding)]
    return [f"never called, so no range was learnt: {', '.join(missed)}"] if missed else []
