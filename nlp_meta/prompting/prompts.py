"""Prompts: a support set as text for a language model, and the query's place in it.

A prompt has two parts. The prefix (instruction and demonstrations) is the same for all
queries of a support set and is computed once; the rest holds the query and, for each
label, the text that would answer it. A prompt for translations is written in the same
lines; the translation stands where a label would, and behind the query it is left to be
written. Nothing here knows what reads a prompt: a local model, a server, or a toy in a test.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from nlp_meta.data.labels import SENTIMENTS
from nlp_meta.data.languages import name_language, split_pair
from nlp_meta.data.tasks import Example
from nlp_meta.errors import LabelError, SettingsError

Chat = Callable[[Sequence[Mapping[str, str]]], str]
"""Messages (`role`, `content`) to the text that a chat model continues as the assistant."""

_TEXT, _LABEL, _LABELS = "{text}", "{label}", "{labels}"
_SEPARATOR = "\n\n"
# Private use characters around a word: neither a text nor a chat template has them.
_MARK = "\ue000query\ue001"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a scorer reads: `prefix + before + query + after + answers[i]` is the whole text.

    Attributes:
        prefix: Instruction and demonstrations: shared by all queries, computed once.
        answers: The exact continuation for each label, in label order, with its leading
            blank where the format has one. None where one line is to be written.
    """

    prefix: str
    before: str
    after: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """How likely an answer is after its prompt.

    Attributes:
        log_likelihood: In nats, summed over the answer's tokens.
    """

    log_likelihood: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Written:
    """One line that a language model wrote behind a query.

    Attributes:
        text: Without blanks around it; empty where the line ended at once.
        finished: False where it was cut at the longest that may be written.
    """

    text: str
    finished: bool


class Reader(Protocol):
    """What reads prompts."""

    @property
    def name(self) -> str:
        """Of the model, for reports and errors."""

    @property
    def context_tokens(self) -> int:
        """Longest text that it takes, the answer included."""

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, without a begin token."""


class Scorer(Reader, Protocol):
    """What tells how likely the answers are."""

    @property
    def graded(self) -> bool:
        """Whether scores are likelihoods; else they only say which label was written."""

    def score(self, prompt: Prompt, queries: Sequence[str]) -> list[tuple[AnswerScore, ...]]:
        """Score all answers after each query: one tuple a query, one score an answer.

        Without queries it gives an empty list; it may read the prefix on that occasion, so
        that the first query finds it done.
        """


class Writer(Reader, Protocol):
    """What writes one line behind each query."""

    @property
    def answer_tokens(self) -> int:
        """Longest line that it writes."""

    def write(self, prompt: Prompt, queries: Sequence[str]) -> list[Written]:
        """Write a line behind each query; without queries as `Scorer.score` has it."""


@dataclass(frozen=True, slots=True)
class Template:
    """How an example is written.

    Attributes:
        instruction: Stands once before everything; `{labels}` becomes the label words.
            Empty for none.
        query_line: Holds `{text}` once.
        answer_line: Words, then `{label}` at its end.
        verbalizers: The word for a label; a label without one stands for itself.

    Raises:
        SettingsError: A line that lacks its field.
    """

    name: str
    instruction: str
    query_line: str
    answer_line: str
    verbalizers: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        lines = (self.query_line, self.answer_line)
        cue = self.answer_line.removesuffix(_LABEL)
        if self.query_line.count(_TEXT) != 1 or not cue.strip() or cue == self.answer_line:
            raise SettingsError(
                f"cannot use the template '{self.name}' with the lines {lines}: the first needs "
                f"{_TEXT} once, the second words and {_LABEL} at its end; change `query_line` or "
                "`answer_line` of the `Template`"
            )


TEMPLATES: Mapping[str, Template] = {
    template.name: template
    for template in (
        Template("review", "", "Review: {text}", "Sentiment: {label}"),
        Template(
            "sentiment",
            "Say of each text whether its sentiment is {labels}.",
            "Text: {text}",
            "Sentiment: {label}",
        ),
        Template(
            "verdict",
            "",
            "{text}",
            "All in all, it was {label}",
            {"negative": "terrible", "neutral": "okay", "positive": "great"},
        ),
        Template(
            "ask",
            "Is the sentiment of the text {labels}? Answer with one word.",
            "{text}",
            "Answer: {label}",
        ),
        Template(
            "label",
            "Give each text one of these labels: {labels}.",
            "Text: {text}",
            "Label: {label}",
        ),
    )
}
"""All but `label` ask for sentiment; `ask` is for chats."""
ANY_LABELS = ("label",)
"""Names of templates that suit any labels that are words."""


def fitting_templates(names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Leave out templates that ask for sentiment where the labels are another thing, unless all do.

    For labels that are sentiments, templates that suit any labels are left out.
    """
    sentiment = SENTIMENTS.issuperset(labels)
    return [name for name in names if (name in ANY_LABELS) != sentiment] or list(names)


def one_line(text: str) -> str:
    """Turn each run of blanks into one: the line break belongs to the template."""
    return " ".join(text.split())


def build_prompt(
    template: Template,
    demonstrations: Sequence[Example],
    labels: Sequence[str],
    *,
    chat: Chat | None,
) -> Prompt:
    """Write demonstrations as a prompt, in the order given.

    As plain text they are blocks with an empty line between them. As a chat each is a turn of
    the user and the answer of the assistant; the instruction opens the first turn, as not
    every chat template knows a system's turn, and no blank stands before an answer.

    Args:
        chat: Renders messages; None for plain text.

    Raises:
        LabelError: Two labels with one word.
        SettingsError: A chat template that does not repeat the user's text once, as it is.
    """
    words = _label_words(template, labels)
    instruction = template.instruction.replace(_LABELS, _enumerate_words(words.values()))
    shown = [(example.source, words[example.target]) for example in demonstrations]
    return write_prompt(template, instruction, shown, answers=tuple(words.values()), chat=chat)


def write_prompt(
    template: Template,
    instruction: str,
    shown: Sequence[tuple[str, str]],
    *,
    answers: Sequence[str],
    chat: Chat | None,
) -> Prompt:
    """Write texts with their answers in the lines of a template; see `build_prompt`.

    Args:
        answers: Behind the query, without a blank before them; none where one is to be written.

    Raises:
        SettingsError: A chat template that does not repeat the user's text once, as it is.
    """
    head, _, tail = template.query_line.partition(_TEXT)
    cue, gap = _split_answer_line(template)
    if chat is not None:
        messages = [
            message
            for text, answer in shown
            for message in (
                {"role": "user", "content": f"{head}{one_line(text)}{tail}\n{cue}"},
                {"role": "assistant", "content": answer},
            )
        ]
        messages.append({"role": "user", "content": f"{head}{_MARK}{tail}\n{cue}"})
        if instruction:
            messages[0]["content"] = instruction + _SEPARATOR + messages[0]["content"]
            head = head if shown else _SEPARATOR + head
        return _chat_prompt(messages, chat, before=head, answers=tuple(answers))
    blocks = [f"{head}{one_line(text)}{tail}\n{cue}{gap}{answer}" for text, answer in shown]
    prefix = _SEPARATOR.join(filter(None, [instruction, *blocks]))
    # The separator begins the second part: a line break with text behind it is tokenized as
    # it is between two demonstrations.
    return Prompt(
        prefix=prefix,
        before=(_SEPARATOR if prefix else "") + head,
        after=f"{tail}\n{cue}",
        answers=tuple(gap + answer for answer in answers),
    )


def build_premise(template: Template, labels: Sequence[str], *, chat: Chat | None) -> Prompt:
    """Write the answer line alone: without example and query it asks how common a label's word is.

    Source:
        Holtzman et al. 2021, arXiv:2104.08315, section 3 (domain premise).
    """
    words = _label_words(template, labels)
    cue, gap = _split_answer_line(template)
    if chat is None:
        return Prompt("", "", cue, tuple(gap + word for word in words.values()))
    messages = [{"role": "user", "content": _MARK + cue}]
    return _chat_prompt(messages, chat, before="", answers=tuple(words.values()))


def _label_words(template: Template, labels: Sequence[str]) -> dict[str, str]:
    words = {label: one_line(template.verbalizers.get(label, label)) for label in labels}
    if len(set(words.values())) < len(labels) or not all(words.values()):
        raise LabelError(
            f"cannot ask for the labels {', '.join(map(repr, labels))} with template "
            f"'{template.name}': their words are {', '.join(map(repr, words.values()))}, a "
            "different one for each is needed; change `prompting.templates` or the labels"
        )
    return words


def _enumerate_words(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _split_answer_line(template: Template) -> tuple[str, str]:
    """What asks for the answer, and the blanks before it, which belong to its first token."""
    line = template.answer_line.removesuffix(_LABEL)
    cue = line.rstrip()
    return cue, line[len(cue) :]


def _chat_prompt(
    messages: Sequence[Mapping[str, str]], chat: Chat, *, before: str, answers: tuple[str, ...]
) -> Prompt:
    parts = chat(messages).split(_MARK)
    if len(parts) != 2 or not parts[0].endswith(before):
        raise SettingsError(
            f"cannot write a prompt with this chat template: it repeats the user's text "
            f"{len(parts) - 1} times or changes it, once and as it is is needed; set "
            "`prompting.chat` to false"
        )
    return Prompt(parts[0].removesuffix(before), before, parts[1], answers)


_SOURCE, _TARGET = "{source}", "{target}"

TRANSLATION_TEMPLATES: Mapping[str, Template] = {
    template.name: template
    for template in (
        Template("pair", "", "{source}: {text}", "{target}: {label}"),
        Template(
            "translate",
            "Translate each sentence from {source} to {target}.",
            "{source}: {text}",
            "{target}: {label}",
        ),
        Template("translation", "", "{source} sentence: {text}", "{target} translation: {label}"),
        Template(
            "ask",
            "Translate the text from {source} to {target}. Answer with the translation alone.",
            "{text}",
            "{target}: {label}",
        ),
    )
}
"""`{source}` and `{target}` become the names of the languages; `ask` is for chats."""


def name_languages(template: Template, pair: str) -> Template:
    """Write the languages of a pair such as `ind-jav` into a template.

    Raises:
        EpisodeError: No pair of codes.
    """
    source, target = map(name_language, split_pair(pair))
    return replace(
        template,
        **{
            line: getattr(template, line).replace(_SOURCE, source).replace(_TARGET, target)
            for line in ("instruction", "query_line", "answer_line")
        },
    )


def build_translation_prompt(
    template: Template, demonstrations: Sequence[Example], *, chat: Chat | None
) -> Prompt:
    """Write sentence pairs as a prompt, in the order given, whose answer is to be written.

    Args:
        template: Its languages named.
        chat: Renders messages; None for plain text.

    Raises:
        SettingsError: A chat template that does not repeat the user's text once, as it is.
    """
    shown = [(example.source, one_line(example.target)) for example in demonstrations]
    return write_prompt(template, template.instruction, shown, answers=(), chat=chat)
