"""The table of methods: for each its skills, what decides its answers, how it is built.

A config writes a method as `name` or `name folder`; the folder holds its start, or the model
that is asked as it is. Methods that adapt LoRA matrices or prompt have files of their own. The
rivals that are built here move the whole encoder (full fine-tuning, SetFit), read the frozen
encoder's features or characters alone, or copy. Each chooses inside the support set, by
cross-validation or by leaving one out, unless it says otherwise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nlp_meta.comparing.bench import (
    UNMOVED,
    Bench,
    Method,
    count_numbers,
    fold_episodes,
    trained_by,
)
from nlp_meta.comparing.prompted import build_prompting, choose_prompting
from nlp_meta.comparing.starts import (
    build_adapt,
    build_hybrid,
    build_lora,
    build_pretrained,
    build_start,
    choose_lora,
    choose_start,
)
from nlp_meta.data.answers import LearnedWithFacts, Rival
from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.episodes import GENERATION, RETRIEVAL, Episode, Queries, SupportSet
from nlp_meta.encoders.backbone import Backbone
from nlp_meta.errors import SettingsError
from nlp_meta.evaluation.answers import episode_scorer
from nlp_meta.hub.pull import ADAPTER, COMPANION_WEIGHTS, HEAD, RECORD
from nlp_meta.hub.records import find_model
from nlp_meta.objectives.ngrams import FEATURES
from nlp_meta.rivals.characters import copied_source, ngram_overlap, ngrams
from nlp_meta.rivals.full_fine_tune import FullFineTuning, choose_full_fine_tuning, full_fine_tune
from nlp_meta.rivals.linear_probe import linear_probe
from nlp_meta.rivals.memory import memory
from nlp_meta.rivals.prototypes import prototypes
from nlp_meta.rivals.ready import load_ready, ready
from nlp_meta.rivals.setfit import PAPER_PAIRS, setfit
from nlp_meta.settings import ComparisonSettings, RivalSettings

Choice = Mapping[str, object]

READY = "ready"
"""The method that asks a model as it is."""
HEAD_FACTOR = 30.0
"""The head begins at zero and learns so much faster than the encoder."""
INSIDE_FOLDS = 2
"""Of the search inside a support set: each costs a whole training for every rate."""


def choose_full(bench: Bench, _: str) -> dict[str, object]:
    """Steps and rate of full fine-tuning."""
    if not bench.judged:
        return {"chosen": "inside each support set"}
    tuning, trials = _search(bench, _objective(bench), bench.judged)
    return {
        "chosen": "on meta-validation",
        "steps": tuning.steps,
        "learning_rate": tuning.learning_rate,
        "validation_score": max(trials),
        "trials": len(trials),
    }


def build_full(bench: Bench, _: str, choice: Choice) -> Method:
    """Every parameter of the encoder and a fresh head."""
    objective = _objective(bench)
    rivals: RivalSettings = bench.settings.rivals

    def learn(support_set: SupportSet) -> LearnedWithFacts:
        tuning = _first(bench)
        if "steps" in choice:
            tuning = _chosen(tuning, int(str(choice["steps"])), float(str(choice["learning_rate"])))
        else:
            episode = support_set.ask(Queries(()))
            held_out = fold_episodes(episode, folds=INSIDE_FOLDS, seed=bench.settings.run.seed)
            if held_out:
                tuning, _ = _search(bench, objective, held_out)
        adapt = full_fine_tune(
            objective.backbone,
            tuning=tuning,
            batch_tokens=bench.settings.run.batch_tokens,
            autocast=objective.network.dtype,
        )
        facts = {"steps": tuning.steps, "learning_rate": tuning.learning_rate}
        return LearnedWithFacts(adapt(support_set), facts)

    steps, trainings = int(str(choice.get("steps", max(rivals.full_steps)))), 1
    if "steps" not in choice:  # each copy of the search learns from all folds but one
        trainings += (INSIDE_FOLDS - 1) * len(rivals.full_learning_rates)

    def examples(labels: int) -> int:
        """At most, where a search inside finds folds and the longest training best."""
        batches = max(1, round(labels / rivals.full_batch_size))
        return round(trainings * steps * labels / batches)

    return Method(learn, 2, examples, _facts(objective.backbone, choice))


def build_setfit(bench: Bench, _: str, choice: Choice) -> Method:
    """SetFit, by its own package, on the same encoder."""
    return _build_setfit(bench, bench.settings.rivals.setfit_pairs, choice)


def build_paper_setfit(bench: Bench, _: str, choice: Choice) -> Method:
    """SetFit with as many pairs as its authors take."""
    return _build_setfit(bench, PAPER_PAIRS, choice)


def _build_setfit(bench: Bench, pairs: int, choice: Choice) -> Method:
    backbone = _objective(bench).backbone
    learn = setfit(backbone, pairs=pairs, seed=bench.settings.run.seed)
    examples: Callable[[int], int] = lambda labels: 2 * pairs * 2 * labels  # noqa: E731
    choices = {"chosen": "beforehand", "pairs_of_each_kind_an_example": pairs, **choice}
    return Method(learn, 2, examples, _facts(backbone, choices))


def build_ready(bench: Bench, name: str, choice: Choice) -> Method:
    """A model of text classification as it is."""
    loaded = load_ready(name, labels=bench.labels, batch_tokens=bench.settings.run.batch_tokens)
    title = f"{Path(name).name} as it is"
    return Method(
        ready(loaded, clock=bench.clock),
        0,
        lambda _labels: 0,
        {**UNMOVED, "examples_before": None, "title": title, "model": Path(name).name},
        without_labels=True,
    )


UNTRAINED: Mapping[str, object] = {"examples_before": 0, "pooling": "mean"}
"""Facts of a method that stands on the pretrained encoder."""


def _objective(bench: Bench) -> Any:
    """What holds the encoder and the precision that it computes in."""
    return bench.objective(replace(bench.settings.model, pooling="mean"), bench.labels)


def _facts(backbone: Backbone, choice: Choice) -> dict[str, object]:
    moved = sum(value.numel() for value in backbone.encoder.parameters())
    return {**UNTRAINED, **count_numbers(moved), "choice": dict(choice)}


def _first(bench: Bench) -> FullFineTuning:
    rivals = bench.settings.rivals
    rate, steps = min(rivals.full_learning_rates), min(rivals.full_steps)
    return FullFineTuning(
        learning_rate=rate,
        head_learning_rate=HEAD_FACTOR * rate,
        steps=steps,
        decay_steps=max(rivals.full_steps),
        batch_size=rivals.full_batch_size,
        seed=bench.settings.run.seed,
    )


def _chosen(tuning: FullFineTuning, steps: int, rate: float) -> FullFineTuning:
    return replace(tuning, steps=steps, learning_rate=rate, head_learning_rate=HEAD_FACTOR * rate)


def _search(
    bench: Bench, objective: Any, episodes: Sequence[Episode]
) -> tuple[FullFineTuning, list[float]]:
    settings = bench.settings
    tuning, trials = choose_full_fine_tuning(
        objective.backbone,
        episodes,
        tuning=_first(bench),
        steps=settings.rivals.full_steps,
        learning_rates=settings.rivals.full_learning_rates,
        metric=episode_scorer(settings.adaptation.metric, setting="adaptation.metric"),
        batch_tokens=settings.run.batch_tokens,
        autocast=objective.network.dtype,
    )
    chosen = _chosen(tuning, tuning.steps, tuning.learning_rate)
    return chosen, [trial.score for trial in trials]


def build_probe(bench: Bench, _: str, choice: Choice) -> Method:
    """Logistic regression on the frozen encoder's features."""
    rivals = bench.settings.rivals
    learn = linear_probe(
        bench.embed(),
        regularization=rivals.regularization,
        folds=rivals.folds,
        seed=bench.settings.run.seed,
    )
    return _on_features(learn, numbers=_width(bench) * len(bench.labels))


def build_prototypes(bench: Bench, _: str, choice: Choice) -> Method:
    """The nearest class mean of the support set."""
    rivals = bench.settings.rivals
    learn = prototypes(bench.embed(), scalings=rivals.scalings, temperatures=rivals.temperatures)
    return _on_features(learn, numbers=_width(bench) * len(bench.labels))


def build_memory(bench: Bench, _: str, choice: Choice) -> Method:
    """The support set itself, read by attention."""
    learn = memory(bench.embed(), temperatures=bench.settings.rivals.temperatures)
    return _on_features(learn, numbers=_width(bench) * max(bench.settings.comparison.labels))


def build_ngrams(bench: Bench, _: str, choice: Choice) -> Method:
    """Logistic regression on TF-IDF of character n-grams."""
    rivals = bench.settings.rivals
    learn = ngrams(
        regularization=rivals.regularization, folds=rivals.folds, seed=bench.settings.run.seed
    )
    facts = {"examples_before": 0, **count_numbers(FEATURES * len(bench.labels))}
    return Method(learn, 2, _once, facts)


def build_overlap(bench: Bench, _: str, choice: Choice) -> Method:
    """Overlap of character n-grams."""
    orders = bench.settings.retrieval.ngrams
    return Method(ngram_overlap(orders=orders), 0, _once, UNMOVED)


def build_copied(bench: Bench, _: str, choice: Choice) -> Method:
    """Every source as its own translation."""
    return Method(copied_source, 0, lambda _pairs: 0, UNMOVED)


def _on_features(learn: Rival, *, numbers: int) -> Method:
    return Method(learn, 2, _once, {**UNTRAINED, **count_numbers(numbers)})


def _once(labels: int) -> int:
    """Every support example goes through the encoder once, forward alone."""
    return labels


def _width(bench: Bench) -> int:
    return int(bench.embed()(["one text"]).shape[1])


Choose = Callable[[Bench, str], dict[str, object]]
Build = Callable[[Bench, str, Mapping[str, object]], Method]
"""Behind the bench comes what follows the method's name in the config."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What decides a method's answers in one skill.

    Attributes:
        reads: What of a text it sees.
        settings: Sections of the config, or keys of one.
        files: Of its start's folder.
    """

    reads: str
    settings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MethodRow:
    """A row of the table.

    Attributes:
        group: `ours` or `rival`.
        skills: By skill that it has, what decides its answers.
        choose: What it has to choose before it meets a support set, JSON-able; slow.
        folder: Whether a start's folder follows its name.
        model: Whether the folder or the Hub's name of a model follows it, which is no start.
        costly: Whether it is compared only if it is named.
    """

    title: str
    group: str
    skills: Mapping[str, Inputs]
    choose: Choose
    build: Build
    folder: bool = False
    model: bool = False
    costly: bool = False


def no_choice(bench: Bench, argument: str) -> dict[str, object]:
    """For methods whose every choice is made inside a support set, or that have none."""
    return {}


def _keys(section: str, names: str) -> tuple[str, ...]:
    return tuple(f"{section}.{name}" for name in names.split())


JUDGED = _keys("adaptation", "labels draws max_query")
"""What decides the episodes of the meta-validation tasks."""
ADAPTED = JUDGED + _keys(
    "adaptation", "metric optimizer batch_size anchor average early_stop steps learning_rates"
)
"""What decides an adaptation and its choice: all but how many episodes share a pass."""
ASKED = _keys(
    "prompting",
    "model_name_or_path revision gguf_file context_tokens demonstrations selection chat "
    "choosing_draws endpoint",
)
"""What decides a language model's answers, whatever they are: not how patiently it is asked."""
POOL = _keys("retrieval", "candidates fill_cards")
"""What decides the pools that translations are found in."""

_ENCODER, _TEXT = "the adapted encoder", "the text's characters"
_FROZEN = "the frozen encoder's mean-pooled states"
_STATES = "the adapted encoder's mean-pooled states"
_WRITER = "the adapted encoder-decoder"
_LM = "a causal language model"
_FITTED = ("rivals.regularization", "rivals.folds")
_FULL = _keys("rivals", "full_steps full_learning_rates full_batch_size")
_CHOSEN = (*JUDGED, "adaptation.metric")
_PAIR_START = (ADAPTER, RECORD)
_PRODUCT = (ADAPTER, HEAD, RECORD, COMPANION_WEIGHTS)

_TUNED: Mapping[str, Inputs] = {
    CLASSIFICATION: Inputs(_ENCODER, (*ADAPTED, "rivals.folds"), (ADAPTER, HEAD)),
    RETRIEVAL: Inputs(_STATES, (*POOL, *ADAPTED), _PAIR_START),
    GENERATION: Inputs(_WRITER, ("model.num_beams", *ADAPTED), _PAIR_START),
}


def _labels(reads: str, *settings: str) -> Mapping[str, Inputs]:
    return {CLASSIFICATION: Inputs(reads, settings)}


METHODS: Mapping[str, MethodRow] = {
    "start": MethodRow(
        "a start, fine-tuned", "ours", _TUNED, choose_start, build_start, folder=True
    ),
    "joint": MethodRow(
        "joint training, then fine-tuning", "rival", _TUNED, choose_start, build_start, folder=True
    ),
    "adapt": MethodRow(
        "a start as `nlp-meta adapt` adapts it, without n-grams",
        "ours",
        {
            CLASSIFICATION: Inputs(_ENCODER, (), _PRODUCT),
            RETRIEVAL: Inputs(_STATES, POOL, _PAIR_START),
        },
        no_choice,
        build_adapt,
        folder=True,
    ),
    "hybrid": MethodRow(
        "a start as `nlp-meta adapt` adapts it, with n-grams",
        "ours",
        {
            CLASSIFICATION: Inputs(f"{_ENCODER} and {_TEXT}", (), _PRODUCT),
            RETRIEVAL: Inputs(f"{_STATES} and {_TEXT}", POOL, _PAIR_START),
        },
        no_choice,
        build_hybrid,
        folder=True,
    ),
    "lora": MethodRow(
        "plain LoRA",
        "rival",
        {
            CLASSIFICATION: Inputs(_ENCODER, ("model", *ADAPTED, "rivals.folds")),
            RETRIEVAL: Inputs(_STATES, (*POOL, "model", *ADAPTED)),
            GENERATION: Inputs(_WRITER, ("model", *ADAPTED)),
        },
        choose_lora,
        build_lora,
    ),
    "full": MethodRow(
        "full fine-tuning",
        "rival",
        _labels(_ENCODER, "model", *_CHOSEN, *_FULL),
        choose_full,
        build_full,
    ),
    "linear_probe": MethodRow(
        "linear probe", "rival", _labels(_FROZEN, "model", *_FITTED), no_choice, build_probe
    ),
    "prototypes": MethodRow(
        "prototypes",
        "rival",
        _labels(_FROZEN, "model", "rivals.scalings", "rivals.temperatures"),
        no_choice,
        build_prototypes,
    ),
    "memory": MethodRow(
        "memory of the support set",
        "rival",
        _labels(_FROZEN, "model", "rivals.temperatures"),
        no_choice,
        build_memory,
    ),
    "ngrams": MethodRow(
        "TF-IDF of character n-grams", "rival", _labels(_TEXT, *_FITTED), no_choice, build_ngrams
    ),
    "setfit": MethodRow(
        "SetFit",
        "rival",
        _labels(_ENCODER, "model", "rivals.setfit_pairs"),
        no_choice,
        build_setfit,
    ),
    "setfit_paper": MethodRow(
        "SetFit with its authors' settings",
        "rival",
        _labels(_ENCODER, "model"),
        no_choice,
        build_paper_setfit,
        costly=True,
    ),
    READY: MethodRow(
        "a ready model",
        "rival",
        _labels("a model of text classification"),
        no_choice,
        build_ready,
        model=True,
    ),
    "frozen_retrieval": MethodRow(
        "the frozen encoder",
        "rival",
        {RETRIEVAL: Inputs(_FROZEN, (*POOL, "model"))},
        no_choice,
        build_pretrained,
    ),
    "ngram_overlap": MethodRow(
        "overlap of character n-grams",
        "rival",
        {RETRIEVAL: Inputs(_TEXT, (*POOL, "retrieval.ngrams"))},
        no_choice,
        build_overlap,
    ),
    "zero_pairs": MethodRow(
        "the encoder-decoder as it is",
        "rival",
        {GENERATION: Inputs("the frozen encoder-decoder", ("model",))},
        no_choice,
        build_pretrained,
    ),
    "copied_source": MethodRow(
        "the source as it is",
        "rival",
        {GENERATION: Inputs("the source's characters")},
        no_choice,
        build_copied,
    ),
    "prompting": MethodRow(
        "in-context prompting",
        "rival",
        {
            CLASSIFICATION: Inputs(
                _LM, (*ASKED, *_keys("prompting", "templates scorings"), *_CHOSEN)
            ),
            GENERATION: Inputs(_LM, (*ASKED, "translation_prompting", *JUDGED)),
        },
        choose_prompting,
        build_prompting,
    ),
}


def methods_of(skill: str) -> dict[str, MethodRow]:
    """The methods that have a skill, by name."""
    return {name: row for name, row in METHODS.items() if skill in row.skills}


def find_method(text: str, skill: str) -> tuple[MethodRow, str]:
    """Read a method's line in the config: its row and what follows the name.

    Raises:
        SettingsError: No method of that name has the skill, or its folder is missing or one
            too much.
    """
    table = methods_of(skill)
    name, _, argument = text.partition(" ")
    if name not in table:
        raise SettingsError(
            f"cannot compare the method '{text}': one of {', '.join(table)} is needed; change "
            "`comparison.methods`"
        )
    row = table[name]
    if (row.folder or row.model) != bool(argument):
        wanted = "the folder of a start behind it" if row.folder else "nothing behind it"
        wanted = "the name of a model behind it" if row.model else wanted
        raise SettingsError(
            f"cannot compare the method '{text}': '{name}' and {wanted} are needed; change "
            "`comparison.methods`"
        )
    return row, argument


def group_of(plan: ComparisonSettings, name: str, row: MethodRow, argument: str) -> str:
    """A joint start that is adapted just as ours is, with n-grams or without, is its rival."""
    ours = "" if plan.ours is None else plan.methods[plan.ours]
    way, _, start = ours.partition(" ")
    alike = row.folder and plan.methods[name] == f"{way} {argument}" and argument != start
    if alike and trained_by(find_model(argument)[1].provenance) == "joint":
        return "rival"
    return row.group
