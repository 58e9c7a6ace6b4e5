"""Evidence: an episode's prompts, and what a language model says of each query.

Demonstrations: which support examples a prompt shows, in which order, and how many fit.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nlp_meta.data.duplicates import text_key
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import EpisodeError, SettingsError
from nlp_meta.prompting.prompts import (
    AnswerScore,
    Chat,
    Prompt,
    Reader,
    Scorer,
    Template,
    build_premise,
    build_prompt,
    one_line,
)
from nlp_meta.prompting.scoring import CONTENT_FREE, Evidence, Scoring

# Random streams that must not meet.
_CHOICE, _ORDER = 0, 1
# The begin token, and what two pieces may have more apart than together.
_SPARE_TOKENS = 4
_NGRAMS = (1, 5)


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """A prompt that a context holds.

    Attributes:
        demonstrations: How many it shows.
        query_tokens: The longest query that it leaves room for, no more than was asked.
    """

    prompt: Prompt
    demonstrations: int
    query_tokens: int


def without_texts(support: Sequence[Example], texts: Sequence[str]) -> list[Example]:
    """Drop examples whose text is one of `texts` or a near-identical copy of one."""
    keys = {text_key(text) for text in texts}
    return [example for example in support if text_key(example.source) not in keys]


def shuffle_balanced(support: Sequence[Example], *, seed: int) -> list[Example]:
    """Order examples so that labels take turns: any beginning is as balanced as can be.

    Both the order of the labels and that of the examples of one are drawn. So the
    demonstrations of a short context are the first of those of a longer one.
    """
    generator = _generator(seed, _CHOICE)
    by_label: dict[str, list[Example]] = {}
    for place in generator.permutation(len(support)):
        example = support[place]
        by_label.setdefault(example.target, []).append(example)
    queues = list(by_label.values())
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def arrange(demonstrations: Sequence[Example], *, seed: int, order: int) -> list[Example]:
    """Give chosen demonstrations the order that number `order` stands for."""
    places = _generator(seed, _ORDER, order).permutation(len(demonstrations))
    return [demonstrations[place] for place in places]


def rank_nearest(support: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
    """Places of the support texts for each text, the most similar first.

    Similarity is the cosine of TF-IDF weights of character n-grams (1 to 5), whose
    frequencies come from the support set alone; of equal ones the first stands first.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not support or not texts:
        return [[] for _ in texts]
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=_NGRAMS, sublinear_tf=True)
    weights = vectorizer.fit_transform(support)
    cosines = (vectorizer.transform(texts) @ weights.T).toarray()
    ranked: list[list[int]] = np.argsort(-cosines, axis=1, kind="stable").tolist()
    return ranked


def cut_text(text: str, tokens: int, count_tokens: Callable[[str], int]) -> str:
    """Keep as much of a text's beginning as `tokens` hold, whole words where it has blanks.

    Tokens and not words are counted, as many scripts write no blanks and a language that
    a model hardly knows takes several tokens for each letter.
    """
    if count_tokens(text) <= tokens:
        return text
    kept = bisect_left(
        range(1, len(text)), True, key=lambda length: count_tokens(text[:length]) > tokens
    )
    beginning = text[:kept]
    whole, blank, _ = beginning.rpartition(" ")
    return whole if blank and text[kept] != " " else beginning


def fit_prompt(
    candidates: Sequence[Example],
    write: Callable[[Sequence[Example]], Prompt],
    reader: Reader,
    *,
    task: str,
    demonstrations: int | None,
    query_tokens: int,
    fewest: int = 1,
    answer_tokens: int = 0,
) -> FittedPrompt:
    """Write the first candidates, as many as the context holds beside a query.

    Args:
        candidates: In order of preference.
        write: Demonstrations to a prompt.
        demonstrations: The most to show; None for no bound but the context.
        query_tokens: Room to leave. Where no demonstration is wanted, or there is none, a
            query may find less and has to be cut.
        fewest: Demonstrations without which the prompt is refused; 0 if it may have none.
        answer_tokens: Room for an answer that is to be written.

    Raises:
        EpisodeError: The context does not hold so few demonstrations beside a query, or
            nothing of a query.
    """
    most = len(candidates) if demonstrations is None else min(demonstrations, len(candidates))

    def room(number: int) -> int:
        return _room(write(candidates[:number]), reader) - answer_tokens

    fitting = bisect_left(range(1, most + 1), True, key=lambda number: room(number) < query_tokens)
    left = room(fitting)
    least = min(most, fewest)
    if fitting < least or left < 1:
        what = "one demonstration and a query" if least else "a query"
        needed = reader.context_tokens - room(least) + query_tokens
        answer = f" and an answer of {answer_tokens}" if answer_tokens else ""
        lower = ["set `prompting.demonstrations` to 0"] if least else []
        lower += ["lower `translation_prompting.max_new_tokens`"] if answer_tokens else []
        raise EpisodeError(
            f"cannot prompt '{reader.name}' with task '{task}': {what} of {query_tokens} tokens"
            f"{answer} need a context of {needed} tokens and it has {reader.context_tokens}; "
            f"{', '.join([*lower, 'raise `prompting.context_tokens`'])}, or name a model with a "
            "longer context as `prompting.model_name_or_path`"
        )
    return FittedPrompt(write(candidates[:fitting]), fitting, min(left, query_tokens))


def _room(prompt: Prompt, reader: Reader) -> int:
    """Tokens that a prompt leaves for a query; below 0 where it is too long itself."""
    answer = max((reader.count_tokens(text) for text in prompt.answers), default=0)
    rest = reader.count_tokens(prompt.before + prompt.after)
    return (
        reader.context_tokens - reader.count_tokens(prompt.prefix) - rest - answer - _SPARE_TOKENS
    )


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


SELECTIONS = ("balanced", "nearest")
# Of a plan's numbers those that settings hold.
_SETTINGS = {"seed": "run.seed", "demonstrations": "prompting.demonstrations"}


@dataclass(frozen=True, slots=True)
class PromptPlan:
    """How prompts are made of an episode.

    Attributes:
        demonstrations: The most to show; None for as many as the context holds.
        selection: `balanced` over labels, drawn, the same for all queries; or `nearest`
            to each query, the most similar last, where no prefix is shared.
        order: Number of the order in which balanced demonstrations stand.
        chat: Renders messages by a chat template; None for plain text.
        demonstration_tokens: A longer demonstration is cut.
        query_tokens: A longer query is cut; so much room is kept for a query, or as much
            as the longest of the episode needs.

    Raises:
        SettingsError: A number out of range or an unknown selection.
    """

    template: Template
    demonstrations: int | None
    selection: str
    seed: int
    order: int
    chat: Chat | None
    demonstration_tokens: int
    query_tokens: int

    def __post_init__(self) -> None:
        least = {"seed": 0, "order": 0, "demonstration_tokens": 1, "query_tokens": 1}
        values = {name: getattr(self, name) for name in least}
        if self.demonstrations is not None:
            least["demonstrations"], values["demonstrations"] = 0, self.demonstrations
        for name, value in values.items():
            if value < least[name]:
                setting = _SETTINGS.get(name)
                change = f"`{setting}`" if setting else f"`{name}` of the `PromptPlan`"
                raise SettingsError(
                    f"cannot prompt with {name} {value}: at least {least[name]} is needed; raise "
                    f"{change}"
                )
        if self.selection not in SELECTIONS:
            raise SettingsError(
                f"cannot select demonstrations by '{self.selection}': one of "
                f"{', '.join(SELECTIONS)} is needed; change `prompting.selection`"
            )


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """What became of one episode's texts.

    Attributes:
        draw: Number of the support draw, the episode's index.
        labels_total: Support examples in all.
        demonstrations: How many were shown; of prompts made for each query, the fewest.
        demonstrations_cut: Support examples too long to be shown whole.
        queries_cut: Query texts too long to be read whole.
    """

    task: str
    draw: int
    labels_total: int
    demonstrations: int
    demonstrations_cut: int
    queries: int
    queries_cut: int


def group_queries(
    plan: PromptPlan, whole: Sequence[str], shown: Sequence[Example], texts: Sequence[str]
) -> Iterator[tuple[list[Example], Sequence[str]]]:
    """Candidates for demonstration, the preferred first, and the queries that share them.

    Args:
        whole: Texts of the support set, by which the nearest are found.
        shown: Its examples as they are shown.
    """
    if plan.selection == "balanced":
        yield shuffle_balanced(shown, seed=plan.seed), texts
        return
    for text, places in zip(texts, rank_nearest(whole, texts), strict=True):
        yield [shown[place] for place in places], [text]


def order_demonstrations(plan: PromptPlan, chosen: Sequence[Example]) -> list[Example]:
    """Put chosen demonstrations in the order in which they are read, the nearest last."""
    if plan.selection == "nearest":
        return list(reversed(chosen))
    return arrange(chosen, seed=plan.seed, order=plan.order)


def cut_texts(texts: Sequence[str], tokens: int, reader: Reader) -> list[str]:
    """Cut each text by `cut_text`."""
    return [cut_text(text, tokens, reader.count_tokens) for text in texts]


def count_changed(whole: Sequence[str], cut: Sequence[str]) -> int:
    """Count the texts that were cut."""
    return sum(a != b for a, b in zip(whole, cut, strict=True))


def gather_evidence(
    scorer: Scorer,
    plan: PromptPlan,
    episode: Episode,
    *,
    scorings: Sequence[Scoring],
    on_adapted: Callable[[], None] | None = None,
    on_prompt: Callable[[PromptFacts], None] | None = None,
) -> list[Evidence]:
    """Ask a language model for all that some rules need, of each query of an episode.

    A support example whose text is a query's too is not shown.

    Args:
        on_adapted: Called when the prefix and what calibrates it have been read and
            answering begins; with prompts made for each query, those of the first.

    Raises:
        EpisodeError: The context does not hold one demonstration beside a query.
    """
    texts = [one_line(example.source) for example in episode.query]
    whole, shown = _cut_support(scorer, plan, without_texts(episode.support, texts))
    premise = _ask_premise(scorer, plan, episode, scorings)
    free = CONTENT_FREE if any(rule.content_free for rule in scorings) else ()
    found: list[Evidence] = []
    counts, queries_cut = [], 0
    for candidates, group in group_queries(plan, whole, shown, texts):
        fitted = _fit(scorer, plan, episode, candidates, (*group, *free))
        queries = cut_texts(group, fitted.query_tokens, scorer)
        # Asked first, and even for nothing: so the prefix is read before the answers.
        blank = cut_texts(free, fitted.query_tokens, scorer)
        content_free = tuple(scorer.score(fitted.prompt, blank))
        if not found and on_adapted is not None:
            on_adapted()
        answers = scorer.score(fitted.prompt, queries)
        found += [Evidence(row, content_free, premise) for row in answers]
        counts.append(fitted.demonstrations)
        queries_cut += count_changed(group, queries)
    if on_prompt is not None:
        on_prompt(
            PromptFacts(
                episode.task,
                episode.index,
                labels_total=len(episode.support),
                demonstrations=min(counts, default=0),
                demonstrations_cut=count_changed(whole, [one.source for one in shown]),
                queries=len(texts),
                queries_cut=queries_cut,
            )
        )
    return found


def _cut_support(
    scorer: Scorer, plan: PromptPlan, support: Sequence[Example]
) -> tuple[list[str], list[Example]]:
    """Texts of the support set, and its examples as they are shown."""
    whole = [one_line(example.source) for example in support]
    cut = cut_texts(whole, plan.demonstration_tokens, scorer)
    return whole, [replace(one, source=text) for one, text in zip(support, cut, strict=True)]


def _ask_premise(
    scorer: Scorer, plan: PromptPlan, episode: Episode, scorings: Sequence[Scoring]
) -> tuple[AnswerScore, ...]:
    if not any(rule.premise for rule in scorings):
        return ()
    prompt = build_premise(plan.template, episode.labels, chat=plan.chat)
    return scorer.score(prompt, [""])[0]


def _fit(
    scorer: Scorer,
    plan: PromptPlan,
    episode: Episode,
    candidates: Sequence[Example],
    texts: Sequence[str],
) -> FittedPrompt:
    def write(chosen: Sequence[Example]) -> Prompt:
        stood = order_demonstrations(plan, chosen)
        return build_prompt(plan.template, stood, episode.labels, chat=plan.chat)

    longest = max((scorer.count_tokens(text) for text in texts), default=1)
    return fit_prompt(
        candidates,
        write,
        scorer,
        task=episode.task,
        demonstrations=plan.demonstrations,
        query_tokens=max(1, min(plan.query_tokens, longest)),
    )
