"""What a classifier that is no network reads of each kind of modality, learnt from training rows that have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import Tensor

from kd.baselines.examples import Block, Examples
from kd.data.columns import Texts
from kd.data.source import Source
from kd.errors import ConfigError


@dataclass(frozen=True)
class Reading:
    """How each kind of modality becomes features.

    Attributes:
        components: principal components of a picture, or of a text made dense, at most; few rows have fewer.
        pixels: side a picture is scaled to beforehand.
        words: longest n-gram of words.
        letters: longest n-gram of letters inside words; 0 for none.
    """

    components: int = 100
    pixels: int = 32
    words: int = 2
    letters: int = 5

    def __post_init__(self) -> None:
        for name in ("components", "pixels", "words"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")

    def linear(self, kind: str, shape: tuple[int, ...]) -> Any:
        """Return an unfitted transformer for linear models: n-grams stay sparse, vectors are imputed and scaled."""
        if kind == "text":
            return self._grams()
        if kind == "image":
            return self._principal(shape)
        return make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())

    def dense(self, kind: str, shape: tuple[int, ...]) -> Any:
        """Return an unfitted transformer for trees: n-grams reduced, vectors as they are with their own holes."""
        if kind == "text":
            return _Reduced(self._grams(), self.components)
        if kind == "image":
            return self._principal(shape)
        return FunctionTransformer()

    def _grams(self) -> FeatureUnion:
        union = [TfidfVectorizer(analyzer="word", ngram_range=(1, self.words), sublinear_tf=True)]
        if self.letters:
            union.append(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, self.letters), sublinear_tf=True))
        return make_union(*union)

    def _principal(self, shape: tuple[int, ...]) -> Any:
        components = min(self.components, *shape)
        return make_pipeline(StandardScaler(with_std=False), PCA(components, random_state=0), StandardScaler())


class _Reduced:
    """Latent semantic analysis: n-grams on their leading directions, of which few rows have fewer."""

    def __init__(self, grams: Any, components: int) -> None:
        self.grams, self.components = grams, components

    def fit(self, raw: Sequence[str]) -> _Reduced:
        table = self.grams.fit_transform(raw)
        self.directions = TruncatedSVD(min(self.components, *table.shape), random_state=0).fit(table)
        return self

    def transform(self, raw: Sequence[str]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.directions.transform(self.grams.transform(raw))
        return found


@dataclass(frozen=True)
class _Fitted:
    """A fitted transformer, or None, and its table of no rows."""

    transformer: Any
    nothing: Any


class Features:
    """The features of some modalities of a source.

    Args:
        source: N rows, prepared.
        sees: modalities, in the source's order.
        ids: int64, training rows.
        available: bool [N, M]; a modality's features are learnt from the rows that have it.
        reading: how.
        form: `linear` or `dense`, a method of `Reading`.
    """

    def __init__(
        self, source: Source, sees: Sequence[str], ids: Tensor, available: Tensor, *, reading: Reading, form: str
    ) -> None:
        self.source, self.reading = source, reading
        self.columns = {name: source.modalities.index(name) for name in sees}
        self.make = getattr(reading, form)
        self.fitted = {name: self._fit(name, ids[available[ids, column]]) for name, column in self.columns.items()}

    def of(self, ids: Tensor, available: Tensor) -> Examples:
        """Return rows under an availability bool [N, M]; what it hides is not read."""
        shown = available[ids][:, list(self.columns.values())]
        blocks = [self._block(name, ids, shown[:, place]) for place, name in enumerate(self.columns)]
        label, group = self.source.label[ids].numpy(), self.source.group[ids].numpy()
        return Examples(blocks, label, group, np.arange(len(ids)), shown.numpy())

    def _fit(self, name: str, ids: Tensor) -> _Fitted:
        if len(ids) == 0:
            return _Fitted(None, np.zeros((0, 0)))  # no training row has it: nothing is learnt of it
        raw = self._raw(name, ids)
        transformer = self.make(self._kind(name), np.shape(raw)).fit(raw)
        return _Fitted(transformer, transformer.transform(raw[:1])[:0])

    def _block(self, name: str, ids: Tensor, shown: Tensor) -> Block:
        """Return [n, F], zeros where not shown, whatever stands there."""
        fitted, there = self.fitted[name], shown.nonzero().flatten()
        learnt = fitted.transformer is not None and len(there) > 0
        values = fitted.transformer.transform(self._raw(name, ids[there])) if learnt else fitted.nothing
        place = there.numpy() if learnt else there.numpy()[:0]
        if sparse.issparse(values):
            selection = (np.ones(len(place)), (place, np.arange(len(place))))
            return sparse.csr_matrix(selection, shape=(len(ids), len(place))) @ values
        block = np.zeros((len(ids), values.shape[1]))
        block[place] = values
        return block

    def _kind(self, name: str) -> str:
        return "text" if isinstance(self.source.inputs[name], Texts) else self.source.modality[name].kind

    def _raw(self, name: str, ids: Tensor) -> Any:
        value = self.source.inputs[name]
        if isinstance(value, Texts):
            return [value.values[row] or "" for row in ids.tolist()]
        x = value[ids] if isinstance(value, Tensor) else value.take(ids)
        if self._kind(name) == "image":
            x = torch.nn.functional.interpolate(x.float() / 255, self.reading.pixels, mode="bilinear", antialias=True)
        return x.flatten(1).numpy()
