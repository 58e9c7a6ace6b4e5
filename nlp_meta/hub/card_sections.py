"""The sections of a model card, each from what was measured or recorded.

What was not measured is said in a plain sentence. Nothing here is guessed and nothing is
left to be filled in.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_meta.hub.data_facts import is_non_commercial, is_unknown, strictest
from nlp_meta.hub.scores import (
    Results,
    calibration_sentence,
    leaks_sentence,
    markdown_table,
    scores_table,
)

ADAPTED = ("adapted-model", "alignment-model", "translation-model")
"""Kinds that were adapted to one domain or language pair; the others are starts."""


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """The base model on the Hub.

    Attributes:
        revision: The commit that the adapter is for.
        license: As its own card says; None where it says none.
    """

    id: str
    revision: str
    license: str | None


@dataclass(frozen=True, slots=True)
class CardFacts:
    """Everything that a card tells.

    Attributes:
        record: What is saved beside the adapter, as JSON.
        data: What is known of the corpora of its meta-training.
        companion: Character n-grams lie beside the adapter.
        repo_id: Where it is pushed to; None for a card in a folder.
        base: None where the base has no place on the Hub, or none that is known.
        results: Of a comparison that judged this model.
        carbon_grams: Measured by CodeCarbon; None where nothing was.
    """

    record: Mapping[str, Any]
    data: Sequence[Mapping[str, Any]]
    companion: bool
    repo_id: str | None = None
    base: BaseFacts | None = None
    results: Results | None = None
    carbon_grams: float | None = None

    @property
    def provenance(self) -> Mapping[str, Any]:
        """How it was meta-trained; an adapted model has that of its start."""
        return self.record.get("provenance") or {}

    @property
    def trained_on(self) -> list[Mapping[str, Any]]:
        """Corpora of which some task was trained on or chosen by."""
        return [one for one in self.data if any(task["use"] != "unseen" for task in one["tasks"])]


def training_section(facts: CardFacts) -> str:
    """Tasks, languages and hold-outs."""
    source = facts.provenance
    if not source.get("meta_train"):
        return "The record of this model does not say what it was meta-trained on."
    used = {"meta_train": "meta-train", "meta_validation": "meta-validation", "unseen": "unseen"}
    rows = [["corpus", "licence", "use", "tasks", "languages"], ["---"] * 5]
    for card in facts.data:
        for use, shown in used.items():
            tasks = [task for task in card["tasks"] if task["use"] == use]
            if tasks:
                names = ", ".join(task["name"].split("/", 1)[-1] for task in tasks)
                languages = ", ".join(dict.fromkeys(task["language"] for task in tasks))
                rows.append([card["pretty_name"], card["license"], shown, names, languages])
    named = f"Meta-trained on {_listed(source['meta_train'])}."
    chosen = f"Its defaults were chosen on {_listed(source.get('meta_validation') or [])}."
    unseen = "Tasks called unseen are held out: nothing of them was trained on or chosen by."
    table = f"\n\n{markdown_table(rows)}\n\n{unseen}" if len(rows) > 2 else ""
    return f"{named} {chosen}{table}"


def adaptation_section(facts: CardFacts) -> str:
    """What the adaptation to a domain did; for a meta-model, the defaults it was found to need."""
    done = facts.record["adaptation"]
    labels = f"Labels: {', '.join(facts.record['labels'])}. " if facts.record["labels"] else ""
    if facts.record["kind"] not in ADAPTED:
        return f"{labels}Defaults of adaptation: {_pairs(done)}."
    start = facts.provenance.get("meta_model") or {}
    from_where = (
        f"`{start['name']}` at commit `{start['commit']}`"
        if start.get("name")
        else "a meta-model of its owner's"
    )
    owned = (
        "The texts are not part of this repository, and their licence is not known to this card."
    )
    if "examples_cut" not in done:
        return (
            f"{labels}Adapted from {from_where}: {_pairs(done) or 'no more is recorded'}. {owned}"
        )
    return (
        f"{labels}Adapted from {from_where} to {done['examples']} labeled texts of its owner's in "
        f"{done['steps']} steps at learning rate {done['learning_rate']:g}; {done['examples_cut']} "
        f"texts were cut to the length that the encoder takes. {owned}"
    )


def selection_section(facts: CardFacts) -> str:
    """Metric, scores on meta-validation, seed."""
    source = facts.provenance
    adaptation = (source.get("settings") or {}).get("adaptation") or {}
    said = []
    if adaptation.get("metric"):
        said.append(f"Selection metric: {adaptation['metric']} on the meta-validation tasks.")
    if source.get("best_score") is not None:
        said.append(
            f"Best score {source['best_score']:.3f} after outer step {source['best_step']} of "
            f"{source['outer_steps']}."
        )
    if source.get("seed") is not None:
        said.append(f"Seed {source['seed']}, one run.")
    if source.get("unfinished"):
        said.append("This is a draft: its meta-training had not ended when it was pushed.")
    done = facts.record["adaptation"]
    if done.get("held_out_accuracy") is not None and "examples" in done:
        said.append(
            f"Accuracy {done['held_out_accuracy']:.3f} on held-out folds of the {done['examples']} "
            "texts that it was adapted to; no interval was measured."
        )
    return " ".join(said) or "How it was selected was not recorded."


def scores_section(facts: CardFacts) -> str:
    """This model beside every rival, with intervals."""
    if facts.results is None:
        return "It was not compared with other methods on test tasks: not measured."
    results = facts.results
    tasks = ", ".join(one["name"] for one in results.get("tasks", []))
    notes = " ".join(results.get("notes", []))
    return (
        f"{results['metric']}, mean and 95% interval over {results['draws']} support draws of "
        f"{tasks}; measured {results['made']} on {results.get('hardware', 'unnamed hardware')}.\n\n"
        f"{scores_table(results)}\n\n{notes}"
    ).strip()


def calibration_section(facts: CardFacts) -> str:
    """Calibration error, and the temperature that an adaptation fitted."""
    said = [calibration_sentence(facts.results) if facts.results else None]
    temperature = facts.record["adaptation"].get("temperature")
    if temperature is not None:
        said.append(f"Temperature {temperature:.3f}, fitted on held-out folds and folded in.")
    known = [one for one in said if one]
    return " ".join(known) or "Its calibration was not measured."


def leaks_section(facts: CardFacts) -> str:
    """What was searched for; or what was done without a search."""
    if facts.results is not None:
        return leaks_sentence(facts.results)
    said = (
        "Near-duplicates between its training texts and any test set were not searched for: not "
        "measured."
    )
    if not facts.provenance.get("meta_train"):
        return said
    return (
        f"{said} Meta-train rows equal, up to case and punctuation, to a row that a task of the "
        "same corpora is judged on are left out of training by the loader."
    )


def licences_section(facts: CardFacts) -> str:
    """Licences of data and base, the strictest named; what follows from it."""
    found = [f"- {one['pretty_name']}: {one['license']}" for one in facts.trained_on]
    if facts.base is not None:
        found.append(f"- base model `{facts.base.id}`: {facts.base.license or 'not stated'}")
    if not found:
        return "The licences of its training data are not recorded."
    return "\n".join([*found, "", *license_sentences(facts)])


def license_sentences(facts: CardFacts) -> Iterator[str]:
    """What whoever uses the model has to know; the push says the same."""
    licenses = list(licenses_of(facts))
    strict = strictest(licenses)
    if strict is not None:
        yield f"The strictest licence stated among them is {strict}."
    if strict is not None and is_non_commercial(strict):
        yield "It forbids commercial use: use this model for non-commercial purposes only."
    if any(is_unknown(one) for one in licenses):
        yield "Some state no licence, so nothing is granted for them: ask their owners."


def licenses_of(facts: CardFacts) -> Iterator[str]:
    """Licence ids of the corpora that were trained on and of the base."""
    yield from (one["license"] for one in facts.trained_on)
    if facts.base is not None:
        yield facts.base.license or "unknown"


def cost_section(facts: CardFacts) -> str:
    """Time and carbon."""
    seconds = facts.provenance.get("seconds")
    hardware = facts.provenance.get("hardware") or "hardware that was not recorded"
    begun = ", without that of the start it went on from" if _went_on(facts) else ""
    time = (
        f"Meta-training took {_duration(seconds)} on {hardware}{begun}."
        if seconds is not None
        else "The time of meta-training was not measured."
    )
    own = facts.record["adaptation"].get("seconds")
    adapted = f" Its adaptation took {_duration(own)}." if own is not None else ""
    if facts.carbon_grams is None:
        return f"{time}{adapted} Carbon emissions were not measured."
    return f"{time}{adapted} Carbon emissions, by CodeCarbon: {facts.carbon_grams:.1f} g CO2eq."


def limits_section(facts: CardFacts) -> str:
    """What it must not be used for."""
    lines = [
        "- Decisions about people: hiring, credit, insurance, medicine, law.",
        "- Texts of other languages or domains than it was adapted to, without a test set of them.",
        "- Labels that it has not learned: it answers with one of its own, however unsure.",
    ]
    if any(is_non_commercial(one) for one in licenses_of(facts)):
        lines.append("- Commercial use, which a licence of its training data forbids.")
    return "\n".join(lines)


def _went_on(facts: CardFacts) -> bool:
    return facts.provenance.get("init_from") is not None


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} seconds" if seconds < 120 else f"{seconds / 60:.1f} minutes"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "no task"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} ({_pairs(value)})" if isinstance(value, Mapping) else f"{name} {value}"
        for name, value in values.items()
    )
