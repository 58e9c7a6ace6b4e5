"""The runner: the few lines that an exported model needs, and what they read."""

import inspect
import json
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from nlp_meta.encoders.backbone import Backbone
from nlp_meta.errors import ExportError
from nlp_meta.exporting import ngrams
from nlp_meta.hub.storage import StoredCompanion, save_companion
from nlp_meta.models.meta_model import AdaptedModel

RUNNER, LABELS, TOKENIZER, NGRAMS = "run.py", "labels.json", "tokenizer.json", "ngrams.py"

_HEAD = '''\
"""Label texts: python run.py "a text" "another", or one text a line on standard input.

Needs onnxruntime, tokenizers and numpy. The temperature is in the weights, so
probabilities are calibrated{what}.
"""

import json, sys
from pathlib import Path
import numpy, onnxruntime, tokenizers
{imports}
HERE = Path(__file__).resolve().parent
FACTS = json.loads((HERE / "labels.json").read_text(encoding="utf-8"))
TOKENIZER = tokenizers.Tokenizer.from_file(str(HERE / "tokenizer.json"))
SESSION = onnxruntime.InferenceSession(str(HERE / FACTS["model"]))
{loads}

def predict(text):
    row = TOKENIZER.encode(FACTS["prefix_text"] + text.strip())
    feed = {{"input_ids": [row.ids], "attention_mask": [row.attention_mask]}}
    logits = SESSION.run(None, {{k: numpy.array(v, numpy.int64) for k, v in feed.items()}})[0]
{mixes}    odds = numpy.exp(logits[0] - logits[0].max())
    return dict(zip(FACTS["labels"], (odds / odds.sum()).tolist()))


if __name__ == "__main__":
    for text in filter(str.strip, sys.argv[1:] or sys.stdin):
        found = predict(text)
        label = max(found, key=found.get)
        print(label, f"{{found[label]:.4f}}", text.strip(), sep="\\t")
'''
_PLAIN = {"what": "", "imports": "", "loads": "", "mixes": ""}
_MIXED = {
    "what": "; character n-grams are mixed in",
    "imports": "import ngrams  # the file beside this one\n",
    "loads": "COMPANION = ngrams.load(HERE)\n",
    "mixes": "    logits = ngrams.mix([text], logits, *COMPANION)\n",
}


def write_runner(folder: Path, model: AdaptedModel, *, graph: str) -> None:
    """Write all that runs a graph but the graph itself.

    Args:
        graph: Name of the ONNX file that the runner opens.
    """
    backbone, companion = model.objective.backbone, model.companion
    _write_tokenizer(backbone, folder / TOKENIZER)
    facts = {"labels": model.labels, "model": graph, "prefix_text": backbone.prefix_text}
    text = json.dumps(facts, indent=1, ensure_ascii=False)
    (folder / LABELS).write_text(text + "\n", encoding="utf-8")
    lines = _HEAD.format(**(_PLAIN if companion is None else _MIXED))
    (folder / RUNNER).write_text(lines, encoding="utf-8")
    if companion is not None:
        save_companion(folder, StoredCompanion(companion.model, companion.factors))
        (folder / NGRAMS).write_text(inspect.getsource(ngrams), encoding="utf-8")


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse a tokenizer that needs Python of its own.

    Raises:
        ExportError: It has no form that `tokenizers` reads.
    """
    if not isinstance(getattr(tokenizer, "backend_tokenizer", None), Tokenizer):
        raise ExportError(
            f"cannot export the tokenizer of '{name}': it has no tokenizer.json and one that the "
            "package tokenizers reads is needed; adapt a model with a fast tokenizer"
        )


def _write_tokenizer(backbone: Backbone, path: Path) -> None:
    """Write a tokenizer that cuts and fills texts by itself."""
    own = Tokenizer.from_str(backbone.tokenizer.backend_tokenizer.to_str())
    own.enable_truncation(max_length=backbone.max_tokens)
    pad = backbone.tokenizer.pad_token
    if isinstance(pad, str):
        own.enable_padding(pad_id=int(backbone.tokenizer.pad_token_id), pad_token=pad)
    else:
        own.no_padding()
    own.save(str(path))
