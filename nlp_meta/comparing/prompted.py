"""Prompting a causal language model, here or behind an endpoint, as a method."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from nlp_meta.comparing.bench import Bench, Method
from nlp_meta.errors import SettingsError
from nlp_meta.evaluation.metrics import METRICS
from nlp_meta.prompting.endpoint import connect_endpoint
from nlp_meta.prompting.evidence import PromptFacts, PromptPlan
from nlp_meta.prompting.in_context import choose_prompt, in_context
from nlp_meta.prompting.language_model import chat_of, load_language_model
from nlp_meta.prompting.local_scoring import LocalScorer
from nlp_meta.prompting.prompts import TEMPLATES, Chat, Scorer

logger = logging.getLogger(__name__)

Choice = Mapping[str, object]

DEMONSTRATION_TOKENS, QUERY_TOKENS = 128, 160
BATCH_TOKENS = 8192
ENDPOINT_CONTEXT, ANSWER_TOKENS, MOST_NONSENSE, CONCURRENCY = 4096, 8, 0.5, 4
ANSWERS = "answers"
"""Folder, below that of the comparison, where an endpoint's answers are kept."""


def choose_prompting(bench: Bench, _: str) -> dict[str, object]:
    """Template and scoring rule, on the meta-validation episodes; the first ones without any."""
    prompting = bench.settings.prompting
    if not bench.judged:
        return {"template": prompting.templates[0], "scoring": prompting.scorings[0]}
    scorer, chat = load_scorer(bench)
    # A server that only writes labels has no likelihoods to correct.
    graded = getattr(scorer, "graded", True)
    found = choose_prompt(
        scorer,
        [_plan(bench, name, chat) for name in prompting.templates],
        bench.judged,
        scorings=prompting.scorings if graded else ["sum"],
        metric=METRICS[bench.settings.adaptation.metric],
    )
    return {
        "chosen": "on meta-validation",
        "template": found.plan.template.name,
        "scoring": found.scoring,
        "validation_score": max(trial.score for trial in found.trials),
        "trials": len(found.trials),
    }


def build_prompting(bench: Bench, _: str, choice: Choice) -> Method:
    """The support set as demonstrations, the labels scored by their likelihood."""
    said: dict[str, object] = {}

    def note(facts: PromptFacts) -> None:
        shown = asdict(facts)
        said.update({name: shown[name] for name in ("demonstrations", "queries_cut")})

    scorer, chat = load_scorer(bench)
    predict = in_context(
        scorer,
        _plan(bench, str(choice["template"]), chat),
        scoring=str(choice["scoring"]),
        on_adapted=bench.stopwatch.adapted,
        on_prompt=note,
    )
    facts = {
        "examples_before": None,
        "parameters": 0,
        "bytes": 0,
        "model": bench.settings.prompting.model_name_or_path,
        "context_tokens": scorer.context_tokens,
        "choice": dict(choice),
    }
    return Method(predict, 0, lambda _labels: 0, facts, said)


def load_scorer(bench: Bench) -> tuple[Scorer, Chat | None]:
    """Load the language model, or connect to the endpoint, that the settings name."""
    prompting = bench.settings.prompting
    if prompting.endpoint is not None:
        return _connect(bench), None
    model = load_language_model(
        prompting.model_name_or_path,
        gguf_file=prompting.gguf_file,
        revision=prompting.revision,
        context_tokens=prompting.context_tokens,
    )
    chat = chat_of(model) if prompting.chat else None
    return LocalScorer(model, batch_tokens=BATCH_TOKENS), chat


def _connect(bench: Bench) -> Scorer:
    prompting = bench.settings.prompting
    if prompting.endpoint is None:
        raise ValueError("no endpoint")
    return connect_endpoint(
        prompting.endpoint,
        model=prompting.model_name_or_path,
        context_tokens=prompting.context_tokens or ENDPOINT_CONTEXT,
        mode="auto",
        answer_tokens=ANSWER_TOKENS,
        most_nonsense=MOST_NONSENSE,
        timeout=prompting.timeout,
        retries=prompting.retries,
        concurrency=CONCURRENCY,
        requests_per_minute=prompting.requests_per_minute,
        cache_dir=Path(bench.settings.run.output_dir) / ANSWERS,
        api_key_env=prompting.api_key_env,
    )


def _plan(bench: Bench, template: str, chat: Chat | None) -> PromptPlan:
    prompting = bench.settings.prompting
    if template not in TEMPLATES:
        raise SettingsError(
            f"cannot prompt with the template '{template}': one of {', '.join(TEMPLATES)} is "
            "needed; change `prompting.templates`"
        )
    return PromptPlan(
        template=TEMPLATES[template],
        demonstrations=prompting.demonstrations,
        selection=prompting.selection,
        seed=bench.settings.run.seed,
        order=0,
        chat=chat,
        demonstration_tokens=DEMONSTRATION_TOKENS,
        query_tokens=QUERY_TOKENS,
    )
