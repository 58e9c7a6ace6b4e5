"""The files that make up a model, wherever it lies: no others are pushed or pulled.

All of them are safetensors, JSON or text, so that none can hold code to be run.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath

RECORD, ADAPTER, HEAD = "nlp_meta.json", "adapter_model.safetensors", "head.safetensors"
COMPANION_WEIGHTS, COMPANION_FACTS = "companion.safetensors", "companion.json"
ADAPTER_CONFIG, CARD = "adapter_config.json", "README.md"
TRAINING = "training.json"
"""Beside the weights of a base that this package built: what it was made of."""
TENSORS = (ADAPTER, HEAD, COMPANION_WEIGHTS)
TOKENIZER = (
    "added_tokens.json",
    "bpe.codes",
    "chat_template.jinja",
    "merges.txt",
    "sentencepiece.bpe.model",
    "source.spm",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "target.spm",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
# The adapter comes last: of a pull that was cut off it is missing.
MODEL_FILES = (
    *(RECORD, ADAPTER_CONFIG, CARD),
    *TOKENIZER,
    *(COMPANION_FACTS, COMPANION_WEIGHTS, HEAD, ADAPTER),
)


def find_outside(names: Iterable[str]) -> str | None:
    """The first name that would lie outside of the folder it is written to; None if none does."""
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or ".." in parts or parts[0] == "/" or ":" in parts[0]:
            return name
    return None
