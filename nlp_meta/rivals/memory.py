"""Memory: the support set is kept as it is, and a query text reads it by attention."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nlp_meta.data.answers import Learned, Prediction, Rival
from nlp_meta.data.episodes import Queries, SupportSet, support_targets
from nlp_meta.encoders.prefix import Embed
from nlp_meta.errors import SettingsError
from nlp_meta.objectives.classification import to_predictions


def memory(embed: Embed, *, temperatures: Sequence[float]) -> Rival:
    """Make a method that attends to the support examples that a query text resembles.

    A matching network on the encoder as it is. Attention is the softmax of cosines over a
    temperature, between features that are centered on the support set's mean; with a low
    temperature it reads the nearest example alone, with a high one all of them alike. An
    example counts by one over the number of its label, so that a label does not gain by
    having more of them: a label's probability goes with the mean attention on its
    examples. A label of the task that the support set lacks has probability 0.

    Args:
        temperatures: To choose from, above 0; that of the smallest leave-one-out log loss
            is taken, of equal ones the highest; so too where every label has one example.

    Raises:
        SettingsError: No temperature, or one that is not above 0. Learning raises
            EpisodeError for a support set of fewer than 2 labels.

    Source:
        Vinyals et al. 2016, arXiv:1606.04080, section 2.1.
    """
    if not temperatures or min(temperatures) <= 0:
        raise SettingsError(
            f"cannot read a memory at temperatures {list(temperatures)}: at least one value, all "
            "above 0, is needed; change `temperatures`"
        )
    highest_first = sorted(temperatures, reverse=True)

    def learn(support_set: SupportSet) -> Learned:
        targets = torch.tensor(support_targets(support_set, purpose="keep a memory"))
        support = _features(embed, support_set.texts)
        center = support.mean(0)
        keys = torch.nn.functional.normalize(support - center, dim=-1)
        labels = len(support_set.labels)
        temperature = choose_temperature(
            keys @ keys.T, targets, labels=labels, temperatures=highest_first
        )

        def answer(queries: Queries) -> list[Prediction]:
            centered = _features(embed, queries.texts) - center
            cosines = torch.nn.functional.normalize(centered, dim=-1) @ keys.T
            logits = _mean_attention(cosines / temperature, targets, labels=labels)
            return to_predictions(logits.log_softmax(-1), support_set.labels, support_set.labels)

        return answer

    return learn


def choose_temperature(
    cosines: Tensor, targets: Tensor, *, labels: int, temperatures: Sequence[float]
) -> float:
    """Find the temperature of the smallest leave-one-out log loss, the first of equal ones.

    Leaving an example out of the memory takes its column out of its own row and nothing
    else, so one matrix holds every case. The center stays: it knows no label.

    Args:
        cosines: `(examples, examples)` of the support set.
    """
    several = torch.bincount(targets, minlength=labels)[targets] > 1
    if not several.any():
        return temperatures[0]
    others = cosines.clone().fill_diagonal_(-torch.inf)
    losses = [
        torch.nn.functional.cross_entropy(
            _mean_attention(others / temperature, targets, labels=labels)[several], targets[several]
        )
        for temperature in temperatures
    ]
    return temperatures[int(torch.stack(losses).argmin())]


def _mean_attention(scores: Tensor, targets: Tensor, *, labels: int) -> Tensor:
    """Logarithm of the mean of exp over each label's examples, `(rows, labels)`.

    A score of -inf is of an example that is not there.
    """
    columns = [scores[:, targets == label] for label in range(labels)]
    sums = torch.stack([column.logsumexp(1) for column in columns], dim=1)
    counts = torch.stack([column.isfinite().sum(1) for column in columns], dim=1)
    return sums - counts.clamp(min=1).log()


def _features(embed: Embed, texts: Sequence[str]) -> Tensor:
    return torch.from_numpy(np.asarray(embed(texts), dtype=np.float64))
