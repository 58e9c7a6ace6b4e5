"""Evidence: an episode's prompts, and what a language model says of each query."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import SettingsError
from nlp_meta.prompting.demonstrations import (
    FittedPrompt,
    arrange,
    cut_text,
    fit_prompt,
    rank_nearest,
    shuffle_balanced,
    without_texts,
)
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
