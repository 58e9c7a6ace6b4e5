"""Model cards: front matter that the Hub understands, and sections from what was measured.

What was not measured is said in a plain sentence. Nothing here is guessed and nothing is left to
be filled in. Names and labels are data: `nlp_meta/escapes.py` writes them.

A card ends with a hash of itself. Whoever edits it by hand breaks the hash, and from then on
it is theirs: it is checked, and never written over.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml
from jinja2 import Environment, StrictUndefined

from nlp_meta import __version__
from nlp_meta.data.languages import list_languages
from nlp_meta.data.schema import read_yaml
from nlp_meta.errors import HubError
from nlp_meta.escapes import escape_markdown, escape_markdown_code
from nlp_meta.hub.bases import BaseFacts, hub_name, public_name
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
        base=_folder_of_base(facts),
        model=record["model"],
        labels=record["labels"],
        names=_names(record["labels"]),
        direction={"source": None, **direction},
        prefix=direction.get("prefix_text") or record["model"].get("prefix_text"),
        companion=facts.companion,
    )


def _folder_of_base(facts: CardFacts) -> str | None:
    """The name of a base's folder, as Markdown; None of a base that is known on the Hub."""
    base = str(facts.record["model"]["model_name_or_path"])
    known = facts.base is not None or hub_name(base) is not None
    return None if known else escape_markdown_code(public_name(base))


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
    origin = "a start on its owner's machine"
    if start.get("name"):
        name, commit = map(escape_markdown_code, (str(start["name"]), str(start["commit"])))
        origin = f"{name} at commit {commit}"
    if "examples_cut" in done:
        steps = f"in {done['steps']} steps at learning rate {done['learning_rate']:g}"
        head = "by a head over its features and n-grams, trusted as other tasks taught"
        way = steps if not done.get("by_views") else head
        if done.get("by_views") and done["steps"]:
            way = f"{head}, and behind it {steps}"
        how = (
            f" to {done['examples']} labeled texts of its owner's {way}; {done['examples_cut']} "
            "texts were cut to the length that the encoder takes"
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
    done = facts.record["adaptation"]
    temperature = done.get("temperature")
    if done.get("by_views") and not done["steps"]:
        sentences.append("How sure its answers are was learned on other tasks.")
    elif temperature is not None:
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


_PIPELINES = {
    "classification": "text-classification",
    "retrieval": "sentence-similarity",
    "generation": "translation",
}
"""The Hub's words for what models do, by skill."""
_TITLES = {
    ("start", "classification"): "A meta-learned start for LoRA adapters",
    ("start", "retrieval"): "A meta-learned start for LoRA adapters that find translations",
    ("start", "generation"): "A meta-learned start for LoRA adapters that write translations",
    ("adapted", "classification"): "A LoRA adapter adapted to one domain",
    ("adapted", "retrieval"): "A LoRA adapter that finds translations in one language pair",
    ("adapted", "generation"): "A LoRA adapter that translates one language pair",
}
EVAL_FOLDER = ".eval_results"
_HUB_METRICS = {"macro_f1": "f1"}
"""Names on the Hub of metrics that are called otherwise here."""
_RESULTS_FORMAT = 1
_RESULTS_KEYS = set("metric labels draws ours methods summary by_task leaks made".split())
_SEAL = re.compile(r"\n<!-- written by nlp-meta, sha256 ([0-9a-f]{64}) -->\n?$")
_FENCE = "---\n"


def build_card(facts: CardFacts) -> str:
    """Write the card of a model."""
    sections = build_sections(facts).items()
    body = "\n\n".join(f"## {title}\n\n{text.strip()}" for title, text in sections)
    title, about = _TITLES[facts.role, facts.skill], f"Written by nlp-meta {__version__}."
    text = (
        f"{_FENCE}{_front_matter(facts)}{_FENCE}\n# {title}\n\n{_about_base(facts)} {about}\n\n"
        f"{body}\n"
    )
    return f"{text}\n<!-- written by nlp-meta, sha256 {_hash(text)} -->\n"


def write_eval_results(folder: Path, facts: CardFacts) -> tuple[str, ...]:
    """Write the files of `.eval_results` below a folder; their paths in the repository."""
    if facts.results is None:
        return ()
    written = []
    for card, entries in eval_entries(facts.results, facts.data).items():
        path = folder / EVAL_FOLDER / f"{card}.yaml"
        path.parent.mkdir(exist_ok=True)
        text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
        path.write_text(text, encoding="utf-8")
        written.append(f"{EVAL_FOLDER}/{path.name}")
    return tuple(written)


def is_own(text: str) -> bool:
    """Whether a card is as this package wrote it."""
    sealed = _SEAL.search(text)
    return sealed is not None and _hash(text[: sealed.start()]) == sealed[1]


def check_card(path: Path) -> Mapping[str, Any]:
    """Read the front matter of a card that was edited by hand.

    Raises:
        HubError: The Hub would not understand it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if not text.startswith(_FENCE):
            raise ValueError("there is no front matter")
        block, fence, _ = text[len(_FENCE) :].partition(f"\n{_FENCE}")
        values = read_yaml(f"\n{block}")  # its lines are those of the file
        if not isinstance(values, dict) or not fence:
            raise ValueError("the front matter is no mapping between two lines ---")
        ModelCardData(**{str(key): value for key, value in values.items()})
        _check_types(values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise HubError(
            f"cannot push the card '{path.name}' ({' '.join(str(error).split())}): it was edited "
            "by hand, and YAML between two lines `---` with the Hub's keys is needed; correct it, "
            "or delete it to have it written anew"
        ) from error
    return values


def read_results(path: Path, *, adapter_sha256: str | None) -> Results:
    """Read the results of a comparison that judged this model; what is called ours is then it.

    Args:
        adapter_sha256: Hash of its adapter; of an adapted model, of that of its start.

    Raises:
        HubError: It is no comparison, or one of other models.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        if results["format"] != _RESULTS_FORMAT or not results.keys() >= _RESULTS_KEYS:
            raise ValueError("another format")
        methods = {n: facts for n, facts in results["methods"].items() if not facts.get("skipped")}
        judged = [n for n, facts in methods.items() if facts.get("start_sha256") == adapter_sha256]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise HubError(
            f"cannot put the scores of '{path}' into the card: it is not the results.json of a "
            "comparison, and such a file is needed; give the one that `nlp-meta compare` or "
            "recipes/compare.py left, or leave out `results`"
        ) from error
    if not judged or adapter_sha256 is None:
        starts = ", ".join(str(facts["start"]) for facts in methods.values() if facts.get("start"))
        raise HubError(
            f"cannot put the scores of '{path}' into the card: they are of the starts "
            f"{starts or 'none'} and not of this one, and a comparison of this model is needed; "
            "correct `results`"
        )
    return {**results, "ours": results["ours"] if results["ours"] in judged else judged[0]}


def eval_entries(
    results: Results, data: Sequence[Mapping[str, Any]]
) -> dict[str, list[EvalResultEntry]]:
    """Entries of `.eval_results/*.yaml` by card: the main metric, for corpora on the Hub."""
    entries: dict[str, list[EvalResultEntry]] = {}
    unit = support_unit(results)
    for row, place in _list_scores(results, data):
        if place["hub"] is None or row["metric"] != results["metric"]:
            continue
        entries.setdefault(place["card"], []).append(
            EvalResultEntry(
                dataset_id=place["hub"]["id"],
                task_id=place["config"] or "default",
                value=row["mean"],
                dataset_revision=place["hub"]["revision"],
                date=results["made"],
                notes=f"{row['metric']} of {row['task']} at {row['labels']} {unit}, mean of "
                f"{results['draws']} support draws",
            )
        )
    return entries


def _eval_results(
    results: Results, data: Sequence[Mapping[str, Any]], *, task: str
) -> list[EvalResult]:
    """Entries of `model-index` for a task of the Hub: ours on each of ours, at the most labels."""
    return [
        EvalResult(
            task_type=task,
            dataset_type=place["hub"]["id"] if place["hub"] else place["card"],
            dataset_name=f"{place['pretty_name']}, task {row['task']}",
            dataset_config=place["config"] or row["task"].split("/", 1)[-1],
            dataset_split="test",
            dataset_revision=place["hub"]["revision"] if place["hub"] else None,
            metric_type=_HUB_METRICS.get(row["metric"], row["metric"]),
            metric_name=f"{row['metric']} at {row['labels']} {support_unit(results)}",
            metric_value=row["mean"],
        )
        for row, place in _list_scores(results, data)
        if row["metric"] in ("accuracy", results["metric"])
    ]


def _list_scores(
    results: Results, data: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Mean scores of ours at the most labels, each with what is known of its task."""
    places = {
        task["name"]: {**card, "config": task["config"]} for card in data for task in card["tasks"]
    }
    most = max(results["labels"])
    for row in results["by_task"]:
        if row["method"] == results["ours"] and row["labels"] == most:
            corpus = row["task"].split("/")[0]
            unknown = {"card": corpus, "pretty_name": corpus, "hub": None, "config": None}
            yield row, places.get(row["task"], unknown)


def _check_types(values: Mapping[str, Any]) -> None:
    for key in ("license", "library_name", "pipeline_tag"):
        if values.get(key) is not None and not isinstance(values[key], str):
            raise ValueError(f"`{key}` is {values[key]!r} and a text is needed there")
    for key in ("language", "tags", "datasets", "metrics", "base_model"):
        value = values.get(key) or []
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"`{key}` is {value!r} and a text or a list of texts is needed there")


def _front_matter(facts: CardFacts) -> str:
    # Where no comparison is given there is no score that could stand in the front matter.
    task = _PIPELINES[facts.skill]
    scores = _eval_results(facts.results, facts.data, task=task) if facts.results else None
    metrics = [facts.results["metric"], "accuracy"] if facts.results else []
    extra: dict[str, Any] = {}
    if facts.carbon_grams is not None:
        extra["co2_eq_emissions"] = {"emissions": facts.carbon_grams, "source": "codecarbon"}
    if facts.base is not None:
        extra["base_model_relation"] = "adapter"
    name = facts.repo_id.split("/")[-1] if facts.repo_id else "model"
    data = ModelCardData(
        base_model=None if facts.base is None else facts.base.id,
        library_name="peft",
        tags=["nlp-meta", facts.role, *facts.record["skills"], "meta-learning", "few-shot", "lora"],
        language=_unique(_languages(facts)) or None,
        license=_license(facts.licenses),
        datasets=_unique(card["hub"]["id"] for card in facts.trained_on if card["hub"]) or None,
        metrics=_unique(_HUB_METRICS.get(metric, metric) for metric in metrics) or None,
        pipeline_tag=task,
        model_name=name if scores else None,
        eval_results=scores or None,
        **extra,
    )
    return str(data.to_yaml()) + "\n"


def _license(licenses: Sequence[str]) -> str | None:
    """The strictest; `unknown` where that is attribution at most and some state none."""
    if not licenses:
        return None
    strict = strictest(licenses)
    restricts = strict is not None and any(part in strict for part in ("-nc", "-nd", "-sa", "gpl"))
    if strict is None or (not restricts and any(map(is_unstated, licenses))):
        return "unknown"
    return strict


def _languages(facts: CardFacts) -> Iterator[str]:
    for card in facts.trained_on:
        for task in card["tasks"]:
            if task["use"] != "unseen":
                yield from list_languages(task["language"])


def _about_base(facts: CardFacts) -> str:
    if facts.base is not None:
        name, commit = map(escape_markdown_code, (facts.base.id, facts.base.revision))
        return f"For the base model {name} at commit {commit}."
    name = public_name(str(facts.record["model"]["model_name_or_path"]))
    return f"For the base model {escape_markdown_code(name)} that its `adapter_config.json` names."


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
