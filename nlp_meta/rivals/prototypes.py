"""Prototypes: the nearest class mean among what the frozen encoder says of a text."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from nlp_meta.data.answers import Learned, Prediction, Rival
from nlp_meta.data.episodes import Queries, SupportSet, support_targets
from nlp_meta.encoders.heads import prototype_head
from nlp_meta.encoders.prefix import Embed
from nlp_meta.errors import SettingsError
from nlp_meta.objectives.classification import to_predictions

Scale = Callable[[Tensor, Tensor], Tensor]
"""What the support set's features, the first argument, make of the second's."""

# A deviation below this is rounding; such a feature is left as it is.
_CONSTANT = 1e-6


def _plain(support: Tensor, features: Tensor) -> Tensor:
    return features


def _unit(support: Tensor, features: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features - support.mean(0), dim=-1)


def _standard(support: Tensor, features: Tensor) -> Tensor:
    deviation = support.std(0, correction=0)
    return (features - support.mean(0)) / deviation.where(deviation > _CONSTANT, 1.0)


SCALINGS: Mapping[str, Scale] = {"plain": _plain, "unit": _unit, "standard": _standard}
"""Features as they are; centered and of length 1; each centered and of deviation 1."""


def prototypes(embed: Embed, *, scalings: Sequence[str], temperatures: Sequence[float]) -> Rival:
    """Make a method that answers with the nearest class mean of the support set.

    A prototypical network on the encoder as it is: probabilities are the softmax of
    negative squared distances to the class means, in units of the spread within classes
    times a temperature. A label of the task that the support set lacks has probability 0.

    Args:
        scalings: Names of `SCALINGS` to choose from.
        temperatures: To choose from, above 0; a smaller one is surer. The pair of the
            smallest leave-one-out log loss is taken, of equal ones the first scaling and
            the largest temperature; so too where every label has one example.

    Raises:
        SettingsError: Nothing to choose from, an unknown scaling, a temperature that is not
            above 0. Learning raises EpisodeError for a support set of fewer than 2 labels.

    Source:
        Snell et al. 2017, arXiv:1703.05175, section 2; centered unit features: Wang et al.
        2019, arXiv:1911.04623, section 3.
    """
    _check_choices(scalings, temperatures)
    softest_first = sorted(temperatures, reverse=True)

    def learn(support_set: SupportSet) -> Learned:
        targets = torch.tensor(support_targets(support_set, purpose="take class means"))
        support = _features(embed, support_set.texts)
        labels = len(support_set.labels)
        scaling, temperature = choose_scale(
            support, targets, labels=labels, scalings=scalings, temperatures=softest_first
        )
        head = _class_means(support, targets, labels=labels, scaling=scaling)

        def answer(queries: Queries) -> list[Prediction]:
            logits = head(_features(embed, queries.texts)) / temperature
            return to_predictions(logits.log_softmax(-1), support_set.labels, support_set.labels)

        return answer

    return learn


def choose_scale(
    features: Tensor,
    targets: Tensor,
    *,
    labels: int,
    scalings: Sequence[str],
    temperatures: Sequence[float],
) -> tuple[str, float]:
    """Find the scaling and the temperature of the smallest leave-one-out log loss.

    Each example of a label with several is answered by class means, scaling and spread
    that were taken from all others.

    Returns:
        The first of equal ones.
    """
    best = scalings[0], temperatures[0]
    least = float("inf")
    held = [place for place, target in enumerate(targets) if (targets == target).sum() > 1]
    if not held or len(scalings) == len(temperatures) == 1:
        return best
    for scaling in scalings:
        logits = torch.cat(
            [
                _class_means(*_without(features, targets, place), labels=labels, scaling=scaling)(
                    features[place : place + 1]
                )
                for place in held
            ]
        )
        for temperature in temperatures:
            loss = float(torch.nn.functional.cross_entropy(logits / temperature, targets[held]))
            if loss < least:
                best, least = (scaling, temperature), loss
    return best


def _class_means(
    support: Tensor, targets: Tensor, *, labels: int, scaling: str
) -> Callable[[Tensor], Tensor]:
    """Make the function from features to logits `(examples, labels)`, -inf for absent labels."""
    scale = SCALINGS[scaling]
    weight, bias = prototype_head(
        scale(support, support), targets, torch.zeros_like(targets), tasks=1, num_labels=labels
    )
    absent = torch.bincount(targets, minlength=labels) == 0

    def logits(features: Tensor) -> Tensor:
        return (scale(support, features) @ weight[0].T + bias[0]).masked_fill(absent, -torch.inf)

    return logits


def _without(features: Tensor, targets: Tensor, place: int) -> tuple[Tensor, Tensor]:
    kept = torch.arange(len(targets)) != place
    return features[kept], targets[kept]


def _features(embed: Embed, texts: Sequence[str]) -> Tensor:
    return torch.from_numpy(np.asarray(embed(texts), dtype=np.float64))


def _check_choices(scalings: Sequence[str], temperatures: Sequence[float]) -> None:
    unknown = [name for name in scalings if name not in SCALINGS]
    if unknown or not scalings or not temperatures or min(temperatures) <= 0:
        raise SettingsError(
            f"cannot take class means with scalings {list(scalings)} and temperatures "
            f"{list(temperatures)}: at least one of {', '.join(SCALINGS)} and one temperature, "
            "all above 0, are needed; change `scalings` or `temperatures`"
        )
