"""In-context learning: a support set is shown to a language model, and no weight moves.

Labels are scored behind each query, translations are written behind it; which examples are
shown, how many fit and where texts are cut is the same for both. Without an example the
instruction alone is shown. The template, the rule of scoring, and whether demonstrations are
shown at all, are chosen on episodes of other tasks.

A language model prefers some labels whatever the text: short ones, frequent ones, those of the
last demonstrations. Each rule of scoring takes something of that away, and all are arithmetic on
the same few numbers, so that one pass over the texts serves every rule.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import fmean
from typing import ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp, softmax

from nlp_meta.data.answers import Answer, LearnedWithFacts, Prediction, Translation
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.episodes import Episode, Queries, SupportSet
from nlp_meta.data.tasks import Example
from nlp_meta.errors import EpisodeError, SettingsError
from nlp_meta.prompting.demonstrations import (
    FittedPrompt,
    PromptPlan,
    cut_text,
    fit_prompt,
    group_queries,
    order_demonstrations,
    without_texts,
)
from nlp_meta.prompting.prompts import (
    AnswerScore,
    Prompt,
    Reader,
    Scorer,
    Writer,
    Written,
    build_premise,
    build_prompt,
    build_translation_prompt,
    name_languages,
    one_line,
)

Numbers = NDArray[np.float64]

CONTENT_FREE = ("N/A", "[MASK]", "")
"""Queries that say nothing, of Zhao et al. 2021, section 5."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Log-likelihoods that a language model gave for one query.

    Attributes:
        answers: Behind the query, one for each label.
        content_free: The same behind each content-free query of the same prompt.
        premise: The same behind the answer line alone.
    """

    answers: tuple[AnswerScore, ...]
    content_free: tuple[tuple[AnswerScore, ...], ...] = ()
    premise: tuple[AnswerScore, ...] = ()


@dataclass(frozen=True, slots=True)
class Scoring:
    """A rule and the evidence that it needs beside the answers.

    Attributes:
        rule: Evidence to label scores, `(labels,)`, whose softmax are the probabilities.
    """

    rule: Callable[[Evidence], Numbers]
    content_free: bool = False
    premise: bool = False


def add_tokens(evidence: Evidence) -> Numbers:
    """Score a label by its answer's log-likelihood in nats."""
    return _log_likelihoods(evidence.answers)


def average_tokens(evidence: Evidence) -> Numbers:
    """Score a label by nats per token, so that long labels do not lose for their length."""
    counts = np.array([answer.tokens for answer in evidence.answers], dtype=np.float64)
    scores: Numbers = add_tokens(evidence) / counts
    return scores


def remove_premise(evidence: Evidence) -> Numbers:
    """Score a label by log p(answer | prompt) - log p(answer | answer line).

    Source:
        Holtzman et al. 2021, arXiv:2104.08315, section 3, PMI with a domain premise.
    """
    return add_tokens(evidence) - _log_likelihoods(evidence.premise)


def calibrate(evidence: Evidence) -> Numbers:
    """Score a label by log p(label | query) - log of its mean over content-free queries.

    Both are probabilities among the labels; the softmax of the scores is that of the
    paper, W p with W = diag(p_cf)^-1, made to add up to 1.

    Source:
        Zhao et al. 2021, arXiv:2102.09690, section 5.
    """
    rows = np.stack([_log_likelihoods(answers) for answers in evidence.content_free])
    mean = logsumexp(log_softmax(rows, axis=1), axis=0) - np.log(len(rows))
    scores: Numbers = add_tokens(evidence) - mean
    return scores


SCORINGS: Mapping[str, Scoring] = {
    "sum": Scoring(add_tokens),
    "mean": Scoring(average_tokens),
    "pmi": Scoring(remove_premise, premise=True),
    "calibrated": Scoring(calibrate, content_free=True),
}


def find_scoring(name: str) -> Scoring:
    """Look a rule up in `SCORINGS`.

    Raises:
        SettingsError: There is none of that name.
    """
    if name not in SCORINGS:
        raise SettingsError(
            f"cannot score labels by '{name}': one of {', '.join(SCORINGS)} is needed; change "
            "`prompting.scorings`"
        )
    return SCORINGS[name]


def find_scorings(names: Sequence[str], *, graded: bool) -> dict[str, Scoring]:
    """Look rules up by name; where scores only say which label was written, `sum` is the only one.

    Nothing can be taken away from such scores: of a label that texts without content are
    answered with, the rest would be nothing whatever the text.
    """
    rules = {name: find_scoring(name) for name in names}
    return rules if graded else {"sum": SCORINGS["sum"]}


def label_probabilities(evidence: Evidence, scoring: Scoring) -> list[float]:
    """Softmax over the label scores: adds up to 1, in label order."""
    probabilities: list[float] = softmax(scoring.rule(evidence)).tolist()
    return probabilities


def _log_likelihoods(answers: Sequence[AnswerScore]) -> Numbers:
    return np.array([answer.log_likelihood for answer in answers], dtype=np.float64)


Metric = Callable[[Episode, Sequence[Answer]], float]
"""An episode with its true targets and one answer for each query, to a score; more is better."""
LearnsWithFacts = Callable[[SupportSet], LearnedWithFacts]
"""A `Rival` that says what its prompts showed."""
Row = TypeVar("Row")
WRITTEN = "written"
"""Stands for a rule of scoring where answers are written."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers to all queries of a support set.

    Attributes:
        answers: By the rule of scoring.
        facts: `demonstrations` that were shown, of prompts made for each query the fewest,
            and `queries_cut`, too long to be read whole. Of labels also `template` and
            `scoring`; of translations `pairs_left_out`, too long, without one side, or with
            a query's text, `answer_tokens` of the longest answer allowed, and how many came
            out `empty` or `unfinished`.
    """

    answers: Mapping[str, Sequence[Answer]]
    facts: Mapping[str, object]


class Prompter(Protocol):
    """A language model, and what it is asked for."""

    @property
    def settings(self) -> str:
        """Names of the settings that list what can be chosen, for errors."""

    def answer(self, plan: PromptPlan, support_set: SupportSet, queries: Queries) -> Answered:
        """Show a support set and ask all queries; without any, read what they will share.

        Raises:
            EpisodeError: The context does not hold what must stand in it.
        """


@dataclass(frozen=True, slots=True)
class LabelPrompter:
    """Has labels scored: one reading of the queries serves every rule.

    Attributes:
        scorings: Names of `SCORINGS`; `sum` in their place where the scorer is not graded.

    Raises:
        SettingsError: No rule of that name.
    """

    scorer: Scorer
    scorings: Sequence[str]
    settings: ClassVar[str] = "`prompting.templates`, `prompting.scorings`"

    def __post_init__(self) -> None:
        find_scorings(self.scorings, graded=True)

    def answer(self, plan: PromptPlan, support_set: SupportSet, queries: Queries) -> Answered:
        """Score the labels behind each query; an example with a query's text is not shown."""
        scorer, labels = self.scorer, support_set.labels
        rules = find_scorings(self.scorings, graded=scorer.graded)
        texts = [one_line(text) for text in queries.texts]
        examples = without_texts(support_set.examples, texts)
        whole = [one_line(example.source) for example in examples]
        cut = _cut_texts(whole, plan.demonstration_tokens, scorer)
        shown = [replace(e, source=text) for e, text in zip(examples, cut, strict=True)]
        calibrated = bool(texts) and any(rule.content_free for rule in rules.values())
        free = CONTENT_FREE if calibrated else ()
        premise: tuple[AnswerScore, ...] = ()
        if texts and any(rule.premise for rule in rules.values()):
            premise = scorer.score(build_premise(plan.template, labels, chat=plan.chat), [""])[0]

        def write(chosen: Sequence[Example]) -> Prompt:
            return build_prompt(plan.template, chosen, labels, chat=plan.chat)

        def ask(fitted: FittedPrompt, group: Sequence[str]) -> list[Evidence]:
            blanks = _cut_texts(free, fitted.query_tokens, scorer)
            content_free = tuple(scorer.score(fitted.prompt, blanks)) if blanks else ()
            rows = scorer.score(fitted.prompt, group)
            return [Evidence(row, content_free, premise) for row in rows]

        asker = _Asker(scorer, plan, support_set.task, write, fewest=1, beside=free)
        evidence, facts = asker.ask(whole, shown, texts, ask)
        answers = {name: _predict(evidence, labels, rule) for name, rule in rules.items()}
        prompt = {"template": plan.template.name, "scoring": ", ".join(rules)}
        return Answered(answers, {**facts, **prompt})


@dataclass(frozen=True, slots=True)
class TranslationPrompter:
    """Has translations written.

    A plan's template is one of `TRANSLATION_TEMPLATES`. Where not one pair fits the context
    beside a source and the longest answer, none is shown.
    """

    writer: Writer
    settings: ClassVar[str] = "`translation_prompting.translation_templates`"

    def answer(self, plan: PromptPlan, support_set: SupportSet, queries: Queries) -> Answered:
        """Have a line written behind each source."""
        writer = self.writer
        template = name_languages(plan.template, support_set.language)
        texts = [one_line(text) for text in queries.texts]
        pairs = self._select_pairs(plan, support_set.examples, texts)

        def write(chosen: Sequence[Example]) -> Prompt:
            return build_translation_prompt(template, chosen, chat=plan.chat)

        def ask(fitted: FittedPrompt, group: Sequence[str]) -> list[Written]:
            return writer.write(fitted.prompt, group)

        room = writer.answer_tokens
        asker = _Asker(writer, plan, support_set.task, write, fewest=0, answer_tokens=room)
        lines, facts = asker.ask([pair.source for pair in pairs], pairs, texts, ask)
        facts |= {
            "pairs_left_out": len(support_set.examples) - len(pairs),
            "answer_tokens": room,
            "empty": sum(not line.text for line in lines),
            "unfinished": sum(not line.finished for line in lines),
        }
        return Answered({WRITTEN: [Translation(line.text) for line in lines]}, facts)

    def _select_pairs(
        self, plan: PromptPlan, examples: Sequence[Example], texts: Sequence[str]
    ) -> list[Example]:
        """Pairs that may be shown: whole, not too long, and neither side a text to translate."""
        keys = {text_key(text) for text in texts}

        def may_show(side: str) -> bool:
            if not side or text_key(side) in keys:
                return False
            return self.writer.count_tokens(side) <= plan.demonstration_tokens

        pairs = [Example(one_line(pair.source), one_line(pair.target)) for pair in examples]
        return [pair for pair in pairs if may_show(pair.source) and may_show(pair.target)]


@dataclass(frozen=True, slots=True)
class _Asker:
    """Asks queries behind the prompts that it makes of a support set.

    Attributes:
        write: Demonstrations in their order to a prompt.
        beside: Further texts that are read behind the same prompt.
    """

    reader: Reader
    plan: PromptPlan
    task: str
    write: Callable[[Sequence[Example]], Prompt]
    fewest: int
    answer_tokens: int = 0
    beside: Sequence[str] = ()

    def ask(
        self,
        whole: Sequence[str],
        shown: Sequence[Example],
        texts: Sequence[str],
        ask: Callable[[FittedPrompt, Sequence[str]], list[Row]],
    ) -> tuple[list[Row], dict[str, int]]:
        """Ask all queries, each behind the prompt that it shares or has to itself."""
        rows: list[Row] = []
        counts: list[int] = []
        queries_cut = 0
        for candidates, group in group_queries(self.plan, whole, shown, texts):
            fitted = self._fit(candidates, [*group, *self.beside])
            queries = _cut_texts(group, fitted.query_tokens, self.reader)
            rows += ask(fitted, queries)
            counts.append(fitted.demonstrations)
            queries_cut += sum(a != b for a, b in zip(group, queries, strict=True))
        return rows, {"demonstrations": min(counts, default=0), "queries_cut": queries_cut}

    def _fit(self, candidates: Sequence[Example], texts: Sequence[str]) -> FittedPrompt:
        most = self.plan.query_tokens
        longest = max((self.reader.count_tokens(text) for text in texts), default=most)
        return fit_prompt(
            candidates,
            lambda chosen: self.write(order_demonstrations(self.plan, chosen)),
            self.reader,
            task=self.task,
            demonstrations=self.plan.demonstrations,
            query_tokens=max(1, min(most, longest)),
            fewest=self.fewest,
            answer_tokens=self.answer_tokens,
        )


def in_context(prompter: Prompter, plan: PromptPlan) -> LearnsWithFacts:
    """Make a method that shows the support set to a language model: a `Rival`.

    Learning reads the prompt that all queries will share, as far as it can be told before
    they come; nothing is asked yet. The facts of the learned method are those of `Answered`.

    Args:
        prompter: With one rule of scoring.
    """

    def learn(support_set: SupportSet) -> LearnedWithFacts:
        with suppress(EpisodeError):  # queries may be shorter than expected and find room
            prompter.answer(plan, support_set, Queries(()))
        facts: dict[str, object] = {}

        def answer(queries: Queries) -> Sequence[Answer]:
            answered = prompter.answer(plan, support_set, queries)
            facts.update(answered.facts)
            (answers,) = answered.answers.values()
            return answers

        return LearnedWithFacts(answer, facts)

    return learn


@dataclass(frozen=True, slots=True)
class PromptTrial:
    """What one plan and one rule scored, averaged over the episodes."""

    plan: PromptPlan
    scoring: str
    score: float


def try_prompts(
    prompter: Prompter, plans: Sequence[PromptPlan], episodes: Sequence[Episode], *, metric: Metric
) -> list[PromptTrial]:
    """Score every plan and rule on episodes of unseen tasks, the best first.

    Each plan costs one pass over the query texts of the episodes, however many rules there
    are. Of equal ones the first plan, then the first rule, stands first.

    Args:
        episodes: With their true targets, which the language model does not see.

    Raises:
        SettingsError: No plan, no rule or no episode.
    """
    trials = []
    for plan in plans if episodes else ():
        scores: dict[str, list[float]] = {}
        for episode in episodes:
            answered = prompter.answer(plan, episode.support_set, episode.queries)
            for scoring, answers in answered.answers.items():
                scores.setdefault(scoring, []).append(metric(episode, answers))
        trials += [PromptTrial(plan, scoring, fmean(values)) for scoring, values in scores.items()]
    if not trials:
        raise SettingsError(
            f"cannot choose among {len(plans)} prompts on {len(episodes)} episodes: at least one "
            "of each is needed, and a rule where labels are scored; change "
            f"{prompter.settings} or the meta-validation tasks"
        )
    return sorted(trials, key=lambda trial: trial.score, reverse=True)


def score_orders(
    prompter: Prompter, plan: PromptPlan, episode: Episode, *, orders: int, metric: Metric
) -> list[float]:
    """Score one episode under several orders of the same balanced demonstrations.

    Args:
        prompter: With one rule of scoring.
        episode: With its true targets, which the language model does not see.
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
    scores = []
    for number in range(orders):
        ordered = replace(plan, order=plan.order + number)
        answered = prompter.answer(ordered, episode.support_set, episode.queries)
        (answers,) = answered.answers.values()
        scores.append(metric(episode, answers))
    return scores


def _cut_texts(texts: Sequence[str], tokens: int, reader: Reader) -> list[str]:
    return [cut_text(text, tokens, reader.count_tokens) for text in texts]


def _predict(
    evidence: Sequence[Evidence], labels: Sequence[str], rule: Scoring
) -> list[Prediction]:
    predictions = []
    for row in evidence:
        probabilities = dict(zip(labels, label_probabilities(row, rule), strict=True))
        predictions.append(Prediction(max(labels, key=probabilities.__getitem__), probabilities))
    return predictions
