"""The README beside a saved model: what it is and how to read it with and without us."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NATIVE = """\
```python
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoPeftModelForSequenceClassification.from_pretrained(
    folder, num_labels={count}, dtype=torch.float32
).eval()
inputs = tokenizer({texts}, return_tensors="pt", padding=True, truncation=True, max_length={length})
probabilities = model(**inputs).logits.softmax(-1)  # {labels}
```
"""

MEAN = """\
```python
import torch
from peft import AutoPeftModelForFeatureExtraction
from safetensors.torch import load_file
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoPeftModelForFeatureExtraction.from_pretrained(folder, dtype=torch.float32).eval()
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

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoPeftModelForFeatureExtraction.from_pretrained(folder, dtype=torch.float32).eval()
inputs = tokenizer({texts}, return_tensors="pt", padding=True, truncation=True, max_length={length})
states, mask = model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
pooled = (states * mask).sum(1) / mask.sum(1)
embeddings = torch.nn.functional.normalize(pooled, dim=-1)  # a product of two is their cosine
```
"""

OWN = {
    "meta-model": """\
```python
from nlp_meta import MetaModel

model = MetaModel.from_pretrained(folder).adapt(texts, labels)
```
""",
    "adapted-model": """\
```python
from nlp_meta import AdaptedModel

AdaptedModel.from_pretrained(folder).predict(texts)
```
""",
    "alignment-meta-model": """\
```python
from nlp_meta.aligning import AlignmentMetaModel, adapt_alignment

start = AlignmentMetaModel.from_pretrained(folder)
model = adapt_alignment(start, sources, targets)
```
""",
    "alignment-model": """\
```python
from nlp_meta.aligning import AlignmentModel

pairs = AlignmentModel.from_pretrained(folder).align(sources, targets)
```
""",
}

TITLES = {
    "meta-model": "A meta-learned start for LoRA adapters",
    "adapted-model": "A LoRA adapter adapted to one domain",
    "alignment-meta-model": "A meta-learned start for LoRA adapters that find translations",
    "alignment-model": "A LoRA adapter that finds translations in one language pair",
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


def write_readme(
    folder: Path,
    kind: str,
    *,
    labels: Sequence[str],
    model: Mapping[str, Any],
    companion: bool = False,
) -> None:
    """Write `README.md` into the folder of a saved model.

    Args:
        companion: Character n-grams lie beside the adapter.
    """
    prefix = model["prefix_text"]
    texts = f'["{prefix}" + text for text in texts]' if prefix else "texts"
    with_labels = MEAN if model["pooling"] == "mean" else NATIVE
    plain = (with_labels if labels else EMBEDDING).format(
        count=len(labels), texts=texts, length=model["max_tokens"], labels=", ".join(labels)
    )
    with_head = kind != "meta-model" or model["head"] == "shared"
    note = "" if with_head else "Its head is rebuilt from each support set, so adapt it first.\n\n"
    text = (
        f"---\nlibrary_name: peft\ntags: [nlp-meta]\n---\n\n# {TITLES[kind]}\n\n{note}"
        f"With `nlp-meta`:\n\n{OWN[kind]}\nWith PEFT alone:\n\n{plain}"
        f"{NGRAMS[kind] if companion else ''}"
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
