"""Raw values -> the tensors that networks take: pictures, words, a table's rows.

What a processor learns (a vocabulary, a table's categories) it learns from the training rows it is fitted on. Its state
is JSON and travels with every package, so that a student takes raw values without the config it was trained with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kd.errors import RecordError
from kd.processors.base import Processor as Processor
from kd.processors.features import Features
from kd.processors.pictures import Pixels
from kd.processors.words import NGrams, Tokenizer


def load_processor(state: Mapping[str, Any]) -> Processor:
    """Build a processor from what its `state` gave.

    Raises:
        RecordError: the state is of no processor we know.
    """
    try:
        if state["name"] == "pixels":
            return Pixels(state["size"])
        if state["name"] == "tokenizer":
            return Tokenizer.from_state(state)
        if state["name"] == "ngrams":
            return NGrams(state["known"], state["length"], state["letters"])
        if state["name"] == "features":
            return Features(state["numbers"], state["categories"])
    except Exception as error:  # what parses a tokenizer raises bare exceptions
        reason = " ".join(str(error).split())[:120]
        raise RecordError(f"processor: damaged state ({reason}); make the package again") from None
    raise RecordError(f"processor: unknown name {state['name']!r}; this package was made by a newer version")
