"""Translation prompts: sentence pairs as text for a language model, and the place of the source.

They are written in the same lines as prompts for labels; what stands for the label is the
translation, and behind the query it is left to be written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nlp_meta.data.language_names import name_language
from nlp_meta.data.language_tags import split_pair
from nlp_meta.data.tasks import Example
from nlp_meta.errors import SettingsError
from nlp_meta.prompting.prompts import Chat, Prompt, Template, one_line, write_prompt

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
        Template(
            "translation",
            "",
            "{source} sentence: {text}",
            "{target} translation: {label}",
        ),
        Template(
            "ask",
            "Translate the text from {source} to {target}. Answer with the translation alone.",
            "{text}",
            "{target}: {label}",
        ),
    )
}
"""`{source}` and `{target}` become the names of the languages; `ask` is for chats."""


def find_translation_template(name: str) -> Template:
    """Look a template up in `TRANSLATION_TEMPLATES`.

    Raises:
        SettingsError: There is none of that name.
    """
    if name not in TRANSLATION_TEMPLATES:
        raise SettingsError(
            f"cannot prompt for translations with the template '{name}': one of "
            f"{', '.join(TRANSLATION_TEMPLATES)} is needed; change "
            "`translation_prompting.translation_templates`"
        )
    return TRANSLATION_TEMPLATES[name]


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
