"""The language model of a comparison, loaded here or asked behind an endpoint for a price."""

import logging
from pathlib import Path

from nlp_meta.comparing.bench import AskingBench
from nlp_meta.data.episodes import Episode
from nlp_meta.encoders.backbone import BUILTIN, choose_autocast, choose_device
from nlp_meta.errors import SettingsError
from nlp_meta.prompting.endpoint import EndpointScorer, connect_endpoint
from nlp_meta.prompting.language_model import (
    LanguageModel,
    chat_of,
    load_language_model,
    name_weights,
)
from nlp_meta.prompting.local_scoring import LocalScorer
from nlp_meta.prompting.prompts import Chat, Scorer
from nlp_meta.prompting.questions import Batches, estimate_cost

logger = logging.getLogger(__name__)

BATCH_TOKENS = 8192
ENDPOINT_CONTEXT, ANSWER_TOKENS, MOST_NONSENSE, CONCURRENCY = 4096, 8, 0.5, 4
ANSWERS = "answers"
"""Folder, below that of the comparison, where an endpoint's answers are kept."""


def choosing_episodes(bench: AskingBench) -> tuple[Episode, ...]:
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
    return tuple(one for one in bench.judged if draws is None or one.index < draws)


def load_scorer(bench: AskingBench) -> tuple[Scorer, Chat | None]:
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


def connect(bench: AskingBench, endpoint: str, *, mode: str, answer_tokens: int) -> EndpointScorer:
    """Connect to the endpoint of the settings; its answers are kept in the run's folder."""
    prompting = bench.settings.prompting
    if prompting.model_name_or_path.startswith(BUILTIN):
        raise SettingsError(
            f"cannot ask {endpoint} for '{prompting.model_name_or_path}', which is read here: the "
            "name that the endpoint knows its model by is needed; give it as "
            "`prompting.model_name_or_path` (`--prompting.model`)"
        )
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


def tell_model(bench: AskingBench) -> dict[str, object]:
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
