"""Logistic regression on features made in the usual way of each kind.

What a row lacks is zeros in the features of that modality, with a flag that says so. Everything is fitted
on training rows that have the modality; validation rows choose the penalty, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from kd.data.columns import Texts
from kd.data.source import Source
from kd.errors import ConfigError


class Logistic:
    """Multinomial logistic regression on the features of its modalities.

    Args:
        penalties: values of C to choose from, by validation accuracy; the first of the best wins.
        components: principal components of a picture, at most; few rows have fewer.
        pixels: side a picture is scaled to beforehand.
        words: longest n-gram of words.
        letters: longest n-gram of letters inside words; 0 for none.
    """

    def __init__(
        self,
        *,
        penalties: Sequence[float] = (0.3, 1.0, 3.0, 10.0, 30.0),
        components: int = 100,
        pixels: int = 32,
        words: int = 2,
        letters: int = 5,
    ) -> None:
        if not penalties or min(penalties) <= 0:
            raise ConfigError(f"penalties: expected numbers above 0, got {list(penalties)}")
        for name, value in {"components": components, "pixels": pixels, "words": words}.items():
            if value < 1:
                raise ConfigError(f"{name}: expected at least 1, got {value}")
        self.penalties, self.components, self.pixels = penalties, components, pixels
        self.words, self.letters = words, letters

    def fit(self, source: Source, sees: Sequence[str], ids: Tensor, available: Tensor, validation: Tensor) -> Logistic:
        """Fit on training rows and choose the penalty on validation rows, as nature left them.

        Args:
            source: N rows, prepared.
            sees: modalities it may read.
            ids: int64, training rows.
            available: bool [N, M].
            validation: int64, rows that choose.

        Raises:
            ConfigError: the task is not multiclass.
        """
        if source.task != "multiclass":
            raise ConfigError(f"logistic: expected a multiclass task, got {source.task}; remove the baseline")
        self.source, self.sees = source, list(sees)
        columns = {name: source.modalities.index(name) for name in sees}
        self.featurisers = {name: self._fitted(name, ids[available[ids, column]]) for name, column in columns.items()}
        shown, label = self._features(ids, available), source.label[ids].numpy()
        wanted, truth = self._features(validation, source.observed), source.label[validation].numpy()
        fitted = [LogisticRegression(C=c, max_iter=2000).fit(shown, label) for c in self.penalties]
        scores = [model.score(wanted, truth) for model in fitted]
        self.model = fitted[int(np.argmax(scores))]
        return self

    def logits(self, ids: Tensor, available: Tensor) -> Tensor:
        """Return log-probabilities [n, C] of rows under an availability bool [N, M]; an unseen class has the least."""
        least = np.finfo(np.float32).tiny
        found = np.full((len(ids), self.source.classes), least)
        found[:, self.model.classes_] = self.model.predict_proba(self._features(ids, available))
        return torch.from_numpy(np.log(np.maximum(found, least))).float()

    def _fitted(self, name: str, ids: Tensor) -> Any:
        raw = self._raw(name, ids)
        return self._featuriser(name, min(self.components, *np.shape(raw))).fit(raw)

    def _featuriser(self, name: str, components: int) -> Any:
        kind = "text" if isinstance(self.source.inputs[name], Texts) else self.source.modality[name].kind
        if kind == "text":
            union = [TfidfVectorizer(analyzer="word", ngram_range=(1, self.words), sublinear_tf=True)]
            if self.letters:
                union.append(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, self.letters), sublinear_tf=True))
            return make_union(*union)
        if kind == "image":
            return make_pipeline(StandardScaler(with_std=False), PCA(components, random_state=0), StandardScaler())
        return make_pipeline(SimpleImputer(), StandardScaler())

    def _raw(self, name: str, ids: Tensor) -> Any:
        value = self.source.inputs[name]
        if isinstance(value, Texts):
            return [value.values[row] or "" for row in ids.tolist()]
        x = value[ids] if isinstance(value, Tensor) else value.take(ids)
        if self.source.modality[name].kind == "image":
            x = torch.nn.functional.interpolate(x.float() / 255, self.pixels, mode="bilinear", antialias=True)
        return x.flatten(1).numpy()

    def _features(self, ids: Tensor, available: Tensor) -> sparse.csr_matrix:
        blocks = []
        for name in self.sees:
            flag = available[ids, self.source.modalities.index(name)].numpy().astype(np.float64)
            features = sparse.csr_matrix(self.featurisers[name].transform(self._raw(name, ids)))
            blocks += [sparse.diags(flag) @ features, sparse.csr_matrix(flag[:, None])]
        return sparse.hstack(blocks).tocsr()
