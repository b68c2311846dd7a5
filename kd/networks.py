"""A ready network for a source: modalities, classes, scalers and processors taken from its training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from kd.data.source import Source
from kd.models.classifier import Classifier
from kd.models.imported import Imported
from kd.models.network import Network
from kd.seeding import derive, initialise, noise

if TYPE_CHECKING:
    from kd.data.module import DataModule


def classifier(
    data: DataModule,
    *,
    sees: Sequence[str] | None = None,
    rows: Literal["any", "complete", "labelled"] = "any",
    seed: int = 0,
    **model: Any,
) -> Network:
    """Return an initialised network for `data`, its scalers fitted on the training rows it may learn from.

    Args:
        data: our data module.
        sees: modalities, by default all.
        rows: the node's rows, as given to `Distiller`.
        seed: of the initial weights.
        model: width, encoder, encoders, fusion, as for `Classifier`; or `import` and what belongs to it, as for
            `Imported`.
    """
    chosen = [name for name in data.source.modalities if sees is None or name in sees]
    drawn = derive(seed, "node", "+".join(chosen))
    network, _ = build_network(data.source, chosen, data.rows_for(chosen, rows), data.available, model, drawn)
    return network


def build_network(
    source: Source, sees: Sequence[str], ids: Tensor, available: Tensor, model: Mapping[str, Any], seed: int
) -> tuple[Network, dict[str, Tensor]]:
    """Return an initialised network and, by modality, the rows that its scalers were fitted on.

    Args:
        source: prepared.
        sees: modalities, in the source's order.
        ids: int64, training rows it may learn from.
        available: bool [N, M], what each row of the source may show.
        model: keyword arguments of `Classifier`, or with `import` of `Imported`.
        seed: of the initial weights.

    Raises:
        ConfigError: the network cannot be built.
    """
    network = blank_network(source, sees, model, seed)
    network.class_names = list(source.class_names)
    network.processors = {name: source.processors[name] for name in sees if name in source.processors}
    if not network.scaled:
        return network, {}
    # Only what has a scaler is read: no picture is decoded for it.
    scaled = source.select(network.scaled).batch(ids, available[ids])
    present = available[ids][:, [source.modalities.index(name) for name in sees]]
    used = network.fit_scalers(scaled.inputs, present)
    return network, {name: ids[positions] for name, positions in used.items()}


def blank_network(source: Source, sees: Sequence[str], model: Mapping[str, Any], seed: int = 0) -> Network:
    """Return a network that has seen no row: drawn from the seed, or with the weights that it was given.

    Raises:
        ConfigError: the network cannot be built.
    """
    modality = {name: source.modality[name] for name in sees}
    if "import" in model:
        # Its layers are its own: what they draw as they are made is a function of the seed all the same.
        with noise(seed, "init"):
            return Imported(modality, source.classes, model, task=source.task)
    network = Classifier(modality, source.classes, task=source.task, **model)
    initialise(network, seed)
    return network
