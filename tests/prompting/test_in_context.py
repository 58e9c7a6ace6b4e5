"""In-context prompting with a scorer whose answers can be told by hand."""

from collections import Counter
from dataclasses import dataclass, field, replace
from math import log

import pytest

from nlp_meta.data.answers import Prediction
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import EpisodeError, SettingsError
from nlp_meta.evaluation.answers import episode_scorer
from nlp_meta.prompting.demonstrations import PromptPlan
from nlp_meta.prompting.in_context import (
    CONTENT_FREE,
    LabelPrompter,
    in_context,
    score_orders,
    try_prompts,
)
from nlp_meta.prompting.local_answers import LocalScorer
from nlp_meta.prompting.prompts import TEMPLATES, AnswerScore

LABELS = ("negative", "positive")
SUPPORT = tuple(
    Example(text, label)
    for text, label in [
        ("slow cold food", "negative"),
        ("quiet warm room", "positive"),
        ("awful loud phone", "negative"),
        ("great fast agent", "positive"),
    ]
)
QUERY = tuple(
    Example(text, label)
    for text, label in [
        ("the food was cold", "negative"),
        ("a warm room", "positive"),
        ("what an awful phone", "negative"),
        ("the agent was great", "positive"),
    ]
)
EPISODE = Episode("made/task", LABELS, SUPPORT, QUERY, 3)
PLAN = PromptPlan(
    TEMPLATES["review"],
    demonstrations=None,
    selection="balanced",
    seed=0,
    order=0,
    chat=None,
    demonstration_tokens=20,
    query_tokens=20,
)


@dataclass
class Copier:
    """Believes in a label by 1 + the query's words in its demonstrations, times a bias.

    A label that the last demonstration has counts double where `recency` is set.
    """

    context_tokens: int = 1000
    bias: tuple[float, ...] = (1.0, 1.0)
    recency: bool = False
    name: str = "copier"
    graded: bool = True
    asked: list = field(default_factory=list)

    def count_tokens(self, text):
        return len(text.split())

    def score(self, prompt, queries):
        self.asked.append((prompt, list(queries)))
        blocks = [block for block in prompt.prefix.split("\n\n") if "Sentiment:" in block]
        rows = []
        for query in queries:
            row = []
            for answer, bias in zip(prompt.answers, self.bias, strict=True):
                own = [block for block in blocks if block.endswith(answer)]
                words = Counter(" ".join(own).split())
                belief = bias * (1 + sum(words[word] for word in query.split()))
                if self.recency and blocks and blocks[-1].endswith(answer):
                    belief *= 2
                row.append(AnswerScore(log(belief), 1))
            rows.append(tuple(row))
        return rows


accuracy = episode_scorer("accuracy")


def learn(scorer, episode=EPISODE, *, scoring="sum", **changes):
    """What learns nothing of the queries before it is asked."""
    return in_context(LabelPrompter(scorer, [scoring]), replace(PLAN, **changes))(
        episode.support_set
    )


def answer(scorer, episode=EPISODE, **changes) -> list[Prediction]:
    return learn(scorer, episode, **changes)(episode.queries)


def questions(scorer) -> list:
    """What was asked, without the readings of a prompt that nothing stands behind."""
    return [(prompt, queries) for prompt, queries in scorer.asked if queries]


@pytest.mark.parametrize("selection", ["balanced", "nearest"])
def test_words_of_the_demonstrations_tell_the_label(selection):
    assert accuracy(EPISODE, answer(Copier(), selection=selection)) == 1


def test_probabilities_are_the_beliefs_made_to_add_up_to_one():
    """By hand: `food` and `cold` make 3 against 1, `the` and `was` are nowhere."""
    first = answer(Copier())[0]

    assert first.label == "negative"
    assert first.probabilities == pytest.approx({"negative": 0.75, "positive": 0.25})


@pytest.mark.parametrize(
    ("scoring", "negative"), [("sum", 0.3 / 1.2), ("pmi", 0.75), ("calibrated", 0.75)]
)
def test_a_bias_of_the_model_is_taken_away(scoring, negative):
    """A model that likes one label nine times as much: 3 * 0.1 against 0.9 before its removal."""
    first = answer(Copier(bias=(0.1, 0.9)), scoring=scoring)[0]

    assert first.probabilities["negative"] == pytest.approx(negative)


@pytest.mark.parametrize("scoring", ["mean", "pmi", "calibrated"])
def test_written_answers_are_taken_as_they_are(scoring):
    """A writer answers texts without content by its favorite label too; it is asked for none."""
    writer = Copier(bias=(0.5, 1.0), graded=False)
    found = answer(writer, scoring=scoring)
    trials = try_prompts(LabelPrompter(writer, [scoring]), [PLAN], [EPISODE], metric=accuracy)

    assert found == answer(Copier(bias=(0.5, 1.0)), scoring="sum")
    assert {trial.scoring for trial in trials} == {"sum"}
    texts = {one.source for one in QUERY}
    assert {query for _, queries in writer.asked for query in queries} == texts


def test_without_labels_the_instruction_alone_is_shown():
    scorer = Copier()
    predictions = answer(
        scorer, replace(EPISODE, support=()), template=TEMPLATES["sentiment"], scoring="calibrated"
    )

    instruction = "Say of each text whether its sentiment is negative or positive."
    assert {prompt.prefix for prompt, _ in scorer.asked} == {instruction}
    assert [one.label for one in predictions] == ["negative"] * 4
    assert predictions[0].probabilities == pytest.approx({"negative": 0.5, "positive": 0.5})


def test_all_queries_share_one_prompt_or_each_has_its_own():
    shared, own = Copier(), Copier()
    answer(shared, scoring="calibrated")
    answer(own, scoring="calibrated", selection="nearest", demonstrations=2)

    assert [queries for _, queries in questions(shared)] == [
        list(CONTENT_FREE),
        [example.source for example in QUERY],
    ]
    assert len({prompt for prompt, _ in shared.asked}) == 1
    assert [queries for _, queries in own.asked[1::2]] == [[example.source] for example in QUERY]
    # The most similar stands last, where it is read last.
    nearest = [prompt.prefix.split("\n\n")[-1].split("\n")[0] for prompt, _ in own.asked[::2]]
    assert nearest == [f"Review: {example.source}" for example in SUPPORT]


@pytest.mark.parametrize("selection", ["balanced", "nearest"])
def test_a_query_text_is_never_a_demonstration(selection):
    copies = tuple(Example(one.source.upper() + "!", "negative") for one in QUERY)
    scorer = Copier()

    answer(scorer, replace(EPISODE, support=copies + SUPPORT), selection=selection)

    shown = " ".join(prompt.prefix for prompt, _ in questions(scorer))
    assert not any(example.source in shown for example in copies)
    assert all(example.source in shown for example in SUPPORT)


def test_query_labels_change_nothing():
    turned = tuple(Example(one.source, LABELS[one.target == "negative"]) for one in EPISODE.query)

    assert answer(Copier()) == answer(Copier(), replace(EPISODE, query=turned))


def test_the_prompt_is_read_when_learning_and_the_queries_when_answering():
    """By hand: the query of four words is cut to three, of four demonstrations three are shown."""
    scorer = Copier()

    learned = learn(scorer, demonstration_tokens=2, query_tokens=3, demonstrations=3)
    before = [queries for _, queries in scorer.asked]
    learned(EPISODE.queries)

    assert before == [[]] and learned.facts["demonstrations"] == 3
    (first, _), (second, queries) = scorer.asked
    assert first == second
    assert queries == ["the food was", "a warm room", "what an awful", "the agent was"]
    assert learned.facts["queries_cut"] == 3
    assert (learned.facts["template"], learned.facts["scoring"]) == ("review", "sum")


def test_a_short_context_shows_fewer_demonstrations():
    """By hand: 6 words a demonstration; 2 + 1 + 4 stand beside the query of 4 words."""
    counts = []
    for context in (17, 23, 35):
        learned = learn(Copier(context))
        learned(EPISODE.queries)
        counts.append(learned.facts["demonstrations"])

    assert counts == [1, 2, 4]
    with pytest.raises(EpisodeError, match="one demonstration and a query of 4 tokens"):
        answer(Copier(16))


def test_the_best_template_and_rule_are_chosen_in_one_pass_a_template():
    """The bias hides two of four labels from `sum`; only plans with demonstrations know any."""
    scorer = Copier(bias=(0.1, 0.9))
    plans = [replace(PLAN, demonstrations=0), PLAN]

    prompter = LabelPrompter(scorer, ("sum", "calibrated", "pmi"))
    trials = try_prompts(prompter, plans, [EPISODE], metric=accuracy)

    assert (trials[0].plan, trials[0].scoring) == (PLAN, "calibrated")
    scores = {(t.plan.demonstrations, t.scoring): t.score for t in trials}
    assert scores[0, "sum"] == scores[0, "calibrated"] == scores[None, "sum"] == 0.5
    assert scores[None, "calibrated"] == scores[None, "pmi"] == 1
    texts = [example.source for example in QUERY]
    assert sum(queries == texts for _, queries in scorer.asked) == 2


@pytest.mark.parametrize(
    ("plans", "scorings", "episodes"), [(1, ["sum"], 0), (0, ["sum"], 1), (1, [], 1)]
)
def test_nothing_to_choose_from_is_refused(plans, scorings, episodes):
    prompter = LabelPrompter(Copier(), scorings)

    with pytest.raises(
        SettingsError,
        match=rf"among {plans} prompts on {episodes} episodes.*`prompting\.templates`, `prompting",
    ):
        try_prompts(prompter, [PLAN] * plans, [EPISODE] * episodes, metric=accuracy)


def test_each_order_is_scored_with_its_own_last_demonstration():
    """A model that believes the last label twice answers two texts of unknown words by it."""
    scorer = Copier(recency=True)
    strange = (Example("x", "negative"), Example("y", "negative"), *QUERY[:2])
    episode = replace(EPISODE, query=strange)

    prompter = LabelPrompter(scorer, ["sum"])
    scores = score_orders(prompter, PLAN, episode, orders=6, metric=accuracy)

    last = [
        prompt.prefix.endswith("negative") for prompt, queries in scorer.asked if "x" in queries
    ]
    assert len(set(last)) == 2
    assert scores == [1.0 if negative else 0.5 for negative in last]


@pytest.mark.parametrize(("orders", "selection"), [(1, "balanced"), (3, "nearest")])
def test_orders_that_cannot_be_compared_are_refused(orders, selection):
    plan = replace(PLAN, selection=selection)

    with pytest.raises(SettingsError, match=f"{orders} orders of {selection} demonstrations"):
        score_orders(
            LabelPrompter(Copier(), ["sum"]), plan, EPISODE, orders=orders, metric=accuracy
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"demonstrations": -1}, "demonstrations -1: at least 0"),
        ({"seed": -1}, "seed -1: at least 0"),
        ({"query_tokens": 0}, "query_tokens 0: at least 1"),
        ({"selection": "random"}, "'random': one of balanced, nearest"),
    ],
)
def test_a_plan_out_of_range_is_refused(change, message):
    with pytest.raises(SettingsError, match=message):
        replace(PLAN, **change)


def test_an_unknown_rule_is_refused_at_once():
    with pytest.raises(SettingsError, match=r"change `prompting\.scorings`"):
        LabelPrompter(Copier(), ["best"])


@pytest.mark.parametrize("selection", ["balanced", "nearest"])
def test_a_tiny_model_answers_within_its_context(tiny_language_model, selection):
    """Texts longer than the context are cut, by the tokens of a real tokenizer."""
    scorer = LocalScorer(tiny_language_model("llama", context_tokens=100), batch_tokens=300)
    long = (*QUERY, Example("the staff never called back " * 20, "negative"))
    episode = replace(EPISODE, query=long)

    learned = learn(
        scorer,
        episode,
        scoring="calibrated",
        selection=selection,
        demonstration_tokens=8,
        query_tokens=30,
    )
    found = learned(episode.queries)

    assert len(found) == 5
    assert all(sum(one.probabilities.values()) == pytest.approx(1) for one in found)
    assert learned.facts["queries_cut"] == 1 and learned.facts["demonstrations"] >= 1
