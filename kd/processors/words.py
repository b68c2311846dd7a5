"""Words: strings -> ids, of a tokenizer's pieces or of letter n-grams."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from kd.errors import ConfigError
from kd.processors.base import Processor
from kd.types import Modality

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Pieces = Literal["wordpiece", "ngrams"]
"""What words are cut into, where the pieces are learnt from training rows."""
REMEMBERED = 2**16
"""Texts at most whose letter n-grams stay in memory."""


class Tokenizer(Processor):
    """Words: str -> token ids int64 [N, length], cut or padded to one length.

    Args:
        tokenizer: a fast tokenizer of transformers, with a padding token.
        length: tokens per row, special tokens included.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, length: int) -> None:
        if length < 1:
            raise ConfigError(f"length: expected at least 1 token, got {length}")
        if tokenizer.pad_token_id is None:
            raise ConfigError("tokenizer: it has no padding token; choose one that has")
        self.tokenizer, self.length = tokenizer, length
        self.modality = Modality((length,), "text", vocabulary=len(tokenizer), pad=int(tokenizer.pad_token_id))

    @classmethod
    def trained(cls, texts: Sequence[str], *, length: int, vocabulary: int = 4000) -> Tokenizer:
        """Train a WordPiece vocabulary (BERT's: lower case, split at spaces and punctuation) on these texts.

        Args:
            texts: of training rows only; the caller chooses and records them.
            length: tokens per row.
            vocabulary: pieces at most.
        """
        from tokenizers import Tokenizer as Backend
        from tokenizers import models, processors, trainers
        from transformers import PreTrainedTokenizerFast

        special = ["[PAD]", "[UNK]", "[CLS]"]
        backend = _bert(Backend(models.WordPiece(unk_token="[UNK]")))
        # The trainer numbers the pieces `##x` in the order of a hash table, another one in each run, and breaks ties by
        # these numbers. Named beforehand they have one order, so equal texts give equal vocabularies.
        first = [*special, *_continuations(backend, texts)]
        trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=first, show_progress=False)
        backend.train_from_iterator(texts, trainer)
        backend = _bert(Backend(models.WordPiece(vocab=backend.get_vocab(), unk_token="[UNK]")))
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A", special_tokens=[("[CLS]", backend.token_to_id("[CLS]"))]
        )
        fast = PreTrainedTokenizerFast(
            tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]"
        )
        return cls(fast, length)

    @classmethod
    def named(cls, name: str, *, length: int) -> Tokenizer:
        """Load the tokenizer of a folder, `package:NAME/FOLDER` or a hub name; see `kd.pretrained`.

        Raises:
            ConfigError: there is none, or the hub cannot be reached.
        """
        from transformers import AutoTokenizer

        from kd.pretrained import from_hub

        return cls(from_hub(AutoTokenizer, name), length)

    def __call__(self, values: Sequence[Any]) -> Tensor:
        texts = ["" if value is None else str(value) for value in values]
        if not texts:
            return torch.empty(0, self.length, dtype=torch.int64)
        encoded = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        )
        return encoded["input_ids"]

    def resized(self, length: int) -> Tokenizer:
        """Return the same processor with another number of tokens per row."""
        return Tokenizer(self.tokenizer, length)

    def state(self) -> dict[str, Any]:
        backend = json.loads(self.tokenizer.backend_tokenizer.to_str())
        # What the last call left behind decides nothing.
        backend["padding"] = backend["truncation"] = None
        special = {
            key: str(value) for key, value in self.tokenizer.special_tokens_map.items() if isinstance(value, str)
        }
        return {"name": "tokenizer", "length": self.length, "special": special, "tokenizer": backend}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Tokenizer:
        """Take back what `state` gave."""
        from tokenizers import Tokenizer as Backend
        from transformers import PreTrainedTokenizerFast

        backend = Backend.from_str(json.dumps(state["tokenizer"]))
        return cls(PreTrainedTokenizerFast(tokenizer_object=backend, **state["special"]), state["length"])


def _bert(backend: Any) -> Any:
    """Give a tokenizer the normalisation and the word boundaries of BERT's, lower case."""
    from tokenizers import normalizers, pre_tokenizers

    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


def _continuations(backend: Any, texts: Sequence[str]) -> list[str]:
    """Return `##x` for every character x that stands in a word after its first."""
    normalise, split = backend.normalizer.normalize_str, backend.pre_tokenizer.pre_tokenize_str
    words = {word for text in set(texts) for word, _ in split(normalise(text))}
    return sorted({f"##{sign}" for word in words for sign in word[1:]})


class NGrams(Processor):
    """Words: str -> the letter n-grams in them, int64 [N, length], each once, padded with 0.

    In small data most words are seen once, and what they share is inside them: subwords as fastText takes them
    (Bojanowski et al. 2017, 1607.04606). N-grams that training never saw are left out, and their order is lost.

    Args:
        known: n-grams, the most frequent first; the k-th has id k + 1.
        length: ids per row; where a row has more, its most frequent ones stay.
        letters: shortest and longest n-gram, inside words, whose ends count as a letter.
    """

    def __init__(self, known: Sequence[str], length: int, letters: Sequence[int] = (2, 4)) -> None:
        if length < 1:
            raise ConfigError(f"length: expected at least 1 id, got {length}")
        self.known, self.length, self.letters = list(known), length, (letters[0], letters[1])
        self._ids = {gram: place + 1 for place, gram in enumerate(self.known)}
        self._cut = letter_ngrams(*self.letters)
        self._met: dict[str, Tensor] = {}
        self.modality = Modality((length,), "text", vocabulary=len(self.known) + 1, pad=0)

    @classmethod
    def trained(
        cls, texts: Sequence[str], *, length: int, vocabulary: int = 4000, letters: Sequence[int] = (2, 4)
    ) -> NGrams:
        """Take the most frequent n-grams of these texts, ties in the order of the alphabet.

        Args:
            texts: of training rows only; the caller chooses and records them.
            length: ids per row.
            vocabulary: n-grams at most.
            letters: shortest and longest n-gram.
        """
        cut = letter_ngrams(letters[0], letters[1])
        counts = Counter(gram for text in texts for gram in set(cut(text)))
        ranked = sorted(counts, key=lambda gram: (-counts[gram], gram))
        return cls(ranked[:vocabulary], length, letters)

    def __call__(self, values: Sequence[Any]) -> Tensor:
        out = torch.zeros(len(values), self.length, dtype=torch.int64)
        for row, text in enumerate(values):
            if text is not None:
                found = self._found(str(text))
                out[row, : len(found)] = found
        return out

    def _found(self, text: str) -> Tensor:
        """Return the ids in a text; every epoch asks for the same, and cutting took a fifth of a training."""
        found = self._met.get(text)
        if found is None:
            grams = {self._ids[gram] for gram in self._cut(text) if gram in self._ids}
            found = torch.tensor(sorted(grams)[: self.length], dtype=torch.int64)
            if len(self._met) < REMEMBERED:
                self._met[text] = found
        return found

    def resized(self, length: int) -> NGrams:
        """Return the same processor with another number of ids per row."""
        return NGrams(self.known, length, self.letters)

    def state(self) -> dict[str, Any]:
        return {"name": "ngrams", "known": self.known, "length": self.length, "letters": list(self.letters)}


def letter_ngrams(shortest: int, longest: int) -> Callable[[str], list[str]]:
    """Return what cuts a text into letter n-grams inside words, as scikit-learn does (`char_wb`).

    >>> letter_ngrams(2, 3)("cat")
    [' c', 'ca', 'at', 't ', ' ca', 'cat', 'at ']
    """
    from sklearn.feature_extraction.text import CountVectorizer

    cut: Callable[[str], list[str]] = CountVectorizer(
        analyzer="char_wb", ngram_range=(shortest, longest)
    ).build_analyzer()
    return cut
