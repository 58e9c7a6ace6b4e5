"""Prompting a causal language model for translations, here or behind an endpoint, as a method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nlp_meta.comparing.bench import AskingBench, Method
from nlp_meta.comparing.language_models import (
    BATCH_TOKENS,
    ENDPOINT_CONTEXT,
    choosing_episodes,
    connect,
    load_local,
    say_cost,
    tell_model,
)
from nlp_meta.comparing.prompted import DEMONSTRATION_TOKENS, QUERY_TOKENS, Choice, remember
from nlp_meta.data.answers import LearnedWithFacts, Translation
from nlp_meta.data.cache import charge, work_time
from nlp_meta.data.episodes import Episode, Queries, SupportSet
from nlp_meta.errors import SettingsError
from nlp_meta.evaluation.answers import episode_scorer
from nlp_meta.prompting.decoding import LocalWriter
from nlp_meta.prompting.evidence import PromptPlan
from nlp_meta.prompting.language_model import find_weights
from nlp_meta.prompting.prompts import Chat, Prompt, Writer, Written, find_translation_template
from nlp_meta.prompting.questions import count_at_most
from nlp_meta.prompting.translation import (
    Translate,
    TranslationFacts,
    choose_translation_prompt,
    translate_in_context,
)
from nlp_meta.settings import TranslationPrompting

METRIC = "chrf"
"""By which a template is chosen."""


def choose_prompted_translation(
    bench: AskingBench, writing: TranslationPrompting
) -> dict[str, object]:
    """Template, and pairs or none, by chrF++ on the meta-validation episodes."""
    prompting = bench.settings.prompting
    plans = [
        _plan(bench, name, demonstrations=number)
        for name in writing.translation_templates
        # A small model may do worse with pairs than without: both are tried.
        for number in dict.fromkeys([prompting.demonstrations, 0])
    ]
    judged = choosing_episodes(bench)
    if not judged:
        return {
            "template": plans[0].template.name,
            "demonstrations": plans[0].demonstrations,
        }
    _announce(bench, writing, plans, judged, what="choosing a prompt")
    writer, chat = load_writer(bench, writing)
    found = choose_translation_prompt(
        writer,
        [replace(plan, chat=chat) for plan in plans],
        judged,
        metric=episode_scorer(METRIC),
    )
    return {
        "chosen": "on meta-validation",
        "template": found.plan.template.name,
        "demonstrations": found.plan.demonstrations,
        "validation_score": max(trial.score for trial in found.trials),
        "trials": len(found.trials),
    }


def build_prompted_translation(
    bench: AskingBench, writing: TranslationPrompting, choice: Choice
) -> Method:
    """The support pairs as demonstrations, the translation written behind each source.

    The model is loaded when the first episode comes: a finished comparison needs none.
    """
    prompting = bench.settings.prompting
    if prompting.endpoint is None:
        find_weights(prompting.model_name_or_path, prompting.gguf_file)
    number = choice["demonstrations"]
    shown = None if number is None else int(str(number))
    first = _plan(bench, str(choice["template"]), demonstrations=shown)
    said: dict[str, object] = {}
    ready: list[Translate] = []

    def learn(support_set: SupportSet) -> LearnedWithFacts:
        if not ready:
            began = work_time()
            ready.append(_load_predictor(bench, writing, first, note=_note_in(said)))
            charge(began - work_time())  # loading is not learning
        facts: dict[str, object] = {"demonstrations": 0}

        def answer(queries: Queries) -> Sequence[Translation]:
            said.clear()
            answers = ready[0](support_set.ask(queries))
            facts.update(said)
            return answers

        return LearnedWithFacts(answer, facts)

    def announce(episodes: Sequence[Episode]) -> None:
        _announce(bench, writing, [first], episodes, what="prompting")

    facts = {**tell_model(bench), "num_beams": writing.num_beams, "choice": dict(choice)}
    return Method(learn, 1, lambda _pairs: 0, facts, announce, without_labels=True)


def load_writer(bench: AskingBench, writing: TranslationPrompting) -> tuple[Writer, Chat | None]:
    """Load the language model, or connect to the endpoint, that the settings name.

    Raises:
        SettingsError: Several beams of an endpoint, or a number out of range.
    """
    endpoint = bench.settings.prompting.endpoint
    if endpoint is None:
        model, chat = load_local(bench)
        return LocalWriter(model, BATCH_TOKENS, writing.max_new_tokens, writing.num_beams), chat
    if writing.num_beams != 1:
        raise SettingsError(
            f"cannot search {writing.num_beams} beams at endpoint {endpoint}: it writes one line "
            "by itself, 1 is needed; change `translation_prompting.num_beams`"
        )
    tokens = writing.max_new_tokens
    return connect(bench, endpoint, mode="written", answer_tokens=tokens), None


@dataclass(frozen=True, slots=True)
class _Dry:
    """A writer that notes what it would be asked, for a price."""

    context_tokens: int
    answer_tokens: int
    asked: list[tuple[Prompt, Sequence[str]]]
    name: str = "dry"

    def count_tokens(self, text: str) -> int:
        return count_at_most(text)

    def write(self, prompt: Prompt, queries: Sequence[str]) -> list[Written]:
        self.asked.append((prompt, tuple(queries)))
        return [Written("", True) for _ in queries]


def _announce(
    bench: AskingBench,
    writing: TranslationPrompting,
    plans: Sequence[PromptPlan],
    episodes: Sequence[Episode],
    *,
    what: str,
) -> None:
    """Say what an endpoint will be asked, before anything is sent."""
    prompting = bench.settings.prompting
    if prompting.endpoint is None or not episodes:
        return
    dry = _Dry(prompting.context_tokens or ENDPOINT_CONTEXT, writing.max_new_tokens, [])
    for plan in plans:
        for episode in episodes:
            translate_in_context(dry, plan)(episode.support_set.ask(episode.queries))
    say_cost(bench, dry.asked, mode="written", answer_tokens=dry.answer_tokens, what=what)


def _load_predictor(
    bench: AskingBench,
    writing: TranslationPrompting,
    plan: PromptPlan,
    *,
    note: Callable[[TranslationFacts], None],
) -> Translate:
    writer, chat = load_writer(bench, writing)
    asked = translate_in_context(writer, replace(plan, chat=chat), on_prompt=note)
    return asked if plan.demonstrations != 0 else remember(asked)


def _note_in(said: dict[str, object]) -> Callable[[TranslationFacts], None]:
    def note(facts: TranslationFacts) -> None:
        said.update(
            demonstrations=facts.demonstrations,
            pairs_left_out=facts.pairs_left_out,
            answer_tokens=facts.answer_tokens,
            queries_cut=facts.queries_cut,
            empty=facts.empty,
            unfinished=facts.unfinished,
        )

    return note


def _plan(bench: AskingBench, template: str, *, demonstrations: int | None) -> PromptPlan:
    return PromptPlan(
        template=find_translation_template(template),
        demonstrations=demonstrations,
        selection=bench.settings.prompting.selection,
        seed=bench.settings.run.seed,
        order=0,
        chat=None,
        demonstration_tokens=DEMONSTRATION_TOKENS,
        query_tokens=QUERY_TOKENS,
    )
