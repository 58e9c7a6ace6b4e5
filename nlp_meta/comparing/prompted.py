"""Prompting a causal language model, here or behind an endpoint, for labels or translations.

The support set is shown as demonstrations. The prompt is chosen on the meta-validation
episodes, or inside each support set where there are none. An endpoint's answers cost: their
price is said before anything is sent.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import stdev
from typing import Any

from nlp_meta.comparing.bench import Bench, Method, fold_episodes
from nlp_meta.data.answers import Answer, LearnedWithFacts
from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.clock import Clock
from nlp_meta.data.episodes import Episode, Queries, SupportSet
from nlp_meta.encoders.backbone import choose_autocast, choose_device
from nlp_meta.errors import SettingsError
from nlp_meta.evaluation.answers import episode_scorer
from nlp_meta.hub.builtin_starts import BUILTIN
from nlp_meta.prompting.demonstrations import PromptPlan, shuffle_balanced
from nlp_meta.prompting.endpoint import EndpointScorer, connect_endpoint
from nlp_meta.prompting.in_context import (
    WRITTEN,
    LabelPrompter,
    LearnsWithFacts,
    Prompter,
    PromptTrial,
    TranslationPrompter,
    in_context,
    score_orders,
    try_prompts,
)
from nlp_meta.prompting.language_model import (
    LanguageModel,
    chat_of,
    find_weights,
    load_language_model,
    name_weights,
)
from nlp_meta.prompting.local_answers import LocalScorer, LocalWriter
from nlp_meta.prompting.prompts import (
    TEMPLATES,
    TRANSLATION_TEMPLATES,
    AnswerScore,
    Chat,
    Prompt,
    Template,
    Written,
    fitting_templates,
)
from nlp_meta.prompting.questions import count_at_most, estimate_cost

logger = logging.getLogger(__name__)

Choice = Mapping[str, object]

DEMONSTRATION_TOKENS, QUERY_TOKENS, BATCH_TOKENS = 128, 160, 8192
ENDPOINT_CONTEXT, ANSWER_TOKENS, MOST_NONSENSE, CONCURRENCY = 4096, 8, 0.5, 4
INSIDE_FOLDS, MOST_JUDGED = 2, 24
"""Of the choice inside a support set: each prompt reads as many demonstrations as there are
labels, a half at a time, and answers so many queries at most."""
TRANSLATION_METRIC = "chrf"
"""By which a template for translations is chosen."""
ANSWERS = "answers"
"""Folder, below that of the comparison, where an endpoint's answers are kept."""


@dataclass(frozen=True, slots=True)
class _Prompted:
    """What differs between prompting for labels and for translations.

    Attributes:
        templates: All there are, by name; the setting `setting` lists those to choose among.
        scorings: Rules to choose among.
        metric: By which a prompt is chosen.
        mode: How an endpoint is asked.
        local: Given a language model of this process, what scores or writes by it.
        prompter: Given what scores or writes, and rules, what asks it.
        facts: Of the method, beside those of the language model.
    """

    templates: Mapping[str, Template]
    setting: str
    names: Sequence[str]
    scorings: Sequence[str]
    metric: str
    mode: str
    answer_tokens: int
    local: Callable[[LanguageModel], Any]
    prompter: Callable[[Any, Sequence[str]], Prompter]
    facts: Mapping[str, object] = field(default_factory=dict)


def _read_row(bench: Bench) -> _Prompted:
    prompting = bench.settings.prompting
    if bench.skill == CLASSIFICATION:
        return _Prompted(
            templates=TEMPLATES,
            setting="prompting.templates",
            names=prompting.templates,
            scorings=prompting.scorings,
            metric=bench.settings.adaptation.metric,
            mode="auto",
            answer_tokens=ANSWER_TOKENS,
            local=lambda model: LocalScorer(model, BATCH_TOKENS),
            prompter=LabelPrompter,
        )
    writing = bench.settings.translation_prompting
    tokens, beams = writing.max_new_tokens, writing.num_beams
    if prompting.endpoint is not None and beams != 1:
        raise SettingsError(
            f"cannot search {beams} beams at endpoint {prompting.endpoint}: it writes one line by "
            "itself, 1 is needed; change `translation_prompting.num_beams`"
        )
    return _Prompted(
        templates=TRANSLATION_TEMPLATES,
        setting="translation_prompting.translation_templates",
        names=writing.translation_templates,
        scorings=(WRITTEN,),
        metric=TRANSLATION_METRIC,
        mode="written",
        answer_tokens=tokens,
        local=lambda model: LocalWriter(model, BATCH_TOKENS, tokens, beams),
        prompter=lambda writer, _: TranslationPrompter(writer),
        facts={"num_beams": beams},
    )


def choose_prompting(bench: Bench, _: str) -> dict[str, object]:
    """Template, demonstrations or none, and rule of scoring, on the meta-validation episodes.

    Without such episodes each support set chooses, among prompts for labels. Of those for
    translations the first is taken, and of an endpoint's too, as its answers cost.
    """
    row, judged = _read_row(bench), choosing_episodes(bench)
    if not judged:
        if bench.labels and bench.settings.prompting.endpoint is None:
            return {"chosen": "inside each support set"}
        first = _list_plans(bench, row, bench.labels)[0]
        chosen = {"chosen": "beforehand, as an endpoint's answers cost"} if bench.labels else {}
        return {**chosen, **_tell_choice(first, row.scorings[0])}
    plans = _list_plans(bench, row)
    _announce(bench, row, plans, row.scorings, judged, purpose="choosing a prompt")
    model, chat = load_model(bench, row)
    trials = _try(row, model, [replace(plan, chat=chat) for plan in plans], judged)
    best = trials[0]
    return {
        "chosen": "on meta-validation",
        **_tell_choice(best.plan, best.scoring),
        "validation_score": best.score,
        "trials": len(trials),
        **_vary_order(bench, row, row.prompter(model, [best.scoring]), best.plan),
    }


def build_prompting(bench: Bench, _: str, choice: Choice) -> Method:
    """The support set as demonstrations; labels are scored by likelihood, translations written.

    The model is loaded when the first episode comes: a finished comparison needs none.
    """
    prompting, row = bench.settings.prompting, _read_row(bench)
    if prompting.endpoint is None:
        find_weights(prompting.model_name_or_path, prompting.gguf_file)
    chosen = None
    if "template" in choice:
        number = choice["demonstrations"]
        shown = None if number is None else int(str(number))
        plan = _plan(bench, row, str(choice["template"]), demonstrations=shown)
        chosen = plan, str(choice.get("scoring", WRITTEN))

    def announce(episodes: Sequence[Episode]) -> None:
        if chosen is not None:
            plan, scoring = chosen
            _announce(bench, row, [plan], [scoring], episodes, purpose="prompting")

    learn = _PromptedMethod(bench, row, chosen)
    facts = {**tell_model(bench), **row.facts, "choice": dict(choice)}
    return Method(learn, 1, lambda _examples: 0, facts, announce, without_labels=True)


@dataclass(slots=True)
class _PromptedMethod:
    """A `Rival` that loads its language model when the first support set comes.

    Attributes:
        chosen: Plan and rule; None where each support set chooses.
    """

    bench: Bench
    row: _Prompted
    chosen: tuple[PromptPlan, str] | None
    _loaded: tuple[Any, Chat | None] | None = None
    _rivals: dict[tuple[PromptPlan, str], LearnsWithFacts] = field(default_factory=dict)

    def __call__(self, support_set: SupportSet) -> LearnedWithFacts:
        if self._loaded is None:
            began = self.bench.clock.read()
            self._loaded = load_model(self.bench, self.row)
            self.bench.clock.charge(began - self.bench.clock.read())  # loading is not learning
        model, chat = self._loaded
        plan, scoring = self.chosen or self._choose(support_set, model, chat)
        if (plan, scoring) not in self._rivals:
            prompter = self.row.prompter(model, [scoring])
            rival = in_context(prompter, replace(plan, chat=chat))
            self._rivals[plan, scoring] = (
                remember(rival, self.bench.clock) if plan.demonstrations == 0 else rival
            )
        return self._rivals[plan, scoring](support_set)

    def _choose(
        self, support_set: SupportSet, model: Any, chat: Chat | None
    ) -> tuple[PromptPlan, str]:
        """Choose by folds of a support set; the first of all where a label has too few examples."""
        plans = _list_plans(self.bench, self.row, support_set.labels)
        seed = self.bench.settings.run.seed
        episode = support_set.ask(Queries(()))
        folds = [
            replace(fold, query=tuple(queries[: MOST_JUDGED // INSIDE_FOLDS]))
            for fold in fold_episodes(episode, folds=INSIDE_FOLDS, seed=seed)
            if (queries := shuffle_balanced(fold.query, seed=seed))
        ]
        if not folds:
            return plans[0], self.row.scorings[0]
        best = _try(self.row, model, [replace(plan, chat=chat) for plan in plans], folds)[0]
        return best.plan, best.scoring


def remember(rival: LearnsWithFacts, clock: Clock) -> LearnsWithFacts:
    """Answer a query set once, at its own cost ever after: no support set has a say in it."""
    known: dict[tuple[object, ...], tuple[Sequence[Answer], Mapping[str, object], float]] = {}

    def learn(support_set: SupportSet) -> LearnedWithFacts:
        learned = rival(support_set)
        facts: dict[str, object] = {}

        def answer(queries: Queries) -> Sequence[Answer]:
            key = (support_set.task, support_set.labels, queries.texts)
            if key in known:
                answers, shown, seconds = known[key]
                clock.charge(seconds)
            else:
                began = clock.read()
                answers, shown = learned(queries), learned.facts
                known[key] = answers, shown, clock.read() - began
            facts.update(shown)
            return answers

        return LearnedWithFacts(answer, facts)

    return learn


def choosing_episodes(bench: Bench) -> tuple[Episode, ...]:
    """The judged episodes that a prompt is chosen by: many prompts times many queries are costly.

    Raises:
        SettingsError: None of the draws that there are is to be chosen by.
    """
    draws = bench.settings.prompting.choosing_draws
    if draws is not None and draws < 1:
        raise SettingsError(
            f"cannot choose a prompt by {draws} draws: at least 1 is needed, or null for all of "
            "`adaptation.draws`; change `prompting.choosing_draws`"
        )
    return tuple(e for e in bench.judged if draws is None or e.index < draws)


def _try(
    row: _Prompted, model: Any, plans: Sequence[PromptPlan], episodes: Sequence[Episode]
) -> list[PromptTrial]:
    metric = episode_scorer(row.metric, setting="adaptation.metric")
    return try_prompts(row.prompter(model, row.scorings), plans, episodes, metric=metric)


def _tell_choice(plan: PromptPlan, scoring: str) -> dict[str, object]:
    choice: dict[str, object] = {
        "template": plan.template.name,
        "demonstrations": plan.demonstrations,
    }
    return choice if scoring == WRITTEN else {**choice, "scoring": scoring}


def _vary_order(
    bench: Bench, row: _Prompted, prompter: Prompter, plan: PromptPlan
) -> dict[str, object]:
    """How much the order of the demonstrations matters to labels, on one judged episode."""
    orders = bench.settings.prompting.orders
    varied = bench.labels and plan.demonstrations != 0 and plan.selection == "balanced"
    if orders < 2 or not varied:
        return {}
    metric = episode_scorer(row.metric)
    scores = score_orders(prompter, plan, bench.judged[0], orders=orders, metric=metric)
    return {"order_scores": scores, "order_deviation": stdev(scores)}


@dataclass(frozen=True, slots=True)
class _Dry:
    """A scorer and writer that notes what it would be asked, for a price."""

    context_tokens: int
    answer_tokens: int
    asked: list[tuple[Prompt, Sequence[str]]]
    name: str = "dry"
    graded: bool = True

    def count_tokens(self, text: str) -> int:
        return count_at_most(text)

    def score(self, prompt: Prompt, queries: Sequence[str]) -> list[tuple[AnswerScore, ...]]:
        self.asked.append((prompt, tuple(queries)))
        return [tuple(AnswerScore(0.0, 1) for _ in prompt.answers) for _ in queries]

    def write(self, prompt: Prompt, queries: Sequence[str]) -> list[Written]:
        self.asked.append((prompt, tuple(queries)))
        return [Written("", True) for _ in queries]


def _announce(
    bench: Bench,
    row: _Prompted,
    plans: Sequence[PromptPlan],
    scorings: Sequence[str],
    episodes: Sequence[Episode],
    *,
    purpose: str,
) -> None:
    """Say what an endpoint will be asked and cost at most, before anything is sent."""
    prompting = bench.settings.prompting
    if prompting.endpoint is None or not episodes:
        return
    dry = _Dry(prompting.context_tokens or ENDPOINT_CONTEXT, row.answer_tokens, [])
    prompter = row.prompter(dry, scorings)
    for plan in plans:
        for episode in episodes:
            prompter.answer(plan, episode.support_set, episode.queries)
    cost = estimate_cost(
        dry.asked,
        mode=row.mode,
        answer_tokens=row.answer_tokens,
        price_per_million_tokens=prompting.price_per_million_tokens,
        requests_per_minute=prompting.requests_per_minute,
    )
    logger.info("%s at %s: %s", purpose, prompting.endpoint, cost)


def _list_plans(bench: Bench, row: _Prompted, labels: Sequence[str] = ()) -> list[PromptPlan]:
    """Give each template that suits labels, with demonstrations, which may mislead, and without."""
    names = fitting_templates(row.names, labels) if labels else row.names
    shown = dict.fromkeys([bench.settings.prompting.demonstrations, 0])
    return [_plan(bench, row, name, demonstrations=number) for name in names for number in shown]


def _plan(bench: Bench, row: _Prompted, template: str, *, demonstrations: int | None) -> PromptPlan:
    if template not in row.templates:
        raise SettingsError(
            f"cannot prompt with the template '{template}': one of {', '.join(row.templates)} is "
            f"needed; change `{row.setting}`"
        )
    return PromptPlan(
        template=row.templates[template],
        demonstrations=demonstrations,
        selection=bench.settings.prompting.selection,
        seed=bench.settings.run.seed,
        order=0,
        chat=None,
        demonstration_tokens=DEMONSTRATION_TOKENS,
        query_tokens=QUERY_TOKENS,
    )


def load_model(bench: Bench, row: _Prompted) -> tuple[Any, Chat | None]:
    """Load the language model that the settings name, or connect to their endpoint.

    Returns:
        What scores or writes, and the chat template if the settings want it.
    """
    prompting = bench.settings.prompting
    if prompting.endpoint is not None:
        return _connect(bench, row), None
    model = load_language_model(
        prompting.model_name_or_path,
        gguf_file=prompting.gguf_file,
        revision=prompting.revision,
        context_tokens=prompting.context_tokens,
        autocast=choose_autocast(bench.settings.run.mixed_precision, choose_device()),
    )
    return row.local(model), chat_of(model) if prompting.chat else None


def _connect(bench: Bench, row: _Prompted) -> EndpointScorer:
    """Connect to the endpoint of the settings; its answers are kept in the run's folder."""
    prompting = bench.settings.prompting
    if prompting.model_name_or_path.startswith(BUILTIN):
        raise SettingsError(
            f"cannot ask {prompting.endpoint} for '{prompting.model_name_or_path}', which is read "
            "here: the name that the endpoint knows its model by is needed; change "
            "`prompting.model_name_or_path`"
        )
    return connect_endpoint(
        prompting.endpoint,
        model=prompting.model_name_or_path,
        context_tokens=prompting.context_tokens or ENDPOINT_CONTEXT,
        mode=row.mode,
        answer_tokens=row.answer_tokens,
        most_nonsense=MOST_NONSENSE,
        timeout=prompting.timeout,
        retries=prompting.retries,
        concurrency=CONCURRENCY,
        requests_per_minute=prompting.requests_per_minute,
        cache_dir=Path(bench.settings.run.output_dir) / ANSWERS,
        api_key_env=prompting.api_key_env,
    )


def tell_model(bench: Bench) -> dict[str, object]:
    """Facts of the language model: nothing of it is trained here, or moves."""
    prompting = bench.settings.prompting
    name = name_weights(prompting.model_name_or_path, prompting.gguf_file)
    return {
        "title": f"prompting {name}",
        "examples_before": None,
        "parameters": 0,
        "bytes": 0,
        "model": prompting.model_name_or_path,
    }
