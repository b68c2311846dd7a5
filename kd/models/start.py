"""Start a network from others that were trained on fewer modalities: their encoders, and their part of the answer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from kd.errors import ConfigError
from kd.models.classifier import Classifier
from kd.models.fusion.concat import Concat
from kd.models.network import Network
from kd.registry import suggest


def start_from(network: Network, origins: Mapping[str, Network]) -> Network:
    """Copy the encoder of every modality named from another network, in place, and return the network.

    Where both keep each modality apart until the head (fusion `concat`), the modality's columns of the head come along
    and the biases of all origins are added up. A network whose every modality comes from a unimodal one then begins as
    their unnormalised product, `z(x) = sum_m z_m(x_m)` (products of experts: Hinton 2002, Neural Computation 14(8)).
    What a stand-in adds beside the modalities is no origin's: its columns of the head begin at zero. With any other
    fusion, fusion and head stay as they were drawn.

    Args:
        network: one of ours.
        origins: modality -> network of ours that has an encoder of the same form for it.

    Raises:
        ConfigError: every modality that cannot be copied, its place below `init`.
    """
    faults = [fault for name in origins if (fault := _fault(network, name, origins[name]))]
    if faults:
        raise ConfigError(faults)
    ours, theirs = _ours(network), {name: _ours(origin) for name, origin in origins.items()}
    for name, origin in theirs.items():
        ours.encoders[name].load_state_dict(origin.encoders[name].state_dict())
    if all(isinstance(model.fusion, Concat) for model in (ours, *theirs.values())):
        _copy_heads(ours, theirs)
    return network


@torch.no_grad()
def _copy_heads(network: Classifier, origins: Mapping[str, Classifier]) -> None:
    for name, origin in origins.items():
        network.head.weight[:, _columns(network, name)] = origin.head.weight[:, _columns(origin, name)]
    first_of_extra = _width(network) * len(network.modalities)
    network.head.weight[:, first_of_extra:] = 0
    # One origin of several modalities has one bias.
    distinct = {id(origin): origin.head.bias for origin in origins.values()}
    network.head.bias.copy_(torch.stack(list(distinct.values())).sum(dim=0))


def _columns(network: Classifier, name: str) -> slice:
    # Those of the modalities come first, what a stand-in adds after them.
    width = _width(network)
    first = network.modalities.index(name) * width
    return slice(first, first + width)


def _width(network: Classifier) -> int:
    return network.head.in_features // (len(network.modalities) + network.absent.extra)


def _ours(network: Network) -> Classifier:
    if isinstance(network, Classifier):
        return network
    raise ConfigError(f"init: only networks of ours have encoders to copy, not {type(network).__name__}")


def _fault(network: Network, name: str, origin: Network) -> str | None:
    ours, theirs = _ours(network), _ours(origin)
    for role, model in (("the network", ours), ("its origin", theirs)):
        if name not in model.modalities:
            return f"init.{name}: {role} does not see it; {suggest(name, model.modalities)}"
    if ours.classes != theirs.classes:
        return f"init.{name}: {theirs.classes} classes there and {ours.classes} here; name a network of this task"
    if _shapes(ours.encoders[name]) != _shapes(theirs.encoders[name]):
        return f"init.{name}: the encoder there has another form; give both nodes the same encoders.{name} and width"
    return None


def _shapes(encoder: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in encoder.state_dict().items()}
