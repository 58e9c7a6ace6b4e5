"""Overlap of character n-grams: how much two sentences look alike, as a cosine.

A translation in a related language looks like its source, and names and numbers do in any.
An encoder's vocabulary breaks both apart, so the two kinds of cosine add to each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

ORDERS = (2, 4)
"""Characters of the shortest and of the longest n-gram, inside words."""
WHOLE = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """TF-IDF vectors of two sides' n-grams, `(texts, n-grams)`, each of length 1 or 0.

    Rarity is that of the n-grams in both sides together: it needs no translation.
    """

    sources: csr_matrix
    targets: csr_matrix

    @classmethod
    def of(
        cls, sources: Sequence[str], targets: Sequence[str], *, orders: tuple[int, int] = ORDERS
    ) -> "Overlap":
        """Count the n-grams of two sides, which may be one."""
        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=orders, sublinear_tf=True)
        try:
            vectors = vectorizer.fit_transform([*sources, *targets]).astype(np.float32)
        except ValueError:  # no text has a character
            vectors = csr_matrix((len(sources) + len(targets), 1), dtype=np.float32)
        return cls(vectors[: len(sources)], vectors[len(sources) :])

    def cosines(self, rows: slice = WHOLE, columns: slice = WHOLE) -> Tensor:
        """Cosines of some sources with some targets, `(sources, targets)`, float32."""
        product = self.sources[rows] @ self.targets[columns].T
        return torch.from_numpy(product.toarray())
