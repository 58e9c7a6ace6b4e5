"""What the names of labels say: a head before any text is labeled, and a prior for one that is.

A label's name, "refund", or name and description, "refund: the customer wants money back", is a
text that the encoder sees as it sees others. A text is likely to have the label that it is nearest
to. Both sides are taken less their means: what all texts of a table share says nothing of labels.
Where none is labeled, each name then moves to the texts that it gathers.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from nlp_meta.errors import LabelError
from nlp_meta.meta.inner_loop import Weights
from nlp_meta.models.views import Array, Views, trust_at
from nlp_meta.objectives.classification import Classification

NAMED_LABELS: Mapping[str, float] = {
    "encoder": 0.25,
    "encoder_growth": -0.82,
    "encoder_labels": 0.38,
    "ngrams": 0.75,
    "ngrams_growth": -0.64,
    "ngrams_labels": 0.32,
    "bias": -0.94,
    "start": 1.00,
    "start_growth": -0.32,
    "prior": 0.00,
    "prior_growth": 0.00,
    "temperature": -1.09,
    "temperature_growth": -0.28,
}
"""Trust where label names answer in place of a start. Learned on one task each of 27 English
corpora, over MiniLM as it is, as `recipes/learn_trust.py --anew --names` does."""

WORTH, SURE, ROUNDS = 20, 3.0, 3
"""Texts that a name counts for beside those that it gathers, how much surer than it says a name is
when it gathers, and how often it does: chosen on meta-train and -validation."""

Head = tuple[Tensor, Tensor]
"""Weight `(labels, features)` and bias `(labels,)`."""


def write_label(name: str, description: str = "") -> str:
    """A label as the encoder reads it."""
    words = " ".join(re.sub(r"[_\-/]", " ", name).split()).lower() or name
    return f"{words}: {description.strip()}" if description.strip() else words


def check_descriptions(labels: Sequence[str], descriptions: Mapping[str, str]) -> None:
    """Refuse a description of no label, and one that is no text.

    Raises:
        LabelError: Names it.
    """
    strange = sorted(set(descriptions) - set(labels))
    if strange:
        raise LabelError(
            f"cannot describe the label {strange[0]!r}: it is none of the labels, which are "
            f"{', '.join(map(repr, labels))}; correct `label_descriptions`"
        )
    for label, words in descriptions.items():
        if not isinstance(words, str):
            raise LabelError(
                f"cannot describe the label {label!r} by {words!r}: a text is needed; correct it"
            )


@torch.no_grad()
def name_head(
    objective: Classification, weights: Weights, features: Array, descriptions: Mapping[str, str]
) -> Head:
    """Make a linear layer of what labels are called, for texts like some.

    Args:
        objective: In float32; its labels are those of the logits.
        weights: Meta-parameters, without the task dimension.
        features: Of texts of the table, labeled or not, `(texts, features)`: their mean is what
            they share, and the mean square of what is left is the unit of a logit.
        descriptions: Of labels that have one.
    """
    written = [write_label(name, descriptions.get(name, "")) for name in objective.labels]
    rows = objective.features(weights, written).double().numpy()
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    rows -= rows.mean(0)
    center = features.mean(0)
    spread = ((features - center) ** 2).sum(1).mean()
    if spread < 1e-6 * (center**2).sum():  # all that equal texts hold is what they share
        center, spread = np.zeros_like(center), (center**2).sum()
    rows /= max(float(spread * (rows**2).sum(1).mean()) ** 0.5, 1e-9)
    return torch.from_numpy(rows), torch.from_numpy(-rows @ center)


@torch.no_grad()
def gather_texts(head: Head, features: Array) -> Head:
    """Move each label's row to the mean of the texts that are nearest to it, by k-means.

    It begins at the names, and each counts as `WORTH` texts that lie where it does. Texts that are
    all alike move nothing.

    Args:
        features: Of texts of the table, `(texts, features)`.

    Source:
        Ren et al. 2018, arXiv:1803.00676, section 3.1, for texts that belong to labels by shares.
    """
    names, center = head[0].numpy(), features.mean(0)
    rows, texts = names, features - center
    spread = (texts @ names.T).std()
    for _ in range(ROUNDS):
        shares = softmax(SURE * _sureness(len(names)) * texts @ rows.T, axis=1)
        gathered = shares.sum(0)[:, None]
        means = shares.T @ texts / np.maximum(gathered, 1e-9)
        means -= means.mean(0)
        unit = (texts @ means.T).std()
        if unit < 1e-9:
            return head
        rows = names + gathered / (gathered + WORTH) * (means * (spread / unit) - names)
    return torch.from_numpy(rows), torch.from_numpy(-rows @ center)


def _sureness(labels: int) -> float:
    """What logits of names are multiplied by where no text is labeled, as other tasks taught."""
    trust = trust_at(NAMED_LABELS, examples=0, labels=labels)
    return float(trust["start"] / trust["temperature"])


def answer_names(views: Views, head: Head) -> Views:
    """Put the answers of label names in place of a start's."""
    logits = torch.from_numpy(views.features) @ head[0].T + head[1]
    return replace(views, start=(logits - logits.mean(1, keepdim=True)).numpy())


def believe_names(views: Views, head: Head, targets: NDArray[np.int64]) -> Views | None:
    """Let label names answer in place of a start; None where labels contradict them.

    Names that are no words, or mean something else, say less than nothing: true labels are then
    less likely by them than by chance.

    Args:
        targets: Places of the labels of the views' texts.
    """
    named, labels = answer_names(views, head), len(head[1])
    shares = (torch.from_numpy(named.start) * _sureness(labels)).log_softmax(-1)
    of_true = shares[torch.arange(len(targets)), torch.from_numpy(targets)]
    if float(of_true.mean()) <= -math.log(labels):
        return None
    return named


def begin_at_names(
    objective: Classification,
    weights: Weights,
    views: Views,
    targets: NDArray[np.int64],
    descriptions: Mapping[str, str],
) -> tuple[Views, Head] | None:
    """Let the names of its labels answer where nothing else does before labels do.

    Args:
        objective: In float32; its labels are those of the targets.
        weights: Meta-parameters, without the task dimension.
        views: Of the labeled texts; `targets` are the places of their labels.
        descriptions: Of labels that have one.

    Returns:
        The views with the answers of names, and their layer; None where the start has a head of
        its own, or where labels contradict their names.
    """
    if objective.own_head(weights) is not None:
        return None
    head = name_head(objective, weights, views.features, descriptions)
    believed = believe_names(views, head, targets)
    return None if believed is None else (believed, head)


def answer_by_names(head: Head) -> Head:
    """The layer that answers where no text is labeled, calibrated as other tasks taught."""
    factor = _sureness(len(head[1]))
    return (factor * head[0]).float(), (factor * head[1]).float()
