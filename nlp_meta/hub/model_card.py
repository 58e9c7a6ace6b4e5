"""Model cards: front matter that the Hub understands, and sections from what was measured.

A card ends with a hash of itself. Whoever edits it by hand breaks the hash, and from then on
it is theirs: it is checked, and never written over.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import (
    EvalResult,
    EvalResultEntry,
    ModelCardData,
    eval_result_entries_to_yaml,
)

from nlp_meta import __version__
from nlp_meta.data.languages import list_languages
from nlp_meta.data.schema import read_yaml
from nlp_meta.errors import HubError
from nlp_meta.escapes import escape_markdown_code
from nlp_meta.hub.card_sections import CardFacts, Results, build_sections, support_unit
from nlp_meta.hub.data_cards import is_unstated, strictest

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
    """Entries of `model-index`: ours on each task, at the most labels.

    Args:
        task: The Hub's word for what the model does.
    """
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
    name = Path(str(facts.record["model"]["model_name_or_path"])).name
    return f"For the base model {escape_markdown_code(name)} that its `adapter_config.json` names."


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
