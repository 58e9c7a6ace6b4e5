"""Fine-tuning from a start: the same predictor for every start there is.

From the pretrained encoder it is plain LoRA, from jointly trained meta-parameters it is
multi-task training then fine-tuning, from meta-learned ones it is ours. What differs is
the start alone; rate and steps are chosen for each on the meta-validation tasks.
"""

from collections.abc import Sequence

from nlp_meta.data.answers import Predict, Prediction
from nlp_meta.data.episodes import Episode
from nlp_meta.meta.adaptation import InnerLoop, Weights, repeat
from nlp_meta.meta.validation import Objective, adapt_episodes


def fine_tune(
    objective: Objective, meta_parameters: Weights, *, inner: InnerLoop, minibatch: int | None
) -> Predict:
    """Make a predictor that adapts to each support set."""

    def predict(episode: Episode) -> Sequence[Prediction]:
        fast = adapt_episodes(
            objective, meta_parameters, [episode], inner=inner, minibatch=minibatch
        )
        return objective.answer(fast, objective.query_batches([episode]), [episode])[0]

    return predict


def without_labels(objective: Objective, meta_parameters: Weights) -> Predict:
    """Make a predictor that looks at no label: the start itself, with its shared head."""

    def predict(episode: Episode) -> Sequence[Prediction]:
        fast = repeat(meta_parameters, tasks=1)
        return objective.answer(fast, objective.query_batches([episode]), [episode])[0]

    return predict
