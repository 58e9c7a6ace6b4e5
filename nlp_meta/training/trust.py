"""Learn how far the views of a text are to be trusted, on tasks that trained nothing.

The numbers of `nlp_meta/models/views.py` move down the query loss of episodes with no label to a
hundred, from where earlier tasks left them. The tasks are those of meta-validation, and those that
other starts left out. The encoder sees each text once; an episode costs milliseconds.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.tasks import Task
from nlp_meta.meta.inner_loop import Weights
from nlp_meta.models.classification import narrow_labels
from nlp_meta.models.label_names import NAMED_LABELS, answer_names, name_head
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.views import KNOWN_LABELS, NEW_LABELS, Views, answer_views, look_at
from nlp_meta.objectives.classification import Classification
from nlp_meta.objectives.ngrams import NgramModel

logger = logging.getLogger(__name__)

SIZES = (0, 8, 16, 32, 50, 100)
"""Labels of an episode's support set, in all; none where the start has no head of its own."""
EXAMPLES, QUERIES = 400, 48
"""Of a task at most: what is seen of it, and what one episode asks."""
STEPS, EPISODES, RATE = 80, 8, 0.1
STIFFNESS = 0.01
"""What a unit away from the default adds to the loss, in nats: few tasks move it little."""


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """What a start sees of a task that it was not trained on.

    Attributes:
        targets: Places of the labels, `(texts,)`.
        knows: The start has a head of its own for these labels, and can answer without any.
        named: Logits of the start are those of label names: what texts share says nothing there.
    """

    views: Views
    targets: NDArray[np.int64]
    knows: bool
    named: bool = False

    def draw(
        self, generator: np.random.Generator, size: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of a support set in which labels take turns, and of queries."""
        order = generator.permutation(len(self.targets))
        turn = np.zeros(len(order), dtype=np.int64)
        for label in np.unique(self.targets):
            of_label = self.targets[order] == label
            turn[of_label] = np.arange(of_label.sum())
        taken = order[np.argsort(turn, kind="stable")]
        return taken[:size], generator.permutation(taken[size:])[:QUERIES]


def look_at_tasks(
    objective: Classification,
    start: Weights,
    tasks: Sequence[Task],
    *,
    prior: NgramModel | None,
    seed: int,
    names: bool = False,
) -> list[Pool]:
    """See tasks as a start sees them, the encoder each text once.

    Args:
        start: Meta-parameters, without the task dimension.
        tasks: Those that neither the start nor its n-grams were trained on.
        prior: N-grams of the start; None where it has none.
        names: Of labels answer in place of the start.
    """
    generator = np.random.default_rng(seed)
    knows = objective.head == "shared"
    pools = []
    for task in tasks:
        order = generator.permutation(len(task.train))[:EXAMPLES]
        examples = [task.train[place] for place in order.tolist()]
        narrowed, weights = narrow_labels(objective, start, task.labels, shared=knows)
        views = look_at(narrowed, weights, [e.source for e in examples], prior=prior)
        targets = np.array([narrowed.labels.index(example.target) for example in examples])
        if names:
            head = name_head(narrowed, weights, views.features, {})
            views = answer_names(views, head)
        pools.append(Pool(views, targets, knows or names, names))
    return pools


def look_at_unseen(
    model: MetaModel, tasks: Sequence[Task], *, seed: int = 0, names: bool = False
) -> list[tuple[str, Pool]]:
    """See the tasks that a start was not trained on, by name; the others are left out."""
    earlier = model.provenance.get("init_from") or {}
    trained = {*model.provenance.get("meta_train", ()), *earlier.get("meta_train", ())}
    unseen = [t for t in tasks if t.kind == CLASSIFICATION and t.name not in trained]
    objective = model.objective_of(CLASSIFICATION, Classification)
    start, prior = model.start_of(CLASSIFICATION), model.companion
    pools = look_at_tasks(objective, start, unseen, prior=prior, seed=seed, names=names)
    return [(task.name, pool) for task, pool in zip(unseen, pools, strict=True)]


def learn_trust(
    pools: Sequence[Pool],
    *,
    seed: int,
    begin: Mapping[str, float] | None = None,
    stiffness: float = STIFFNESS,
    steps: int = STEPS,
) -> dict[str, float]:
    """Learn the numbers of the head over views from tasks, each as often as any other.

    Args:
        begin: Where the numbers begin, and what `stiffness` holds them to; None takes what other
            starts learned, for labels that are known or new.
    """
    logger.info("learning how far to trust the views of a text, on %d tasks", len(pools))
    known = NAMED_LABELS if pools[0].named else KNOWN_LABELS
    begin = begin or (known if pools[0].knows else NEW_LABELS)
    generator = np.random.default_rng(seed)
    numbers = {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in begin.items()
    }
    optimizer = torch.optim.Adam(numbers.values(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _step in range(steps):
        optimizer.zero_grad()
        for _ in range(EPISODES):
            pool = pools[int(generator.integers(len(pools)))]
            loss: Tensor = _episode_loss(pool, numbers, generator) / EPISODES
            loss.backward()  # type: ignore[no-untyped-call]
        held = torch.stack([(numbers[n] - value) ** 2 for n, value in begin.items()]).sum()
        (stiffness * held).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return {name: round(float(value.detach()), 4) for name, value in numbers.items()}


def _episode_loss(
    pool: Pool, numbers: Mapping[str, Tensor], generator: np.random.Generator
) -> Tensor:
    size = int(generator.choice(SIZES if pool.knows else SIZES[1:]))
    support, query = pool.draw(generator, min(size, len(pool.targets) * 2 // 3))
    seen, asked = pool.views[support], pool.views[query]
    if pool.named:
        shared = (seen if len(support) else asked).start.mean(0)
        seen, asked = (replace(views, start=views.start - shared) for views in (seen, asked))
    logits = answer_views(numbers, seen, pool.targets[support], asked)
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(pool.targets[query]))
