"""Ask an adapted model about all texts of a table, with a progress bar."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nlp_meta.cli.screen import Screen, show_progress
from nlp_meta.data.answers import Prediction

if TYPE_CHECKING:
    from nlp_meta.models.meta_model import AdaptedModel


# Long enough for batches of texts of one length, short enough for the bar to move.
BLOCK = 512


def predict_all(model: "AdaptedModel", texts: Sequence[str], screen: Screen) -> list[Prediction]:
    """Predict in the order of the texts."""
    predictions: list[Prediction] = []
    with show_progress(screen, "predicting") as on_step:
        for first in range(0, len(texts), BLOCK):
            on_step(first, len(texts))
            predictions += model.predict(texts[first : first + BLOCK])
    return predictions
