"""In-context prompting: the support set is shown to a language model, no weight moves.

With no labelled example the instruction alone is shown. Template, rule, and demonstrations or
none are chosen on episodes of the meta-validation tasks; chat or plain text is the caller's word.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from nlp_meta.data.answers import Predict, Prediction
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import SettingsError
from nlp_meta.prompting.evidence import PromptFacts, PromptPlan, gather_evidence
from nlp_meta.prompting.prompts import Scorer
from nlp_meta.prompting.scoring import Evidence, Scoring, find_scorings, label_probabilities

Metric = Callable[[Sequence[str], Sequence[Any], Sequence[str]], float]
"""True label names, one prediction for each, and the labels of the task, to a score."""
ANY_LABELS = ("label",)
"""Names of templates that suit any labels that are words."""
SENTIMENTS = frozenset({"negative", "neutral", "positive"})


@dataclass(frozen=True, slots=True)
class PromptTrial:
    """What one plan and one rule scored, averaged over the episodes."""

    plan: PromptPlan
    scoring: str
    score: float


@dataclass(frozen=True, slots=True)
class PromptChoice:
    """The best plan and rule, and what the choice cost.

    Attributes:
        texts: Query texts that were read, each with every label.
    """

    plan: PromptPlan
    scoring: str
    trials: tuple[PromptTrial, ...]
    texts: int


@dataclass(frozen=True, slots=True)
class OrderVariance:
    """Scores of one episode under several orders of the same demonstrations.

    Attributes:
        deviation: Standard deviation of the sample, with one degree of freedom less.
    """

    scores: tuple[float, ...]
    mean: float
    deviation: float


def in_context(
    scorer: Scorer,
    plan: PromptPlan,
    *,
    scoring: str,
    on_adapted: Callable[[], None] | None = None,
    on_prompt: Callable[[PromptFacts], None] | None = None,
) -> Predict:
    """Make a predictor that shows the support set to a language model.

    Args:
        scoring: A name of `SCORINGS`; `sum` in its place where the scorer is not graded.
        on_adapted: Called once an episode, when prefix and content-free queries are read.
        on_prompt: Called once an episode with what became of its texts.

    Raises:
        SettingsError: No rule of that name. The predictor raises EpisodeError where the
            context does not hold one demonstration beside a query.
    """
    (rule,) = find_scorings([scoring], graded=scorer.graded).values()

    def predict(episode: Episode) -> list[Prediction]:
        evidence = gather_evidence(
            scorer, plan, episode, scorings=[rule], on_adapted=on_adapted, on_prompt=on_prompt
        )
        return _answer(evidence, episode.labels, rule)

    return predict


def fitting_templates(names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Leave out templates that ask for sentiment where the labels are another thing, unless all do.

    Of sentiments, those that suit any labels are left out.
    """
    sentiment = SENTIMENTS.issuperset(labels)
    return [name for name in names if (name in ANY_LABELS) != sentiment] or list(names)


def choose_prompt(
    scorer: Scorer,
    plans: Sequence[PromptPlan],
    episodes: Sequence[Episode],
    *,
    scorings: Sequence[str],
    metric: Metric,
    on_prompt: Callable[[PromptFacts], None] | None = None,
) -> PromptChoice:
    """Find the plan and the rule that score best on episodes of unseen tasks.

    The budget is one pass over the query texts of the episodes for each plan: it does not
    grow with the number of rules. Of equal ones the first plan, then the first rule, is taken.

    Args:
        episodes: With their query labels, which no predictor sees.
        scorings: Where the scorer is not graded, `sum` in their place.

    Raises:
        SettingsError: No plan, no rule or no episode.
    """
    if not (plans and scorings and episodes):
        raise SettingsError(
            f"cannot choose among {len(plans)} prompts and {len(scorings)} rules on "
            f"{len(episodes)} episodes: at least one of each is needed; change "
            "`prompting.templates`, `prompting.scorings` or the meta-validation tasks"
        )
    rules = find_scorings(scorings, graded=scorer.graded)
    trials = []
    for plan in plans:
        scores: dict[str, list[float]] = {name: [] for name in rules}
        for episode in episodes:
            evidence = gather_evidence(
                scorer, plan, _hide(episode), scorings=list(rules.values()), on_prompt=on_prompt
            )
            true = [example.target for example in episode.query]
            for name, rule in rules.items():
                answers = _answer(evidence, episode.labels, rule)
                scores[name].append(metric(true, answers, episode.labels))
        trials += [PromptTrial(plan, name, fmean(values)) for name, values in scores.items()]
    best = max(trials, key=lambda trial: trial.score)
    texts = len(plans) * sum(len(episode.query) for episode in episodes)
    return PromptChoice(best.plan, best.scoring, tuple(trials), texts)


def order_variance(
    scorer: Scorer,
    plan: PromptPlan,
    episode: Episode,
    *,
    scoring: str,
    orders: int,
    metric: Metric,
) -> OrderVariance:
    """Score one episode under several orders of the same balanced demonstrations.

    Args:
        episode: With its query labels, which the predictor does not see.
        orders: How many, from the plan's own on.

    Raises:
        SettingsError: Fewer than 2 orders, or demonstrations nearest to each query, whose
            order is their similarity.
    """
    if orders < 2 or plan.selection != "balanced":
        raise SettingsError(
            f"cannot compare {orders} orders of {plan.selection} demonstrations: at least 2 of "
            "balanced ones are needed; change `prompting.orders` or `prompting.selection`"
        )
    true = [example.target for example in episode.query]
    scores = []
    for number in range(orders):
        ordered = replace(plan, order=plan.order + number)
        answers = in_context(scorer, ordered, scoring=scoring)(_hide(episode))
        scores.append(metric(true, answers, episode.labels))
    return OrderVariance(tuple(scores), fmean(scores), stdev(scores))


def _answer(evidence: Sequence[Evidence], labels: Sequence[str], rule: Scoring) -> list[Prediction]:
    answers = []
    for one in evidence:
        probabilities = dict(zip(labels, label_probabilities(one, rule), strict=True))
        answers.append(Prediction(max(labels, key=probabilities.__getitem__), probabilities))
    return answers


def _hide(episode: Episode) -> Episode:
    """Leave nothing of the query set but the texts, as an evaluation does."""
    return replace(episode, query=tuple(Example(one.source, "") for one in episode.query))
