"""Prompts: their text by hand, for plain text and for chats."""

import pytest

from nlp_meta.data.tasks import Example
from nlp_meta.errors import LabelError, SettingsError
from nlp_meta.prompting.prompts import TEMPLATES, Prompt, Template, build_premise, build_prompt

LABELS = ("negative", "positive")
SHOWN = (Example("slow\n and  cold", "negative"), Example("a great room", "positive"))
PLAIN = Template("plain", "Say {labels}.", "Review: {text}", "Mood: {label}")


def turns(messages) -> str:
    """A chat template: `[user]...` and `[assistant]...`, each on its own, then an opening."""
    return "".join(f"[{m['role']}]{m['content']}|" for m in messages) + "[assistant]"


def test_plain_text_is_blocks_with_an_empty_line_between_them():
    found = build_prompt(PLAIN, SHOWN, LABELS, chat=None)

    assert found == Prompt(
        prefix=(
            "Say negative or positive.\n\n"
            "Review: slow and cold\nMood: negative\n\n"
            "Review: a great room\nMood: positive"
        ),
        before="\n\nReview: ",
        after="\nMood:",
        answers=(" negative", " positive"),
    )


def test_without_demonstrations_the_instruction_is_left_or_nothing():
    silent = Template("silent", "", "Review: {text}", "Mood: {label}")

    assert build_prompt(PLAIN, (), LABELS, chat=None).prefix == "Say negative or positive."
    assert build_prompt(silent, (), LABELS, chat=None) == Prompt(
        "", "Review: ", "\nMood:", (" negative", " positive")
    )


def test_demonstrations_are_turns_of_a_chat_and_answers_have_no_blank():
    found = build_prompt(PLAIN, SHOWN[:1], LABELS, chat=turns)

    assert found == Prompt(
        prefix=(
            "[user]Say negative or positive.\n\nReview: slow and cold\nMood:|"
            "[assistant]negative|[user]"
        ),
        before="Review: ",
        after="\nMood:|[assistant]",
        answers=("negative", "positive"),
    )


def test_the_instruction_of_a_chat_without_demonstrations_stands_in_the_prefix():
    found = build_prompt(PLAIN, (), LABELS, chat=turns)

    assert found.prefix == "[user]Say negative or positive."
    assert found.before == "\n\nReview: "


@pytest.mark.parametrize("chat", [None, turns])
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_query_stands_where_a_demonstration_would(template, chat):
    """The whole text for a query and its label is that of one demonstration more."""
    query = Example("an awful {text} agent", "negative")
    asked = build_prompt(template, SHOWN, LABELS, chat=chat)
    shown = build_prompt(template, (*SHOWN, query), LABELS, chat=chat)

    whole = asked.prefix + asked.before + query.source + asked.after + asked.answers[0]

    assert shown.prefix.startswith(whole)


def test_verbalizers_stand_for_labels_in_demonstrations_and_answers():
    found = build_prompt(TEMPLATES["verdict"], SHOWN, LABELS, chat=None)

    assert found.answers == (" terrible", " great")
    assert found.prefix.endswith("a great room\nAll in all, it was great")


def test_the_premise_is_the_answer_line_alone():
    assert build_premise(PLAIN, LABELS, chat=None) == Prompt(
        "", "", "Mood:", (" negative", " positive")
    )
    assert build_premise(PLAIN, LABELS, chat=turns) == Prompt(
        "[user]", "", "Mood:|[assistant]", LABELS
    )


@pytest.mark.parametrize(
    "labels", [("good", "good "), ("positive", "great"), ("", "positive")], ids=str
)
def test_labels_that_share_a_word_or_have_none_are_refused(labels):
    with pytest.raises(LabelError, match="a different one for each is needed"):
        build_prompt(TEMPLATES["verdict"], (), labels, chat=None)


@pytest.mark.parametrize(
    ("query_line", "answer_line"),
    [
        ("Review:", "Mood: {label}"),
        ("{text} {text}", "Mood: {label}"),
        ("{text}", "Mood: {label}."),
        ("{text}", "{label}"),
        ("{text}", "Mood:"),
    ],
)
def test_a_line_without_its_field_is_refused(query_line, answer_line):
    with pytest.raises(SettingsError, match=r"cannot use the template 'odd'.*`query_line` or"):
        Template("odd", "", query_line, answer_line)


@pytest.mark.parametrize(
    "chat", [lambda messages: "nothing", lambda messages: 2 * turns(messages)], ids=["no", "two"]
)
def test_a_chat_template_that_does_not_repeat_the_text_once_is_refused(chat):
    with pytest.raises(SettingsError, match=r"set `prompting\.chat` to false"):
        build_prompt(PLAIN, (), LABELS, chat=chat)
