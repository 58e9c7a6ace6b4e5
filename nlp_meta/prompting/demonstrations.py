"""Demonstrations: which support examples a prompt shows, in which order, and how many fit."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nlp_meta.data.overlap import text_key
from nlp_meta.data.tasks import Example
from nlp_meta.errors import EpisodeError
from nlp_meta.prompting.prompts import Prompt, Reader

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
