"""Prompting a causal language model, here or behind an endpoint, as a method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from nlp_meta.comparing.bench import Bench, Method, fold_episodes
from nlp_meta.comparing.language_models import (
    ANSWER_TOKENS,
    ENDPOINT_CONTEXT,
    choosing_episodes,
    load_scorer,
    say_cost,
    tell_model,
)
from nlp_meta.data.answers import Answer, LearnedWithFacts, Predict
from nlp_meta.data.cache import charge, work_time
from nlp_meta.data.episodes import Episode, Queries, SupportSet
from nlp_meta.errors import SettingsError
from nlp_meta.evaluation.metrics import METRICS
from nlp_meta.prompting.evidence import PromptFacts, PromptPlan, gather_evidence, shuffle_balanced
from nlp_meta.prompting.in_context import (
    PromptChoice,
    choose_prompt,
    fitting_templates,
    in_context,
    order_variance,
)
from nlp_meta.prompting.language_model import find_weights
from nlp_meta.prompting.prompts import TEMPLATES, AnswerScore, Chat, Prompt, Scorer
from nlp_meta.prompting.questions import count_at_most
from nlp_meta.prompting.scoring import find_scoring, find_scorings

Choice = Mapping[str, object]
Given = TypeVar("Given", bound=Answer)

DEMONSTRATION_TOKENS, QUERY_TOKENS = 128, 160
INSIDE_FOLDS, MOST_JUDGED = 2, 24
"""Of the choice inside a support set: each prompt reads as many demonstrations as there are
labels, a half at a time, and answers so many queries at most."""


def choose_prompting(bench: Bench, _: str) -> dict[str, object]:
    """Template, demonstrations or none, and scoring rule, on the meta-validation episodes.

    Without such episodes each support set chooses. An endpoint's answers cost: then the first
    of each that the settings name is taken.
    """
    prompting = bench.settings.prompting
    judged = choosing_episodes(bench)
    if not judged and prompting.endpoint is None:
        return {"chosen": "inside each support set"}
    if not judged:
        first = _suit_labels(bench, bench.labels)[0]
        fixed = _tell_choice(first, prompting.scorings[0])
        return {"chosen": "beforehand, as an endpoint's answers cost", **fixed}
    plans = _list_plans(bench, prompting.templates)
    _announce(bench, plans, prompting.scorings, judged, what="choosing a prompt")
    scorer, chat = load_scorer(bench)
    found = _choose(bench, scorer, [replace(plan, chat=chat) for plan in plans], judged)
    return {
        "chosen": "on meta-validation",
        **_tell_choice(found.plan, found.scoring),
        "validation_score": max(trial.score for trial in found.trials),
        "trials": len(found.trials),
        **_vary_order(bench, scorer, found),
    }


def build_prompting(bench: Bench, _: str, choice: Choice) -> Method:
    """The support set as demonstrations, the labels scored by their likelihood.

    The model is loaded when the first episode comes: a finished comparison needs none.
    """
    prompting = bench.settings.prompting
    if prompting.endpoint is None:
        find_weights(prompting.model_name_or_path, prompting.gguf_file)
    ready: list[_Prompting] = []
    chosen = _read_choice(bench, choice) if "template" in choice else None

    def learn(support_set: SupportSet) -> LearnedWithFacts:
        if not ready:
            began = work_time()
            ready.append(_Prompting(bench, *load_scorer(bench), {}))
            charge(began - work_time())  # loading is not learning
        plan, scoring = chosen or ready[0].choose(support_set.ask(Queries(())))
        facts: dict[str, object] = {}

        def answer(queries: Queries) -> Sequence[Answer]:
            answers = ready[0].answer(plan, scoring, support_set.ask(queries))
            facts.update(ready[0].said)
            return answers

        return LearnedWithFacts(answer, facts)

    def announce(episodes: Sequence[Episode]) -> None:
        if chosen is not None:
            plan, scoring = chosen
            _announce(bench, [plan], [scoring], episodes, what="prompting")

    facts = {**tell_model(bench), "choice": dict(choice)}
    return Method(learn, 1, lambda _labels: 0, facts, announce, without_labels=True)


@dataclass(frozen=True, slots=True)
class _Prompting:
    """A language model that is ready to be prompted, and what it said of the cell being made."""

    bench: Bench
    scorer: Scorer
    chat: Chat | None
    said: dict[str, object]
    predictors: dict[tuple[PromptPlan, str], Predict] = field(default_factory=dict)

    def choose(self, episode: Episode) -> tuple[PromptPlan, str]:
        """Choose by folds of a support set; the first of all where a label has too few examples."""
        plans = _suit_labels(self.bench, episode.labels)
        seed = self.bench.settings.run.seed
        folds = [
            replace(one, query=tuple(some[: MOST_JUDGED // INSIDE_FOLDS]))
            for one in fold_episodes(episode, folds=INSIDE_FOLDS, seed=seed)
            if (some := shuffle_balanced(one.query, seed=seed))
        ]
        if not folds:
            return plans[0], self.bench.settings.prompting.scorings[0]
        chats = [replace(plan, chat=self.chat) for plan in plans]
        found = _choose(self.bench, self.scorer, chats, folds)
        return found.plan, found.scoring

    def answer(self, plan: PromptPlan, scoring: str, episode: Episode) -> Sequence[Answer]:
        (taken,) = find_scorings([scoring], graded=self.scorer.graded)
        self.said.clear()
        self.said.update(template=plan.template.name, scoring=taken, demonstrations=0)
        key = plan, taken
        if key not in self.predictors:
            asked = in_context(
                self.scorer,
                replace(plan, chat=self.chat),
                scoring=taken,
                on_prompt=self._note,
            )
            alike = plan.demonstrations == 0
            self.predictors[key] = remember(asked) if alike else asked
        return self.predictors[key](episode)

    def _note(self, facts: PromptFacts) -> None:
        self.said.update(demonstrations=facts.demonstrations, queries_cut=facts.queries_cut)


def remember(predict: Callable[[Episode], Sequence[Given]]) -> Callable[[Episode], Sequence[Given]]:
    """Answer a query set once, at its own cost ever after: no support set has a say in it."""
    known: dict[tuple[object, ...], tuple[Sequence[Given], float]] = {}

    def answer(episode: Episode) -> Sequence[Given]:
        queries = tuple(example.source for example in episode.query)
        key = (episode.task, episode.labels, queries)
        if key in known:
            answers, seconds = known[key]
            charge(seconds)
            return answers
        began = work_time()
        answers = predict(episode)
        known[key] = answers, work_time() - began
        return answers

    return answer


def _choose(
    bench: Bench, scorer: Scorer, plans: Sequence[PromptPlan], episodes: Sequence[Episode]
) -> PromptChoice:
    return choose_prompt(
        scorer,
        plans,
        episodes,
        scorings=bench.settings.prompting.scorings,
        metric=METRICS[bench.settings.adaptation.metric],
    )


def _tell_choice(plan: PromptPlan, scoring: str) -> dict[str, object]:
    return {
        "template": plan.template.name,
        "demonstrations": plan.demonstrations,
        "scoring": scoring,
    }


def _read_choice(bench: Bench, choice: Choice) -> tuple[PromptPlan, str]:
    number = choice["demonstrations"]
    shown = None if number is None else int(str(number))
    return _plan(bench, str(choice["template"]), demonstrations=shown), str(choice["scoring"])


def _vary_order(bench: Bench, scorer: Scorer, found: PromptChoice) -> dict[str, object]:
    """How much the order of the demonstrations matters, on one meta-validation episode."""
    prompting = bench.settings.prompting
    if prompting.orders < 2 or found.plan.demonstrations == 0 or prompting.selection == "nearest":
        return {}
    varied = order_variance(
        scorer,
        found.plan,
        bench.judged[0],
        scoring=found.scoring,
        orders=prompting.orders,
        metric=METRICS[bench.settings.adaptation.metric],
    )
    return {"order_scores": list(varied.scores), "order_deviation": varied.deviation}


@dataclass(frozen=True, slots=True)
class _Dry:
    """A scorer that notes what it would be asked, for a price."""

    context_tokens: int
    asked: list[tuple[Prompt, Sequence[str]]]
    name: str = "dry"
    graded: bool = True

    def count_tokens(self, text: str) -> int:
        return count_at_most(text)

    def score(self, prompt: Prompt, queries: Sequence[str]) -> list[tuple[AnswerScore, ...]]:
        self.asked.append((prompt, tuple(queries)))
        return [tuple(AnswerScore(0.0, 1) for _ in prompt.answers) for _ in queries]


def _announce(
    bench: Bench,
    plans: Sequence[PromptPlan],
    scorings: Sequence[str],
    episodes: Sequence[Episode],
    *,
    what: str,
) -> None:
    """Say what an endpoint will be asked, before anything is sent."""
    if bench.settings.prompting.endpoint is None or not episodes:
        return
    dry = _Dry(bench.settings.prompting.context_tokens or ENDPOINT_CONTEXT, [])
    rules = [find_scoring(name) for name in scorings]
    for plan in plans:
        for episode in episodes:
            gather_evidence(dry, plan, episode.support_set.ask(episode.queries), scorings=rules)
    say_cost(bench, dry.asked, mode="auto", answer_tokens=ANSWER_TOKENS, what=what)


def _suit_labels(bench: Bench, labels: Sequence[str]) -> list[PromptPlan]:
    return _list_plans(bench, fitting_templates(bench.settings.prompting.templates, labels))


def _list_plans(bench: Bench, templates: Sequence[str]) -> list[PromptPlan]:
    """Give every template with demonstrations and without: a small model may do worse with them."""
    shown = dict.fromkeys([bench.settings.prompting.demonstrations, 0])
    return [_plan(bench, name, demonstrations=number) for name in templates for number in shown]


def _plan(bench: Bench, template: str, *, demonstrations: int | None) -> PromptPlan:
    if template not in TEMPLATES:
        raise SettingsError(
            f"cannot prompt with the template '{template}': one of {', '.join(TEMPLATES)} is "
            "needed; change `prompting.templates`"
        )
    return PromptPlan(
        template=TEMPLATES[template],
        demonstrations=demonstrations,
        selection=bench.settings.prompting.selection,
        seed=bench.settings.run.seed,
        order=0,
        chat=None,
        demonstration_tokens=DEMONSTRATION_TOKENS,
        query_tokens=QUERY_TOKENS,
    )
