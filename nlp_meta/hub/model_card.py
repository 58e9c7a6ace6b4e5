"""Model cards: front matter that the Hub understands, and sections from what was measured.

A card ends with a hash of itself. Whoever edits it by hand breaks the hash, and from then on
it is theirs: it is checked, and never written over.

How to use a saved model, with this package and without: the lines of its card.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData, eval_result_entries_to_yaml

from nlp_meta import __version__
from nlp_meta.data.languages import list_languages
from nlp_meta.errors import HubError
from nlp_meta.hub.card_sections import (
    CardFacts,
    adaptation_section,
    calibration_section,
    cost_section,
    leaks_section,
    licences_section,
    licenses_of,
    limits_section,
    scores_section,
    selection_section,
    training_section,
)
from nlp_meta.hub.data_facts import facts_of, is_unknown, strictest
from nlp_meta.hub.scores import HUB_METRICS, eval_entries, eval_results

NATIVE = """\
```python
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer

model = AutoPeftModelForSequenceClassification.from_pretrained({name}, num_labels={count}, \
dtype="float32").eval()
inputs = AutoTokenizer.from_pretrained({name})({texts}, padding=True, truncation=True, \
max_length={length}, return_tensors="pt")
probabilities = model(**inputs).logits.softmax(-1)  # {labels}
```
"""

MEAN = """\
```python
from peft import AutoPeftModelForFeatureExtraction
from safetensors.torch import load_file
from transformers import AutoTokenizer
{where}
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoPeftModelForFeatureExtraction.from_pretrained(folder, dtype="float32").eval()
head = load_file(folder + "/head.safetensors")
inputs = tokenizer({texts}, return_tensors="pt", padding=True, truncation=True, max_length={length})
states, mask = model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
pooled = (states * mask).sum(1) / mask.sum(1)
logits = pooled @ head["classifier.weight"].T + head["classifier.bias"]
probabilities = logits.softmax(-1)  # {labels}
```
"""

EMBEDDING = """\
```python
import torch
from peft import AutoPeftModelForFeatureExtraction
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({name})
model = AutoPeftModelForFeatureExtraction.from_pretrained({name}, dtype="float32").eval()
inputs = tokenizer({texts}, return_tensors="pt", padding=True, truncation=True, max_length={length})
states, mask = model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
pooled = (states * mask).sum(1) / mask.sum(1)
embeddings = torch.nn.functional.normalize(pooled, dim=-1)  # a product of two is their cosine
```
"""

TRANSLATION = """\
```python
import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({name}{chosen})
base = PeftConfig.from_pretrained({name}).base_model_name_or_path
model = AutoModelForSeq2SeqLM.from_pretrained(base, dtype=torch.float32)
model = PeftModel.from_pretrained(model, {name}).eval()
inputs = tokenizer({texts}, return_tensors="pt", padding=True, truncation=True, max_length={length})
written = model.generate(**inputs, num_beams={beams}, max_new_tokens={length}{begun})
translations = tokenizer.batch_decode(written, skip_special_tokens=True)
```
"""

OWN = {
    "meta-model": """\
```python
from nlp_meta import MetaModel

model = MetaModel.from_pretrained({name}).adapt(texts, labels)
model.predict(new_texts)
```
""",
    "adapted-model": """\
```python
from nlp_meta import AdaptedModel

AdaptedModel.from_pretrained({name}).predict(texts)
```
""",
    "alignment-meta-model": """\
```python
from nlp_meta import AlignmentMetaModel, adapt_alignment

start = AlignmentMetaModel.from_pretrained({name})
model = adapt_alignment(start, sources, targets)
```
""",
    "alignment-model": """\
```python
from nlp_meta import AlignmentModel

pairs = AlignmentModel.from_pretrained({name}).align(sources, targets)
```
""",
    "translation-meta-model": """\
```python
from nlp_meta.models.generation import TranslationMetaModel

start = TranslationMetaModel.from_pretrained({name})
model = start.adapt(sources, targets, source_lang="ind", target_lang="jav")
```
""",
    "translation-model": """\
```python
from nlp_meta.models.generation import TranslationModel

translations = TranslationModel.from_pretrained({name}).translate(texts)
```
""",
}

TITLES = {
    "meta-model": "A meta-learned start for LoRA adapters",
    "adapted-model": "A LoRA adapter adapted to one domain",
    "alignment-meta-model": "A meta-learned start for LoRA adapters that find translations",
    "alignment-model": "A LoRA adapter that finds translations in one language pair",
    "translation-meta-model": "A meta-learned start for LoRA adapters that write translations",
    "translation-model": "A LoRA adapter that translates one language pair",
}


NGRAMS = {
    "meta-model": """
The character n-grams in `companion.safetensors` are where those of a new domain start; PEFT does \
not read them.
""",
    "adapted-model": """
This gives the encoder alone: the character n-grams in `companion.safetensors` are mixed into its \
answers by `nlp-meta` only.
""",
}


def usage(
    kind: str,
    *,
    labels: Sequence[str],
    model: Mapping[str, Any],
    companion: bool,
    repo_id: str | None,
    direction: Mapping[str, Any] | None = None,
) -> str:
    """Write the lines of code that use a model, as Markdown.

    Args:
        companion: Character n-grams lie beside the adapter.
        repo_id: Its name on the Hub; None for a model in a `folder` of the reader's.
        direction: How a model that writes translations is told its languages.
    """
    name = "folder" if repo_id is None else f'"{repo_id}"'
    own = OWN[kind].format(name=name)
    if kind.startswith("translation"):
        plain = _write_translation(name, model, direction or {})
        return f"With `nlp-meta`:\n\n{own}\nWith PEFT alone:\n\n{plain}"
    prefix = model["prefix_text"]
    with_labels = MEAN if model["pooling"] == "mean" else NATIVE
    plain = (with_labels if labels else EMBEDDING).format(
        name=name,
        where="" if repo_id is None else _WHERE.format(name=name),
        count=len(labels),
        texts=f'["{prefix}" + text for text in texts]' if prefix else "texts",
        length=model["max_tokens"],
        labels=", ".join(labels),
    )
    with_head = kind != "meta-model" or model["head"] == "shared"
    note = "" if with_head else "Its head is rebuilt from each support set, so adapt it first.\n\n"
    return (
        f"{note}With `nlp-meta`:\n\n{own}\nWith PEFT alone:\n\n{plain}"
        f"{NGRAMS[kind] if companion else ''}"
    )


# PEFT takes names on the Hub; the file of a head of our own has to be fetched.
_WHERE = "from huggingface_hub import snapshot_download\n\nfolder = snapshot_download({name})"


def _write_translation(name: str, model: Mapping[str, Any], direction: Mapping[str, Any]) -> str:
    """Show how PEFT alone translates; without a direction the languages are the reader's."""
    chosen, begun, texts = "", "", "texts"
    if direction.get("source"):
        chosen = f', src_lang="{direction["source"]}", tgt_lang="{direction["target"]}"'
        begun = f", {direction['option']}={direction['token']}"
    elif direction.get("prefix_text"):
        texts = f'["{direction["prefix_text"]}" + text for text in texts]'
    return TRANSLATION.format(
        name=name,
        chosen=chosen,
        begun=begun,
        texts=texts,
        length=model["max_tokens"],
        beams=model["num_beams"],
    )


CARD = "README.md"
EVAL_FOLDER = ".eval_results"
_SEAL = re.compile(r"\n<!-- written by nlp-meta, sha256 ([0-9a-f]{64}) -->\n?$")
_FENCE = "---\n"


def build_card(facts: CardFacts) -> str:
    """Write the card of a model."""
    record = facts.record
    sections = {
        "How to use it": usage(
            record["kind"],
            labels=record["labels"],
            model=record["model"],
            companion=facts.companion,
            repo_id=facts.repo_id,
            direction=record["adaptation"].get("direction"),
        ),
        "What it was trained on": training_section(facts),
        "Adaptation": adaptation_section(facts),
        "How it was selected": selection_section(facts),
        "Scores, beside every rival": scores_section(facts),
        "Calibration": calibration_section(facts),
        "Leaks": leaks_section(facts),
        "Licences": licences_section(facts),
        "What it cost": cost_section(facts),
        "What it must not be used for": limits_section(facts),
    }
    body = "\n\n".join(f"## {title}\n\n{text.strip()}" for title, text in sections.items())
    about = f"{_about_base(facts)} Written by nlp-meta {__version__}."
    text = (
        f"{_FENCE}{_front_matter(facts)}{_FENCE}\n# {TITLES[record['kind']]}\n\n{about}\n\n{body}\n"
    )
    return f"{text}\n<!-- written by nlp-meta, sha256 {_hash(text)} -->\n"


def write_card(folder: Path, record: Mapping[str, Any], *, companion: bool) -> None:
    """Write the card of a model that is saved to a folder.

    Args:
        record: What is saved beside it, as JSON.
    """
    facts = CardFacts(record, facts_of(record.get("provenance") or {}), companion)
    (folder / CARD).write_text(build_card(facts), encoding="utf-8")


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
        values = yaml.safe_load(text[len(_FENCE) :].partition(f"\n{_FENCE}")[0])
        if not isinstance(values, dict) or f"\n{_FENCE}" not in text[len(_FENCE) :]:
            raise ValueError("the front matter is no mapping between two lines ---")
        ModelCardData(**{str(key): value for key, value in values.items()})
        _check_types(values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise HubError(
            f"cannot push the card '{path.name}' ({' '.join(str(error).split())}): it was edited "
            "by hand, and YAML between two lines `---` with the Hub's keys is needed; correct it, "
            "or delete it to have it written anew"
        ) from error
    return values


def _check_types(values: Mapping[str, Any]) -> None:
    for key in ("license", "library_name", "pipeline_tag"):
        if values.get(key) is not None and not isinstance(values[key], str):
            raise ValueError(f"`{key}` is {values[key]!r} and a text is needed there")
    for key in ("language", "tags", "datasets", "metrics", "base_model"):
        found = values.get(key) or []
        texts = [found] if isinstance(found, str) else found
        if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
            raise ValueError(f"`{key}` is {found!r} and a text or a list of texts is needed there")


def _front_matter(facts: CardFacts) -> str:
    # Where no comparison is given there is no score that could stand in the front matter.
    task = _pipeline(facts.record)
    scores = eval_results(facts.results, facts.data, task=task) if facts.results else None
    licenses = list(licenses_of(facts))
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
        tags=["nlp-meta", facts.record["kind"], "meta-learning", "few-shot", "lora"],
        language=_unique(_languages(facts)) or None,
        license=_license(licenses),
        datasets=_unique(one["hub"]["id"] for one in facts.trained_on if one["hub"]) or None,
        metrics=_unique(HUB_METRICS.get(one, one) for one in metrics) or None,
        pipeline_tag=task,
        model_name=name if scores else None,
        eval_results=scores or None,
        **extra,
    )
    return str(data.to_yaml()) + "\n"


def _license(licenses: list[str]) -> str | None:
    """The strictest; `unknown` where that is attribution at most and some state none."""
    if not licenses:
        return None
    strict = strictest(licenses)
    restricts = strict is not None and any(part in strict for part in ("-nc", "-nd", "-sa", "gpl"))
    if strict is None or (not restricts and any(is_unknown(one) for one in licenses)):
        return "unknown"
    return strict


def _pipeline(record: Mapping[str, Any]) -> str:
    """The Hub's word for what a model does, by its kind."""
    words = {"alignment": "sentence-similarity", "translation": "translation"}
    return words.get(record["kind"].partition("-")[0], "text-classification")


def _languages(facts: CardFacts) -> Iterable[str]:
    for card in facts.trained_on:
        for task in card["tasks"]:
            if task["use"] != "unseen":
                yield from list_languages(task["language"])


def _about_base(facts: CardFacts) -> str:
    if facts.base is not None:
        return f"For the base model `{facts.base.id}` at commit `{facts.base.revision}`."
    name = Path(str(facts.record["model"]["model_name_or_path"])).name
    return f"For the base model `{name}` that its `adapter_config.json` names."


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
