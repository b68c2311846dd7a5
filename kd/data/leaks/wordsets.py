"""Rows of words: which have nearly the same ones, and how surprising that is. Used by `kd.data.leaks.duplicates`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

JACCARD = 0.9
"""Share of all words of two texts that both have."""
HASHES, BANDS = 32, 8
"""Length of the MinHash signature of a text (Broder 1997), and its parts: texts with an equal part are compared."""


@dataclass(frozen=True, eq=False)
class WordSets:
    """Texts as sets of words.

    Attributes:
        words: one set per row, as sorted words with spaces between.
    """

    words: list[str]

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> WordSets:
        """Read texts: case, punctuation and the order and number of words are left out."""
        return cls([" ".join(sorted(set(plain_words(text or "")))) for text in texts])

    def at(self, rows: np.ndarray) -> WordSets:
        """Return some rows."""
        return WordSets([self.words[row] for row in rows.tolist()])

    def keys(self) -> np.ndarray:
        """Return a number per row that rows with the same words share, int64 [N]."""
        numbers = {text: number for number, text in enumerate(dict.fromkeys(self.words))}
        return np.asarray([numbers[text] for text in self.words], dtype=np.int64)

    def candidates(self) -> np.ndarray:
        """Return pairs of rows that may have nearly all words in common, int64 [P, 2]."""
        signatures = _signatures(self.words)
        found = [np.empty((0, 2), np.int64)]
        for band in np.split(signatures, BANDS, axis=1):
            order = np.lexsort(band.T)
            same = (band[order[1:]] == band[order[:-1]]).all(axis=1)
            found.append(np.stack([order[:-1][same], order[1:][same]], axis=1))
        return np.concatenate(found)

    def compared(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which pairs have nearly the same words, bool [P], and how surprising that is, in bits."""
        shared = [self._shared(first, second) for first, second in zip(a.tolist(), b.tolist(), strict=True)]
        holders = self._holders({word for words in shared for word in words})
        told = [_told(words, holders, len(self.words)) for words in shared]
        return np.asarray([bool(words) for words in shared]), np.asarray(told)

    def _shared(self, first: int, second: int) -> set[str]:
        one, other = set(self.words[first].split()), set(self.words[second].split())
        shared = one & other
        return shared if len(shared) >= JACCARD * len(one | other) else set()

    def _holders(self, words: set[str]) -> dict[str, set[int]]:
        """Return word -> rows that have it."""
        found: dict[str, set[int]] = {word: set() for word in words}
        for row, text in enumerate(self.words):
            for word in words.intersection(text.split()):
                found[word].add(row)
        return found


def _told(words: set[str], holders: dict[str, set[int]], rows: int) -> float:
    """Return the bits of words that two rows share, the rarest first, each given the one before that implies it most.

    The two rows themselves do not count, and a word that no third row shares implies nothing.
    """
    bits, before = 0.0, list[set[int]]()
    for word in sorted(words, key=lambda word: (len(holders[word]), word)):
        own = holders[word]
        chances = [(len(own) - 2 + 0.5) / (rows - 1)]
        chances += [(len(own & other) - 2 + 0.5) / (len(other) - 1) for other in before if len(other) > 2]
        bits -= np.log2(min(max(chances), 1.0))
        before.append(own)
    return bits


def plain_words(text: str) -> list[str]:
    """Return a text's words without case, accents and punctuation.

    >>> plain_words("Élan vital, élan!")
    ['elan', 'vital', 'elan']
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return re.findall(r"\w+", "".join(c for c in decomposed if not unicodedata.combining(c)))


def _signatures(texts: Sequence[str]) -> np.ndarray:
    """Return MinHash signatures of sets of words, uint64 [N, HASHES]; equal sets have equal ones."""
    import pandas as pd

    vocabulary = list(dict.fromkeys(word for text in texts for word in text.split()))
    if not vocabulary:
        return np.zeros((len(texts), HASHES), dtype=np.uint64)
    base = pd.util.hash_array(np.asarray(vocabulary, dtype=object))
    places = {word: place for place, word in enumerate(vocabulary)}
    odd = np.arange(1, 2 * HASHES, 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
    mixed = base[:, None] * odd
    mixed ^= mixed >> np.uint64(29)
    found = np.full((len(texts), HASHES), np.iinfo(np.uint64).max, dtype=np.uint64)
    for row, text in enumerate(texts):
        own = [places[word] for word in text.split()]
        if own:
            found[row] = mixed[own].min(axis=0)
    return found
