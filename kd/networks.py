"""A ready network for a data module: shapes, classes and scalers taken from its training rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from kd.models.classifier import Classifier
from kd.seeding import derive, initialise

if TYPE_CHECKING:
    from kd.data.module import DataModule


def classifier(
    data: DataModule,
    *,
    sees: Sequence[str] | None = None,
    rows: Literal["any", "complete"] = "any",
    seed: int = 0,
    **model: Any,
) -> Classifier:
    """Return an initialised network for `data`, its scalers fitted on the training rows it may learn from.

    Args:
        data: our data module.
        sees: modalities, by default all.
        rows: the node's rows, as given to `Distiller`.
        seed: of the initial weights.
        model: width, encoder, encoders, fusion, as for `Classifier`.
    """
    source = data.source
    chosen = [name for name in source.modalities if sees is None or name in sees]
    shapes = {name: source.shapes[name] for name in chosen}
    network = Classifier(shapes, source.classes, task=source.task, **model)
    initialise(network, derive(seed, "node", "+".join(chosen)))
    ids = data.rows_for(chosen, rows)
    batch = source.batch(ids, data.available[ids]).select(chosen)
    network.fit_scalers(batch.inputs, batch.present)
    return network
