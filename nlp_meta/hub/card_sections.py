"""The sections of a model card, each from what was measured or recorded.

What was not measured is said in a plain sentence. Nothing here is guessed and nothing is
left to be filled in. Names and labels are data: `nlp_meta/escapes.py` writes them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from nlp_meta.escapes import escape_markdown, escape_markdown_code
from nlp_meta.hub.bases import BaseFacts
from nlp_meta.hub.data_cards import is_non_commercial, is_unstated, strictest

_NAME, _CELL = 100, 300
"""Signs of a label, and of a cell or a name in a list, that a card shows."""

Results = Mapping[str, Any]
"""The `results.json` of a comparison."""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """Everything that a card tells.

    Attributes:
        record: What is saved beside the adapter, as JSON.
        companion: Character n-grams lie beside the adapter.
        repo_id: Where it is pushed to; None for a card in a folder.
        base: None where the base has no place on the Hub, or none that is known.
        results: Of a comparison that judged this model.
        carbon_grams: Measured by CodeCarbon; None where nothing was.
    """

    record: Mapping[str, Any]
    companion: bool
    repo_id: str | None = None
    base: BaseFacts | None = None
    results: Results | None = None
    carbon_grams: float | None = None

    @property
    def role(self) -> str:
        """`start`, or `adapted` to one domain or language pair."""
        return str(self.record["role"])

    @property
    def skill(self) -> str:
        """The skill that its card speaks of: the first of several."""
        return str(self.record["skills"][0])

    @property
    def provenance(self) -> Mapping[str, Any]:
        """How it was meta-trained; an adapted model has that of its start."""
        return self.record.get("provenance") or {}

    @property
    def data(self) -> Sequence[Mapping[str, Any]]:
        """What is known of the corpora of its meta-training."""
        return self.provenance.get("data") or []

    @property
    def trained_on(self) -> list[Mapping[str, Any]]:
        """Corpora of which some task was trained on or chosen by."""
        return [card for card in self.data if any(t["use"] != "unseen" for t in card["tasks"])]

    @property
    def licenses(self) -> list[str]:
        """License ids of the corpora that were trained on and of the base."""
        ids = [card["license"] for card in self.trained_on]
        return ids if self.base is None else [*ids, self.base.license or "unknown"]


def build_sections(facts: CardFacts) -> dict[str, str]:
    """Write all sections, by their titles."""
    return {
        "How to use it": _usage(facts),
        "What it was trained on": _training(facts),
        "Adaptation": _adaptation(facts),
        "How it was selected": _selection(facts),
        "Scores, beside every rival": _scores(facts.results),
        "Calibration": _calibration(facts),
        "Leaks": _leaks(facts),
        "Licenses": _licenses(facts),
        "What it cost": _cost(facts),
        "What it must not be used for": _limits(facts),
    }


def license_sentences(facts: CardFacts) -> Iterator[str]:
    """What whoever uses the model has to know; the push says the same."""
    strict = strictest(facts.licenses)
    if strict is not None:
        yield f"The strictest license stated among them is {escape_markdown(strict, inside=True)}."
        if is_non_commercial(strict):
            yield "It forbids commercial use: use this model for non-commercial purposes only."
    if any(map(is_unstated, facts.licenses)):
        yield "Some state no license, so nothing is granted for them: ask their owners."


def _usage(facts: CardFacts) -> str:
    """Lines of code with this package and without; `usage.md.j2` has those of each role."""
    record = facts.record
    direction = record["adaptation"].get("direction") or {}
    source = resources.files(__package__).joinpath("usage.md.j2").read_text(encoding="utf-8")
    # Markdown of code: nothing is escaped.
    environment = Environment(undefined=StrictUndefined, trim_blocks=True)  # noqa: S701
    environment.filters["literal"] = _literal
    return environment.from_string(source).render(
        role=facts.role,
        skill=facts.skill,
        name="folder" if facts.repo_id is None else _literal(facts.repo_id),
        model=record["model"],
        labels=record["labels"],
        names=_names(record["labels"]),
        direction={"source": None, **direction},
        prefix=direction.get("prefix_text") or record["model"].get("prefix_text"),
        companion=facts.companion,
    )


def _names(labels: Sequence[str]) -> str:
    """Write labels by their place as one line of Python, whatever characters they hold."""
    return "{" + ", ".join(f"{place}: {_literal(name)}" for place, name in enumerate(labels)) + "}"


def _literal(text: str) -> str:
    """Write a text as one of Python, in one line."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _training(facts: CardFacts) -> str:
    """Tasks, languages and hold-outs."""
    source = facts.provenance
    if not source.get("meta_train"):
        return "The record of this model does not say what it was meta-trained on."
    names = {"meta_train": "meta-train", "meta_validation": "meta-validation", "unseen": "unseen"}
    rows = []
    for card in facts.data:
        for use, shown in names.items():
            tasks = [task for task in card["tasks"] if task["use"] == use]
            if tasks:
                short = ", ".join(task["name"].split("/", 1)[-1] for task in tasks)
                languages = ", ".join(dict.fromkeys(task["language"] for task in tasks))
                values = (card["pretty_name"], card["license"], shown, short, languages)
                rows.append([escape_markdown(value, most=_CELL) for value in values])
    text = (
        f"Meta-trained on {_list_names(source['meta_train'])}. Its defaults were chosen on "
        f"{_list_names(source.get('meta_validation') or [])}."
    )
    if not rows:
        return text
    table = _markdown_table(["corpus", "license", "use", "tasks", "languages"], rows)
    unseen = "Tasks called unseen are held out: nothing of them was trained on or chosen by."
    return f"{text}\n\n{table}\n\n{unseen}"


def _adaptation(facts: CardFacts) -> str:
    """What the adaptation to a domain did; for a start, the defaults it was found to need."""
    done = facts.record["adaptation"]
    names = ", ".join(
        escape_markdown(name, inside=True, most=_NAME) for name in facts.record["labels"]
    )
    labels = f"Labels: {names}. " if names else ""
    if facts.role == "start":
        defaults = "; ".join(f"{skill}: {_list_values(how)}" for skill, how in done.items())
        return f"{labels}Defaults of adaptation: {defaults}."
    start = facts.provenance.get("meta_model") or {}
    origin = "a meta-model of its owner's"
    if start.get("name"):
        name, commit = map(escape_markdown_code, (str(start["name"]), str(start["commit"])))
        origin = f"{name} at commit {commit}"
    if "examples_cut" in done:
        how = (
            f" to {done['examples']} labeled texts of its owner's in {done['steps']} steps at "
            f"learning rate {done['learning_rate']:g}; {done['examples_cut']} texts were cut to "
            "the length that the encoder takes"
        )
    else:
        how = f": {_list_values(done) or 'no more is recorded'}"
    return (
        f"{labels}Adapted from {origin}{how}. The texts are not part of this repository, and their "
        "license is not known to this card."
    )


def _selection(facts: CardFacts) -> str:
    """Metric, scores on meta-validation, seed."""
    source, done = facts.provenance, facts.record["adaptation"]
    metric = ((source.get("settings") or {}).get("adaptation") or {}).get("metric")
    sentences = []
    if metric:
        shown = escape_markdown(str(metric), inside=True)
        sentences.append(f"Selection metric: {shown} on the meta-validation tasks.")
    if source.get("best_score") is not None:
        sentences.append(
            f"Best score {source['best_score']:.3f} after outer step {source['best_step']} of "
            f"{source['outer_steps']}."
        )
    if source.get("seed") is not None:
        sentences.append(f"Seed {source['seed']}, one run.")
    if source.get("unfinished"):
        sentences.append("This is a draft: its meta-training had not ended when it was pushed.")
    if done.get("held_out_accuracy") is not None and "examples" in done:
        sentences.append(
            f"Accuracy {done['held_out_accuracy']:.3f} [{done['held_out_low']:.3f}, "
            f"{done['held_out_high']:.3f}] on held-out folds of the {done['examples']} texts, "
            f"{done['different_texts']} of them different, that it was adapted to."
        )
    return " ".join(sentences) or "How it was selected was not recorded."


def support_unit(results: Results) -> str:
    """What the sizes of the support sets count, by the main metric."""
    return "labels" if results["metric"] in ("accuracy", "macro_f1") else "pairs"


def _scores(results: Results | None) -> str:
    """This model beside every rival at every size of support set, ours first, with intervals."""
    if results is None:
        return "It was not compared with other methods on test tasks: not measured."
    ours, metric, budgets = results["ours"], results["metric"], results["labels"]
    cells = {
        (row["method"], row["labels"]): _say_score(row)
        for row in results["summary"]
        if row["metric"] == metric
    }
    rows = []
    for name in sorted(results["methods"], key=lambda name: name != ours):
        title = escape_markdown(results["methods"][name].get("title", name), most=_CELL)
        title = f"**{title}** (this model)" if name == ours else title
        rows.append([title, *(cells.get((name, count), "-") for count in budgets)])
    unit = support_unit(results)
    table = _markdown_table(["method", *(f"{count} {unit}" for count in budgets)], rows)
    tasks = ", ".join(
        escape_markdown(task["name"], inside=True, most=_CELL) for task in results.get("tasks", [])
    )
    notes = escape_markdown(" ".join(results.get("notes", [])))
    hardware = escape_markdown(results.get("hardware", "unnamed hardware"), inside=True)
    return (
        f"{metric}, mean and 95% interval over {results['draws']} support draws of {tasks}; "
        f"measured {escape_markdown(results['made'], inside=True)} on {hardware}.\n\n"
        f"{table}\n\n{notes}"
    )


def _calibration(facts: CardFacts) -> str:
    """Calibration error, and the temperature that an adaptation fitted."""
    sentences = []
    if facts.results is not None:
        errors = [
            f"{_say_score(row)} at {row['labels']} labels"
            for row in facts.results["summary"]
            if row["method"] == facts.results["ours"] and row["metric"] == "ece"
        ]
        if errors:
            sentences.append(f"Expected calibration error: {', '.join(errors)}.")
    temperature = facts.record["adaptation"].get("temperature")
    if temperature is not None:
        sentences.append(f"Temperature {temperature:.3f}, fitted on held-out folds and folded in.")
    return " ".join(sentences) or "Its calibration was not measured."


def _leaks(facts: CardFacts) -> str:
    """What was searched for and found; or what was done without a search."""
    if facts.results is None:
        unsearched = (
            "Near-duplicates between its training texts and any test set were not searched for: "
            "not measured."
        )
        if not facts.provenance.get("meta_train"):
            return unsearched
        return (
            f"{unsearched} Meta-train rows equal, up to case and punctuation, to a row that a task "
            "of the same corpora is judged on are left out of training by the loader."
        )
    leaks = facts.results["leaks"]
    checked = leaks["checked"]
    counts = ", ".join(f"{where} {count}" for where, count in leaks["found"].items())
    excluded = sum(count for parts in leaks["excluded"].values() for count in parts.values())
    return (
        f"Texts at least {leaks['threshold']} similar were searched for between "
        f"{checked['meta_train_rows']:,} meta-train rows, {checked['judged_train_rows']:,} rows "
        f"that support sets are drawn from and {checked['judged_test_rows']:,} test rows. Found: "
        f"{counts}. Rows left out for it: {excluded}."
    )


def _licenses(facts: CardFacts) -> str:
    """Licenses of data and base, the strictest named; what follows from it."""
    lines = [
        f"- {escape_markdown(card['pretty_name'], most=_CELL)}: {escape_markdown(card['license'])}"
        for card in facts.trained_on
    ]
    if facts.base is not None:
        name, license_id = escape_markdown_code(facts.base.id), facts.base.license or "not stated"
        lines.append(f"- base model {name}: {escape_markdown(license_id, inside=True)}")
    if not lines:
        return "The licenses of its training data are not recorded."
    return "\n".join([*lines, "", *license_sentences(facts)])


def _cost(facts: CardFacts) -> str:
    """Time and carbon."""
    source, text = facts.provenance, "The time of meta-training was not measured."
    if source.get("seconds") is not None:
        hardware = source.get("hardware") or "hardware that was not recorded"
        hardware = escape_markdown(str(hardware), inside=True)
        went_on = source.get("init_from") is not None
        begun = ", without that of the start it went on from" if went_on else ""
        text = f"Meta-training took {_say_duration(source['seconds'])} on {hardware}{begun}."
    seconds = facts.record["adaptation"].get("seconds")
    if seconds is not None:
        text += f" Its adaptation took {_say_duration(seconds)}."
    if facts.carbon_grams is None:
        return f"{text} Carbon emissions were not measured."
    return f"{text} Carbon emissions, by CodeCarbon: {facts.carbon_grams:.1f} g CO2eq."


def _limits(facts: CardFacts) -> str:
    """What it must not be used for."""
    lines = [
        "- Decisions about people: hiring, credit, insurance, medicine, law.",
        "- Texts of other languages or domains than it was adapted to, without a test set of them.",
        "- Labels that it has not learned: it answers with one of its own, however unsure.",
    ]
    if any(map(is_non_commercial, facts.licenses)):
        lines.append("- Commercial use, which a license of its training data forbids.")
    return "\n".join(lines)


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of a table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _say_score(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _say_duration(seconds: float) -> str:
    return f"{seconds:.1f} seconds" if seconds < 120 else f"{seconds / 60:.1f} minutes"


def _list_names(names: Sequence[str]) -> str:
    return ", ".join(escape_markdown_code(name, most=_CELL) for name in names) or "no task"


def _list_values(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{escape_markdown(name, inside=True)} ({_list_values(value)})"
        if isinstance(value, Mapping)
        else escape_markdown(f"{name} {value}", inside=True, most=_CELL)
        for name, value in values.items()
    )
