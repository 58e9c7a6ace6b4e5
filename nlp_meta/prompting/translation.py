"""Translating in context: sentence pairs are shown to a language model, no weight moves.

With no pair the template alone says what is wanted. The template, and whether pairs are
shown, is chosen on episodes of the meta-validation tasks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from nlp_meta.data.answers import Translation
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import SettingsError
from nlp_meta.prompting.evidence import (
    FittedPrompt,
    PromptPlan,
    count_changed,
    cut_texts,
    fit_prompt,
    group_queries,
    order_demonstrations,
)
from nlp_meta.prompting.prompts import (
    Prompt,
    Writer,
    Written,
    build_translation_prompt,
    name_languages,
    one_line,
)

Translate = Callable[[Episode], Sequence[Translation]]
TranslationMetric = Callable[[Episode, Sequence[Translation]], float]
"""An episode with its true translations and one answer for each, to a score; more is better."""


@dataclass(frozen=True, slots=True)
class TranslationFacts:
    """What became of one episode's sentences.

    Attributes:
        draw: Number of the support draw, the episode's index.
        pairs_total: Support pairs in all.
        demonstrations: How many were shown; of prompts made for each query, the fewest.
        pairs_left_out: Too long to be shown, without one side, or with a query's text.
        answer_tokens: Room that was left for the longest answer.
        queries_cut: Sources too long to be read whole.
        empty: Translations that came out empty.
        unfinished: Translations that were cut at `answer_tokens`.
    """

    task: str
    draw: int
    pairs_total: int
    demonstrations: int
    pairs_left_out: int
    answer_tokens: int
    queries: int
    queries_cut: int
    empty: int
    unfinished: int


@dataclass(frozen=True, slots=True)
class TranslationTrial:
    """What one plan scored, averaged over the episodes."""

    plan: PromptPlan
    score: float


@dataclass(frozen=True, slots=True)
class TranslationChoice:
    """The best plan, and what the choice cost.

    Attributes:
        texts: Sources that were translated.
    """

    plan: PromptPlan
    trials: tuple[TranslationTrial, ...]
    texts: int


def translate_in_context(
    writer: Writer,
    plan: PromptPlan,
    *,
    on_adapted: Callable[[], None] | None = None,
    on_prompt: Callable[[TranslationFacts], None] | None = None,
) -> Translate:
    """Make a predictor that shows sentence pairs to a language model.

    As many are shown as fit the context beside a source and the longest answer; where not
    one fits, none is.

    Args:
        plan: With a template of `TRANSLATION_TEMPLATES`. Pairs of which a side is longer
            than its `demonstration_tokens` are not shown.
        on_adapted: Called once an episode, when the shared prefix is read; with prompts
            made for each query, that of the first.
        on_prompt: Called once an episode with what became of its sentences.

    Returns:
        A predictor that raises EpisodeError where an episode has no language pair, or the
        context does not hold a token of a source.
    """

    def predict(episode: Episode) -> list[Translation]:
        return _translate(writer, plan, episode, on_adapted=on_adapted, on_prompt=on_prompt)

    return predict


def choose_translation_prompt(
    writer: Writer,
    plans: Sequence[PromptPlan],
    episodes: Sequence[Episode],
    *,
    metric: TranslationMetric,
    on_prompt: Callable[[TranslationFacts], None] | None = None,
) -> TranslationChoice:
    """Find the plan that scores best on episodes of unseen tasks; of equal ones the first.

    Args:
        episodes: With their true translations, which no predictor sees.

    Raises:
        SettingsError: No plan or no episode.
    """
    if not (plans and episodes):
        raise SettingsError(
            f"cannot choose among {len(plans)} prompts on {len(episodes)} episodes: at least one "
            "of each is needed; change `translation_prompting.translation_templates` or the "
            "meta-validation tasks"
        )
    trials = []
    for plan in plans:
        predict = translate_in_context(writer, plan, on_prompt=on_prompt)
        scores = [metric(episode, predict(_hide(episode))) for episode in episodes]
        trials.append(TranslationTrial(plan, fmean(scores)))
    best = max(trials, key=lambda trial: trial.score)
    texts = len(plans) * sum(len(episode.query) for episode in episodes)
    return TranslationChoice(best.plan, tuple(trials), texts)


def _translate(
    writer: Writer,
    plan: PromptPlan,
    episode: Episode,
    *,
    on_adapted: Callable[[], None] | None,
    on_prompt: Callable[[TranslationFacts], None] | None,
) -> list[Translation]:
    texts = [one_line(example.source) for example in episode.query]
    named = replace(plan, template=name_languages(plan.template, episode.language))
    pairs = _select_pairs(writer, plan, episode.support, texts)
    sources = [pair.source for pair in pairs]
    lines: list[Written] = []
    counts: list[int] = []
    queries_cut = 0
    for candidates, group in group_queries(plan, sources, pairs, texts):
        fitted = _fit(writer, named, episode.task, candidates, group)
        queries = cut_texts(group, fitted.query_tokens, writer)
        if not counts and on_adapted is not None:
            writer.write(fitted.prompt, [])  # reads the prefix
            on_adapted()
        lines += writer.write(fitted.prompt, queries)
        counts.append(fitted.demonstrations)
        queries_cut += count_changed(group, queries)
    if on_prompt is not None:
        on_prompt(
            TranslationFacts(
                episode.task,
                episode.index,
                pairs_total=len(episode.support),
                demonstrations=min(counts, default=0),
                pairs_left_out=len(episode.support) - len(pairs),
                answer_tokens=writer.answer_tokens,
                queries=len(texts),
                queries_cut=queries_cut,
                empty=sum(not line.text for line in lines),
                unfinished=sum(not line.finished for line in lines),
            )
        )
    return [Translation(line.text) for line in lines]


def _select_pairs(
    writer: Writer, plan: PromptPlan, support: Sequence[Example], texts: Sequence[str]
) -> list[Example]:
    """Pairs that may be shown: whole, not too long, and neither side a text to be translated."""
    keys = {text_key(text) for text in texts}
    pairs = [Example(one_line(pair.source), one_line(pair.target)) for pair in support]
    return [
        pair
        for pair in pairs
        if all(
            side and text_key(side) not in keys and _is_short(side, writer, plan)
            for side in (pair.source, pair.target)
        )
    ]


def _is_short(text: str, writer: Writer, plan: PromptPlan) -> bool:
    return writer.count_tokens(text) <= plan.demonstration_tokens


def _fit(
    writer: Writer,
    plan: PromptPlan,
    task: str,
    candidates: Sequence[Example],
    texts: Sequence[str],
) -> FittedPrompt:
    def write(chosen: Sequence[Example]) -> Prompt:
        stood = order_demonstrations(plan, chosen)
        return build_translation_prompt(plan.template, stood, chat=plan.chat)

    longest = max((writer.count_tokens(text) for text in texts), default=1)
    return fit_prompt(
        candidates,
        write,
        writer,
        task=task,
        demonstrations=plan.demonstrations,
        query_tokens=max(1, min(plan.query_tokens, longest)),
        fewest=0,
        answer_tokens=writer.answer_tokens,
    )


def _hide(episode: Episode) -> Episode:
    """Leave nothing of the query set but the sources, as an evaluation does."""
    return replace(episode, query=tuple(Example(one.source, "") for one in episode.query))
