"""Demonstrations: which support examples a prompt shows, in which order, and how many fit."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nlp_meta.data.duplicates import text_key
from nlp_meta.data.episodes import make_generator
from nlp_meta.data.tasks import Example
from nlp_meta.errors import EpisodeError, SettingsError, need_packages
from nlp_meta.prompting.prompts import Chat, Prompt, Reader, Template

SELECTIONS = ("balanced", "nearest")
# Random streams that must not meet.
_CHOICE, _ORDER = 0, 1
# The begin token, and what two pieces may have more apart than together.
_SPARE_TOKENS = 4
_NGRAMS = (1, 5)
# Settings that hold numbers of a plan.
_SETTINGS = {"seed": "run.seed", "demonstrations": "prompting.demonstrations"}


@dataclass(frozen=True, slots=True)
class PromptPlan:
    """How a prompt is made of a support set.

    Attributes:
        demonstrations: The most to show; None for as many as the context holds.
        selection: `balanced` over labels, drawn, the same for all queries; or `nearest`
            to each query, the most similar last, where no prefix is shared.
        order: Number of the order in which balanced demonstrations stand.
        chat: Renders messages by a chat template; None for plain text.
        demonstration_tokens: A longer labeled text is cut; a pair with a longer side is
            not shown.
        query_tokens: A longer query is cut; so much room is kept for a query, or as much
            as the longest of them needs.

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
        if self.demonstrations is not None:
            least["demonstrations"] = 0
        for name, lowest in least.items():
            value = getattr(self, name)
            if value < lowest:
                change = _SETTINGS.get(name, f"{name}` of the `PromptPlan")
                raise SettingsError(
                    f"cannot prompt with {name} {value}: at least {lowest} is needed; raise "
                    f"`{change}`"
                )
        if self.selection not in SELECTIONS:
            raise SettingsError(
                f"cannot select demonstrations by '{self.selection}': one of "
                f"{', '.join(SELECTIONS)} is needed; change `prompting.selection`"
            )


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


def without_texts(examples: Sequence[Example], texts: Sequence[str]) -> list[Example]:
    """Drop examples whose text is one of `texts` or a near-identical copy of one."""
    keys = {text_key(text) for text in texts}
    return [example for example in examples if text_key(example.source) not in keys]


def shuffle_balanced(examples: Sequence[Example], *, seed: int) -> list[Example]:
    """Order examples so that labels take turns: any beginning is as balanced as can be.

    Both the order of the labels and that of the examples of a label are drawn. So the
    demonstrations of a short context are the first of those of a longer one.
    """
    generator = make_generator(seed, _CHOICE)
    by_label: dict[str, list[Example]] = {}
    for place in generator.permutation(len(examples)):
        example = examples[place]
        by_label.setdefault(example.target, []).append(example)
    queues = list(by_label.values())
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def arrange(demonstrations: Sequence[Example], *, seed: int, order: int) -> list[Example]:
    """Give chosen demonstrations the order that number `order` stands for."""
    places = make_generator(seed, _ORDER, order).permutation(len(demonstrations))
    return [demonstrations[place] for place in places]


def rank_nearest(examples: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
    """Places of the examples' texts for each text, the most similar first.

    Similarity is the cosine of TF-IDF weights of character n-grams (1 to 5), whose
    frequencies come from the examples alone; of equal ones the first stands first.
    """
    need_packages("choose demonstrations by likeness", "sklearn", extra="compare")
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not examples or not texts:
        return [[] for _ in texts]
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=_NGRAMS, sublinear_tf=True)
    weights = vectorizer.fit_transform(examples)
    cosines = (vectorizer.transform(texts) @ weights.T).toarray()
    ranked: list[list[int]] = np.argsort(-cosines, axis=1, kind="stable").tolist()
    return ranked


def group_queries(
    plan: PromptPlan, whole: Sequence[str], shown: Sequence[Example], texts: Sequence[str]
) -> Iterator[tuple[list[Example], Sequence[str]]]:
    """Candidates for demonstration, the preferred first, and the queries that share them.

    Args:
        whole: Texts of the examples, by which the nearest are found.
        shown: The examples as they are shown.
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
    fewest: int,
    answer_tokens: int,
) -> FittedPrompt:
    """Write the first candidates, as many as the context holds beside a query.

    Args:
        candidates: In order of preference.
        write: Demonstrations to a prompt.
        demonstrations: The most to show; None for no bound but the context.
        query_tokens: Room to leave. Where no demonstration is wanted, or there is none, a
            query may find less and has to be cut.
        fewest: Demonstrations without which the prompt is refused; 0 if it may have none.
        answer_tokens: Room for an answer that is to be written; 0 if none is.

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
        needed = reader.context_tokens - room(least) + query_tokens
        raise _no_room(
            reader,
            task,
            needed,
            least=least,
            query_tokens=query_tokens,
            answer_tokens=answer_tokens,
        )
    return FittedPrompt(write(candidates[:fitting]), fitting, min(left, query_tokens))


def _no_room(
    reader: Reader, task: str, needed: int, *, least: int, query_tokens: int, answer_tokens: int
) -> EpisodeError:
    content = "one demonstration and a query" if least else "a query"
    answer = f" and an answer of {answer_tokens}" if answer_tokens else ""
    lower = ["set `prompting.demonstrations` to 0"] if least else []
    lower += ["lower `translation_prompting.max_new_tokens`"] if answer_tokens else []
    return EpisodeError(
        f"cannot prompt '{reader.name}' with task '{task}': {content} of {query_tokens} tokens"
        f"{answer} need a context of {needed} tokens and it has {reader.context_tokens}; "
        f"{', '.join([*lower, 'raise `prompting.context_tokens`'])}, or name a model with a "
        "longer context as `prompting.model_name_or_path`"
    )


def _room(prompt: Prompt, reader: Reader) -> int:
    """Tokens that a prompt leaves for a query; below 0 where it is too long itself."""
    answer = max((reader.count_tokens(text) for text in prompt.answers), default=0)
    rest = reader.count_tokens(prompt.before + prompt.after)
    return (
        reader.context_tokens - reader.count_tokens(prompt.prefix) - rest - answer - _SPARE_TOKENS
    )
