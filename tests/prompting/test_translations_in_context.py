"""Translating in context with a writer whose lines can be told by hand; tokens are words here."""

from dataclasses import dataclass, field, replace

import pytest

from nlp_meta.data.answers import Translation
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import EpisodeError, SettingsError
from nlp_meta.prompting.demonstrations import PromptPlan
from nlp_meta.prompting.in_context import TranslationPrompter, in_context, try_prompts
from nlp_meta.prompting.local_answers import LocalWriter
from nlp_meta.prompting.prompts import (
    TRANSLATION_TEMPLATES,
    Written,
    build_prompt,
    build_translation_prompt,
    name_languages,
)

SUPPORT = tuple(
    Example(source, target)
    for source, target in [
        ("nasi goreng", "sega goreng"),
        ("air panas", "banyu panas"),
        ("rumah besar", "omah gedhe"),
        ("jalan kecil", "dalan cilik"),
    ]
)
QUERY = tuple(
    Example(source, target)
    for source, target in [("air besar", "banyu gedhe"), ("jalan panas", "dalan panas")]
)
EPISODE = Episode("made/ind-jav", (), SUPPORT, QUERY, 3, skill="generation", language="ind-jav")
PLAN = PromptPlan(
    TRANSLATION_TEMPLATES["pair"],
    demonstrations=None,
    selection="balanced",
    seed=0,
    order=0,
    chat=None,
    demonstration_tokens=20,
    query_tokens=20,
)


@dataclass
class Glossary:
    """Translates word by word with the pairs of its prompt, whose words stand in one order."""

    context_tokens: int = 1000
    answer_tokens: int = 8
    name: str = "glossary"
    asked: list = field(default_factory=list)

    def count_tokens(self, text):
        return len(text.split())

    def write(self, prompt, queries):
        self.asked.append((prompt, list(queries)))
        if not queries:
            return []
        known = {}
        for block in prompt.prefix.split("\n\n"):
            lines = [line.partition(": ")[2] for line in block.split("\n")]
            if len(lines) == 2:
                known |= dict(zip(lines[0].split(), lines[1].split(), strict=True))
        lines = [" ".join(known[w] for w in query.split() if w in known) for query in queries]
        return [Written(line, finished=bool(line)) for line in lines]


def learn(writer, plan=PLAN, episode=EPISODE):
    return in_context(TranslationPrompter(writer), plan)(episode.support_set)


def answer(writer, plan=PLAN, episode=EPISODE) -> tuple[list[Translation], dict]:
    """Translations of the queries, and the facts of what was shown."""
    learned = learn(writer, plan, episode)
    return learned(episode.queries), learned.facts


def turns(messages) -> str:
    """A chat template: `[user]...` and `[assistant]...`, each on its own, then an opening."""
    return "".join(f"[{m['role']}]{m['content']}|" for m in messages) + "[assistant]"


def shown_in(prompt) -> int:
    return prompt.prefix.count("Javanese: ")


@pytest.mark.parametrize("selection", ["balanced", "nearest"])
def test_words_of_the_pairs_make_the_translation(selection):
    plan = replace(PLAN, selection=selection)

    found, _ = answer(Glossary(), plan)

    assert found == [Translation("banyu gedhe"), Translation("dalan panas")]


def test_a_prompt_names_the_languages_and_leaves_the_translation_open():
    named = name_languages(TRANSLATION_TEMPLATES["translate"], "ind-jav")

    found = build_translation_prompt(named, SUPPORT[:1], chat=None)

    assert found.prefix == (
        "Translate each sentence from Indonesian to Javanese.\n\n"
        "Indonesian: nasi goreng\nJavanese: sega goreng"
    )
    assert (found.before, found.after, found.answers) == ("\n\nIndonesian: ", "\nJavanese:", ())


def test_pairs_are_turns_of_a_chat():
    named = name_languages(TRANSLATION_TEMPLATES["ask"], "eng-deu")
    said = "Translate the text from English to German. Answer with the translation alone."

    found = build_translation_prompt(named, [Example("a  road", "eine\nStraße")], chat=turns)

    assert found.prefix == f"[user]{said}\n\na road\nGerman:|[assistant]eine Straße|[user]"
    assert (found.before, found.after) == ("", "\nGerman:|[assistant]")


@pytest.mark.parametrize("chat", [None, turns])
@pytest.mark.parametrize("template", TRANSLATION_TEMPLATES.values(), ids=TRANSLATION_TEMPLATES)
def test_translations_stand_where_labels_would(template, chat):
    """A prompt for labels whose words are the translations is the same text."""
    named = name_languages(template, "ind-jav")
    labels = [pair.target for pair in SUPPORT]

    found = build_translation_prompt(named, SUPPORT, chat=chat)

    assert replace(build_prompt(named, SUPPORT, labels, chat=chat), answers=()) == found


def test_an_episode_without_a_language_pair_is_refused():
    with pytest.raises(EpisodeError, match="between the languages ''"):
        answer(Glossary(), episode=replace(EPISODE, language=""))


def test_all_queries_share_one_prefix_which_is_read_first_or_each_has_its_own():
    """By hand: of the pairs with 'jalan ' and ' panas' the shorter is the nearer one."""
    shared, own = Glossary(), Glossary()

    learned = learn(shared)
    before = [queries for _, queries in shared.asked]
    learned(EPISODE.queries)
    answer(own, replace(PLAN, selection="nearest", demonstrations=1))

    sources = [example.source for example in QUERY]
    assert before == [[]] and [queries for _, queries in shared.asked] == [[], sources]
    assert len({prompt for prompt, _ in shared.asked}) == 1
    assert [queries for _, queries in own.asked] == [[source] for source in sources]
    assert "rumah besar" in own.asked[0][0].prefix
    assert "air panas" in own.asked[1][0].prefix


def test_the_draw_depends_on_the_seed_and_shows_no_other_pairs():
    def prefix(seed: int) -> str:
        writer = Glossary()
        answer(writer, replace(PLAN, seed=seed, demonstrations=2))
        return writer.asked[0][0].prefix

    found = [prefix(seed) for seed in range(8)]

    assert found == [prefix(seed) for seed in range(8)]
    assert len(set(found)) > 1


@pytest.mark.parametrize("selection", ["balanced", "nearest"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_text_to_be_translated_is_never_shown(selection, side):
    copies = tuple(
        Example(**{"source": "lain", "target": "liya", side: f"{one.source.upper()}!"})
        for one in QUERY
    )
    writer = Glossary()
    episode = replace(EPISODE, support=copies + SUPPORT)

    _, facts = answer(writer, replace(PLAN, selection=selection), episode)

    shown = " ".join(prompt.prefix for prompt, queries in writer.asked if queries)
    assert not any(f"{one.source.upper()}!" in shown for one in QUERY)
    assert all(pair.source in shown for pair in SUPPORT)
    assert facts["pairs_left_out"] == 2


def test_true_translations_change_nothing():
    other = replace(EPISODE, query=tuple(replace(one, target="nasi goreng") for one in QUERY))
    first, second = Glossary(), Glossary()

    assert answer(first) == answer(second, episode=other)
    assert first.asked == second.asked


def test_without_pairs_the_template_alone_is_shown():
    writer = Glossary()
    plan = replace(PLAN, template=TRANSLATION_TEMPLATES["translate"])

    found, facts = answer(writer, plan, replace(EPISODE, support=()))

    assert {prompt.prefix for prompt, _ in writer.asked} == {
        "Translate each sentence from Indonesian to Javanese."
    }
    assert found == [Translation("")] * 2
    assert (facts["demonstrations"], facts["empty"], facts["unfinished"]) == (0, 2, 2)


def test_as_many_pairs_are_shown_as_fit_beside_a_source_and_the_longest_answer():
    """By hand: a pair has 6 words, the source 2 + 2, the answer 8, 4 are spare: 16 and 6 each."""
    counts = {}
    for context in (16, 21, 22, 33, 34, 40, 100):
        writer = Glossary(context)
        _, facts = answer(writer)
        counts[context] = facts["demonstrations"]
        assert shown_in(writer.asked[-1][0]) == facts["demonstrations"]
        assert facts["answer_tokens"] == 8 and facts["queries_cut"] == 0

    assert counts == {16: 0, 21: 0, 22: 1, 33: 2, 34: 3, 40: 4, 100: 4}


def test_a_source_too_long_is_cut_and_counted_and_without_room_refused():
    """By hand: of 15 words 2 + 8 + 4 are taken; one is left for the source."""
    writer = Glossary(15)

    _, facts = answer(writer)

    assert writer.asked[-1][1] == ["air", "jalan"]
    assert (facts["demonstrations"], facts["queries_cut"]) == (0, 2)
    with pytest.raises(
        EpisodeError,
        match=r"a query of 2 tokens and an answer of 8 need a context of 16 tokens and it has 14; "
        r"lower `translation_prompting.max_new_tokens`, raise",
    ):
        answer(Glossary(14))


def test_pairs_that_are_long_or_lack_a_side_are_left_out():
    odd = (Example("satu " * 21, "siji"), Example("satu", "siji " * 21), Example("dua", " "))
    writer = Glossary()

    _, facts = answer(writer, episode=replace(EPISODE, support=odd + SUPPORT))

    assert (facts["pairs_left_out"], facts["demonstrations"]) == (3, 4)
    assert "siji" not in writer.asked[0][0].prefix


def test_the_plan_that_translates_best_is_chosen():
    """Without pairs nothing is translated; the first of two equal ones is taken."""

    def right(episode, answers):
        assert episode.query == QUERY
        pairs = zip(episode.query, answers, strict=True)
        return sum(one.target == answer.text for one, answer in pairs) / 2

    plans = [
        replace(PLAN, template=TRANSLATION_TEMPLATES[name], demonstrations=number)
        for name in ("pair", "translate")
        for number in (0, None)
    ]

    trials = try_prompts(TranslationPrompter(Glossary()), plans, [EPISODE], metric=right)

    assert [trial.plan for trial in trials] == [plans[1], plans[3], plans[0], plans[2]]
    assert [trial.score for trial in trials] == [1, 1, 0, 0]


def test_nothing_to_choose_from_is_refused():
    with pytest.raises(SettingsError, match=r"1 prompts on 0 episodes.*\.translation_templates`"):
        try_prompts(TranslationPrompter(Glossary()), [PLAN], [], metric=lambda *_: 0.0)


@pytest.mark.parametrize("selection", ["balanced", "nearest"])
@pytest.mark.parametrize("beams", [1, 2])
def test_a_tiny_model_writes_within_its_context(tiny_language_model, selection, beams):
    """Sources longer than the context are cut, by the tokens of a real tokenizer."""
    model = tiny_language_model("llama", context_tokens=100)
    writer = LocalWriter(model, batch_tokens=300, max_new_tokens=10, num_beams=beams)
    long = (*QUERY, Example("the staff never called back " * 20, ""))
    plan = replace(PLAN, selection=selection, query_tokens=30)

    found, facts = answer(writer, plan, replace(EPISODE, query=long))

    assert len(found) == 3 and all("\n" not in one.text for one in found)
    assert facts["queries_cut"] == 1
