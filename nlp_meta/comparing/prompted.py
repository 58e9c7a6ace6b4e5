"""Prompting a causal language model, here or behind an endpoint, as a method."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from nlp_meta.comparing.bench import AskingBench, Bench, Method
from nlp_meta.data.answers import Answer, Predict
from nlp_meta.data.episodes import Episode
from nlp_meta.encoders.precision import choose_autocast, choose_device
from nlp_meta.errors import SettingsError
from nlp_meta.evaluation.metrics import METRICS
from nlp_meta.evaluation.protocol import Stopwatch, hide_query
from nlp_meta.prompting.endpoint import EndpointScorer, connect_endpoint
from nlp_meta.prompting.evidence import PromptFacts, PromptPlan
from nlp_meta.prompting.in_context import PromptChoice, choose_prompt, in_context, order_variance
from nlp_meta.prompting.language_model import (
    LanguageModel,
    chat_of,
    find_weights,
    load_language_model,
)
from nlp_meta.prompting.local_scoring import LocalScorer
from nlp_meta.prompting.prompts import TEMPLATES, AnswerScore, Chat, Prompt, Scorer
from nlp_meta.prompting.questions import Batches, count_at_most, estimate_cost

logger = logging.getLogger(__name__)

Choice = Mapping[str, object]
Given = TypeVar("Given", bound=Answer)

DEMONSTRATION_TOKENS, QUERY_TOKENS = 128, 160
BATCH_TOKENS = 8192
ENDPOINT_CONTEXT, ANSWER_TOKENS, MOST_NONSENSE, CONCURRENCY = 4096, 8, 0.5, 4
ANSWERS = "answers"
"""Folder, below that of the comparison, where an endpoint's answers are kept."""


def choose_prompting(bench: Bench, _: str) -> dict[str, object]:
    """Template, demonstrations or none, and scoring rule, on the meta-validation episodes."""
    prompting = bench.settings.prompting
    if not bench.judged:
        return {
            "template": prompting.templates[0],
            "demonstrations": prompting.demonstrations,
            "scoring": prompting.scorings[0],
        }
    # A small model may do worse with demonstrations than without: both are tried.
    shown = dict.fromkeys([prompting.demonstrations, 0])
    plans = [
        _plan(bench, name, demonstrations=number, chat=None)
        for name in prompting.templates
        for number in shown
    ]
    _announce(bench, plans, bench.judged, what="choosing a prompt")
    scorer, chat = load_scorer(bench)
    # A server that only writes labels has no likelihoods to correct.
    graded = getattr(scorer, "graded", True)
    found = choose_prompt(
        scorer,
        [replace(plan, chat=chat) for plan in plans],
        bench.judged,
        scorings=prompting.scorings if graded else ["sum"],
        metric=METRICS[bench.settings.adaptation.metric],
    )
    return {
        "chosen": "on meta-validation",
        "template": found.plan.template.name,
        "demonstrations": found.plan.demonstrations,
        "scoring": found.scoring,
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
    first = _read_plan(bench, choice, chat=None)
    said: dict[str, object] = {}
    ready: list[Predict] = []

    def note(facts: PromptFacts) -> None:
        said.update(demonstrations=facts.demonstrations, queries_cut=facts.queries_cut)

    def predict(episode: Episode) -> Sequence[Answer]:
        if not ready:
            scorer, chat = load_scorer(bench)
            asked = in_context(
                scorer,
                replace(first, chat=chat),
                scoring=str(choice["scoring"]),
                on_adapted=bench.stopwatch.adapted,
                on_prompt=note,
            )
            ready.append(asked if first.demonstrations != 0 else remember(asked, bench.stopwatch))
            bench.stopwatch.start()  # loading is not adapting
        return ready[0](episode)

    def announce(episodes: Sequence[Episode]) -> None:
        _announce(bench, [first], episodes, what="prompting")

    facts = {
        "examples_before": None,
        "parameters": 0,
        "bytes": 0,
        "model": prompting.model_name_or_path,
        "choice": dict(choice),
    }
    return Method(predict, 1, lambda _labels: 0, facts, said, announce, without_labels=True)


def remember(
    predict: Callable[[Episode], Sequence[Given]], stopwatch: Stopwatch
) -> Callable[[Episode], Sequence[Given]]:
    """Answer a query set once, at its own cost ever after: no support set has a say in it."""
    known: dict[tuple[object, ...], tuple[Sequence[Given], float]] = {}

    def answer(episode: Episode) -> Sequence[Given]:
        queries = tuple(example.source for example in episode.query)
        key = (episode.task, episode.labels, queries)
        if key in known:
            answers, seconds = known[key]
            stopwatch.adapted()
            stopwatch.credit_answers(seconds)
            return answers
        answers = predict(episode)
        known[key] = answers, stopwatch.read()[1]
        return answers

    return answer


def load_scorer(bench: Bench) -> tuple[Scorer, Chat | None]:
    """Load the language model, or connect to the endpoint, that the settings name."""
    endpoint = bench.settings.prompting.endpoint
    if endpoint is not None:
        return connect(bench, endpoint, mode="auto", answer_tokens=ANSWER_TOKENS), None
    model, chat = load_local(bench)
    return LocalScorer(model, batch_tokens=BATCH_TOKENS), chat


def load_local(bench: AskingBench) -> tuple[LanguageModel, Chat | None]:
    """Load the language model that the settings name, and its chat template if they want it."""
    prompting = bench.settings.prompting
    model = load_language_model(
        prompting.model_name_or_path,
        gguf_file=prompting.gguf_file,
        revision=prompting.revision,
        context_tokens=prompting.context_tokens,
        autocast=choose_autocast(bench.settings.run.mixed_precision, choose_device()),
    )
    return model, chat_of(model) if prompting.chat else None


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

    def count_tokens(self, text: str) -> int:
        return count_at_most(text)

    def score(self, prompt: Prompt, queries: Sequence[str]) -> list[tuple[AnswerScore, ...]]:
        self.asked.append((prompt, tuple(queries)))
        return [tuple(AnswerScore(0.0, 1) for _ in prompt.answers) for _ in queries]


def _announce(
    bench: Bench, plans: Sequence[PromptPlan], episodes: Sequence[Episode], *, what: str
) -> None:
    """Say what an endpoint will be asked, before anything is sent."""
    if bench.settings.prompting.endpoint is None:
        return
    dry = _Dry(bench.settings.prompting.context_tokens or ENDPOINT_CONTEXT, [])
    for plan in plans:
        predict = in_context(dry, plan, scoring="sum")
        for episode in episodes:
            predict(hide_query(episode))
    say_cost(bench, dry.asked, mode="auto", answer_tokens=ANSWER_TOKENS, what=what)


def say_cost(
    bench: AskingBench, asked: Batches, *, mode: str, answer_tokens: int, what: str
) -> None:
    """Log what an endpoint's answers to these prompts will cost, at most."""
    prompting = bench.settings.prompting
    cost = estimate_cost(
        asked,
        mode=mode,
        answer_tokens=answer_tokens,
        price_per_million_tokens=prompting.price_per_million_tokens,
        requests_per_minute=prompting.requests_per_minute,
    )
    logger.info("%s at %s: %s", what, prompting.endpoint, cost)


def connect(bench: AskingBench, endpoint: str, *, mode: str, answer_tokens: int) -> EndpointScorer:
    """Connect to the endpoint of the settings; its answers are kept in the run's folder."""
    prompting = bench.settings.prompting
    return connect_endpoint(
        endpoint,
        model=prompting.model_name_or_path,
        context_tokens=prompting.context_tokens or ENDPOINT_CONTEXT,
        mode=mode,
        answer_tokens=answer_tokens,
        most_nonsense=MOST_NONSENSE,
        timeout=prompting.timeout,
        retries=prompting.retries,
        concurrency=CONCURRENCY,
        requests_per_minute=prompting.requests_per_minute,
        cache_dir=Path(bench.settings.run.output_dir) / ANSWERS,
        api_key_env=prompting.api_key_env,
    )


def _read_plan(bench: Bench, choice: Choice, *, chat: Chat | None) -> PromptPlan:
    number = choice["demonstrations"]
    shown = None if number is None else int(str(number))
    return _plan(bench, str(choice["template"]), demonstrations=shown, chat=chat)


def _plan(
    bench: Bench, template: str, *, demonstrations: int | None, chat: Chat | None
) -> PromptPlan:
    prompting = bench.settings.prompting
    if template not in TEMPLATES:
        raise SettingsError(
            f"cannot prompt with the template '{template}': one of {', '.join(TEMPLATES)} is "
            "needed; change `prompting.templates`"
        )
    return PromptPlan(
        template=TEMPLATES[template],
        demonstrations=demonstrations,
        selection=prompting.selection,
        seed=bench.settings.run.seed,
        order=0,
        chat=chat,
        demonstration_tokens=DEMONSTRATION_TOKENS,
        query_tokens=QUERY_TOKENS,
    )
