"""How to use a saved model, with this package and without: the lines of its card."""

from collections.abc import Mapping, Sequence
from typing import Any

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
from nlp_meta.translating import TranslationMetaModel

start = TranslationMetaModel.from_pretrained({name})
model = start.adapt(sources, targets, source_lang="ind", target_lang="jav")
```
""",
    "translation-model": """\
```python
from nlp_meta.translating import TranslationModel

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
