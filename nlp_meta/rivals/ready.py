"""A ready model: one that somebody trained to tell these labels, asked as it is.

It learns nothing from a support set. Each of the task's labels must be one that it knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from nlp_meta.data.answers import Learned, Prediction, Rival
from nlp_meta.data.clock import Clock
from nlp_meta.data.episodes import Queries, SupportSet
from nlp_meta.data.labels import pair_names
from nlp_meta.encoders.backbone import (
    check_vocabulary,
    choose_device,
    load_config,
    load_network,
    load_tokenizer,
    reading,
)
from nlp_meta.encoders.batches import by_length
from nlp_meta.errors import BackboneError
from nlp_meta.objectives.classification import to_predictions

_LONGEST = 512
"""Tokens of a text, where a model names no smaller number."""


@dataclass(frozen=True, slots=True)
class ReadyModel:
    """A loaded model of text classification.

    Attributes:
        places: By output, the task's label that it stands for; empty where it is of none.
    """

    model: Any
    tokenizer: Any
    places: tuple[str, ...]
    batch_tokens: int

    @torch.inference_mode()
    def score(self, texts: Sequence[str]) -> Tensor:
        """Log-probabilities `(texts, outputs)`, on the CPU."""
        most = min(self.tokenizer.model_max_length, _positions(self.model.config), _LONGEST)
        encoded = self.tokenizer(list(texts), truncation=True, max_length=int(most))
        logs = torch.zeros(len(texts), len(self.places))
        lengths = [len(ids) for ids in encoded["input_ids"]]
        for group in by_length(lengths, tokens=self.batch_tokens):
            rows = [{name: encoded[name][row] for name in encoded} for row in group]
            batch = self.tokenizer.pad(rows, return_tensors="pt").to(self.model.device)
            logs[group] = self.model(**batch).logits.float().log_softmax(-1).cpu()
        return logs


def load_ready(name: str, *, labels: Sequence[str], batch_tokens: int) -> ReadyModel:
    """Load a model of text classification; no code of its own is run.

    Args:
        name: On the Hub, or a folder.
        labels: Of the tasks: case does not matter, nor whether it is `pos` or `positive`.
        batch_tokens: Tokens of a batch, padding included.

    Raises:
        BackboneError: It cannot be loaded, or lacks one of the labels; names its own.
    """
    with reading(f"the model '{name}'", setting="`methods`"):
        tokenizer, config = load_tokenizer(name), load_config(name)
        model = load_network(AutoModelForSequenceClassification, name, config=config)
        check_vocabulary(model, tokenizer)
    names: Mapping[Any, str] = config.id2label or {}
    own = [names[place] for place in sorted(names)]
    meanings = pair_names(own, labels)
    missing = [label for label in labels if label not in meanings.values()]
    if missing or len({*meanings.values()}) < len(meanings):
        raise BackboneError(
            f"cannot compare the ready model '{name}' on the labels {', '.join(labels)}: its own "
            f"are {', '.join(own[:20])}, and one of these for each label is needed; rename the "
            "labels of the table with `label_map`, or change `methods`"
        )
    places = tuple(meanings.get(label, "") for label in own)
    return ReadyModel(model.eval().to(choose_device()), tokenizer, places, batch_tokens)


def ready(loaded: ReadyModel, *, clock: Clock) -> Rival:
    """Make a method that asks a ready model, each text once; later jobs are charged for it."""
    kept: dict[str, tuple[Tensor, float]] = {}

    def learn(support_set: SupportSet) -> Learned:
        def answer(queries: Queries) -> list[Prediction]:
            missing = [text for text in dict.fromkeys(queries.texts) if text not in kept]
            clock.charge(sum(kept[text][1] for text in queries.texts if text in kept))
            if missing:
                began = clock.read()
                rows = loaded.score(missing)
                seconds = (clock.read() - began) / len(missing)
                kept.update((text, (row, seconds)) for text, row in zip(missing, rows, strict=True))
            logs = [kept[text][0] for text in queries.texts]
            table = torch.stack(logs) if logs else torch.zeros(0, len(loaded.places))
            return to_predictions(table, loaded.places, support_set.labels)

        return answer

    return learn


def _positions(config: Any) -> int:
    """How many tokens a model has positions for; RoBERTa's begin behind its padding."""
    positions = getattr(config, "max_position_embeddings", None) or _LONGEST
    shifted = config.model_type in ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl")
    return int(positions) - (int(config.pad_token_id or 0) + 1 if shifted else 0)
