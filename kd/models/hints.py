"""What a network's layers give while it answers, for objectives that compare more than logits."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.models.network import as_output
from kd.types import Output

OFFERED = 4
"""So many near names are offered for a layer that is not there."""


def answer(network: nn.Module, inputs: Mapping[str, Tensor], present: Tensor, layers: Sequence[str] = ()) -> Output:
    """Return a network's answer with what some of its layers gave on the way, as `Output.hints`.

    A layer that gives several tensors shows the first. Layers of one modality's encoder show zeros in rows that lack
    it, as `Output.parts` does.

    Args:
        network: maps (inputs, present) to logits, `Output`, or anything with `.logits`.
        inputs: modality -> [B, ...].
        present: bool [B, M], columns in the order of the network's modalities.
        layers: paths of modules.

    Raises:
        ConfigError: there is no such layer, the network does not call it, or it gives no row per row.
    """
    if not layers:
        return as_output(network(inputs, present))
    with _watching(network, layers) as seen:
        output = as_output(network(inputs, present))
    hints = {}
    for path in layers:
        value = seen.get(path)
        if value is None or value.dim() < 2 or len(value) != len(present):
            gave = (
                "it is not called as a whole" if value is None else f"it gives {list(value.shape)}, not a row per row"
            )
            raise ConfigError(f"layer {path!r} cannot be compared: {gave}; name another one")
        hints[path] = _where_present(network, path, value, present)
    return replace(output, hints=output.hints | hints)


def layer_faults(network: nn.Module, layers: Iterable[str]) -> list[str]:
    """Return a sentence for every path that names no layer of a network, with the nearest that there are."""
    known = [path for path, _ in network.named_modules() if path]
    found = []
    for path in layers:
        if path not in known:
            near = difflib.get_close_matches(path, known, n=OFFERED, cutoff=0.3) or known[:OFFERED]
            found.append(f"no layer {path!r} in {type(network).__name__}; near it: {', '.join(near)}")
    return found


@contextmanager
def _watching(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Keep what layers give while a network answers, on all rows: encoders are not skipped for absent ones."""
    faults = layer_faults(network, layers)
    if faults:
        raise ConfigError(faults)
    seen: dict[str, Tensor] = {}
    handles = [network.get_submodule(path).register_forward_hook(partial(_keep, seen, path)) for path in layers]
    skips = getattr(network, "skip_absent", None)
    if skips:
        network.skip_absent = False  # type: ignore[assignment]
    try:
        yield seen
    finally:
        if skips:
            network.skip_absent = skips
        for handle in handles:
            handle.remove()


def _keep(seen: dict[str, Tensor], path: str, module: nn.Module, given: Any, returned: Any) -> None:
    first = next((x for x in returned if isinstance(x, Tensor)), None) if isinstance(returned, tuple) else returned
    if isinstance(first, Tensor):
        seen[path] = first


def _where_present(network: nn.Module, path: str, value: Tensor, present: Tensor) -> Tensor:
    modalities = getattr(network, "modalities", ())
    own = [column for column, name in enumerate(modalities) if f"{path}.".startswith(f"encoders.{name}.")]
    if not own:
        return value
    return torch.where(present[:, own[0]].view(-1, *[1] * (value.dim() - 1)), value, 0.0)
