"""A few-shot classifier as scikit-learn knows classifiers: `fit`, `predict`, `get_params`."""

import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from nlp_meta.data.cells import LabelMap, label_text
from nlp_meta.data.inputs import Texts, as_texts, check_whole
from nlp_meta.errors import LabelError
from nlp_meta.hub.builtin_starts import choose_start
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.meta_model import MetaModel


class FewShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Adapts a start to the texts and labels that `fit` gets.

    A fitted one may be pickled, as joblib does: it takes the files of its adapted model along
    and finds the base model again where it is loaded.

    Args:
        start: A start: its folder, its name on the Hub, or a loaded `MetaModel`, which clones
            share and no pickle can hold. None takes the one in the box for the texts' language.
        label_map: Your labels -> the start's, such as `{0: "negative", 1: "positive"}`.
        steps, learning_rate: In place of the start's own.
        companion: Mix character n-grams in: `auto`, `ngrams` or `none`.
        device: Where to compute; None takes a GPU where there is one.
        random_state: Seed of the folds that are held out, a whole number.

    Attributes:
        classes_: The labels as they were given, sorted.
        adapted_: The `AdaptedModel`, whose `report` tells how held-out folds were answered.
    """

    def __init__(
        self,
        start: str | Path | MetaModel | None = None,
        *,
        label_map: LabelMap | None = None,
        steps: int | None = None,
        learning_rate: float | None = None,
        companion: str = "auto",
        device: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.start = start
        self.label_map = label_map
        self.steps = steps
        self.learning_rate = learning_rate
        self.companion = companion
        self.device = device
        self.random_state = random_state

    def fit(self, X: Texts, y: ArrayLike) -> Self:  # noqa: N803  as scikit-learn calls it
        """Adapt the start; arguments and errors are those of `MetaModel.adapt`."""
        try:
            check_classification_targets(y)
            labels = column_or_1d(y, warn=True)
            self.classes_ = np.unique(labels)
        except TypeError as error:
            raise LabelError(
                f"cannot sort the labels in `y` ({error}): labels of one kind are needed; write "
                "them all as text"
            ) from error
        X, start = as_texts(X, "texts"), self.start  # noqa: N806
        seed = check_whole(self.random_state, "random_state")
        if not isinstance(start, MetaModel):
            start = choose_start(X, list(labels), self.label_map) if start is None else start
            start = MetaModel.from_pretrained(start, device=self.device)
        self.adapted_ = start.adapt(
            X,
            labels,
            label_map=self.label_map,
            steps=self.steps,
            learning_rate=self.learning_rate,
            companion=self.companion,
            seed=seed,
        )
        return self

    def predict(self, X: Texts) -> NDArray[Any]:  # noqa: N803
        """The likeliest class of each text."""
        best = self.predict_proba(X).argmax(axis=1)
        answers: NDArray[Any] = self.classes_[best]
        return answers

    def predict_proba(self, X: Texts) -> NDArray[np.float64]:  # noqa: N803
        """Calibrated probabilities of the classes, `(texts, classes)`."""
        check_is_fitted(self)
        answers = self.adapted_.predict_proba(X)
        odds = np.zeros((len(answers), len(self.classes_)))
        for column, place in enumerate(self._places()):
            odds[:, place] += answers[:, column]
        return odds

    def _places(self) -> list[int]:
        """The class of each label of the adapted model; the first of several that mean the same."""
        written = [label_text(label) or "" for label in self.classes_.tolist()]
        names = [self.adapted_.spellings.get(word, word) for word in written]
        return [names.index(label) for label in self.adapted_.labels]

    def __sklearn_clone__(self) -> Self:
        return type(self)(**self.get_params(deep=False))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        if "adapted_" in state:
            with tempfile.TemporaryDirectory(prefix="nlp_meta_save_") as place:
                folder = Path(place) / "model"
                state.pop("adapted_").save_pretrained(folder)
                state["files"] = {path.name: path.read_bytes() for path in folder.iterdir()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state.pop("files", None)
        super().__setstate__(state)
        if files is not None:
            with tempfile.TemporaryDirectory(prefix="nlp_meta_load_") as place:
                for name, content in files.items():
                    (Path(place) / Path(name).name).write_bytes(content)
                self.adapted_ = AdaptedModel.from_pretrained(place, device=self.device)
