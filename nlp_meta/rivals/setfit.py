"""SetFit: the encoder learns from pairs of support examples, then logistic regression.

The package `setfit` does all of it; here it is handed the encoder that every other method
is judged with, pooled, cut and prefixed alike, from memory.
"""

import copy
import importlib.metadata
import logging
import os
import random
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nlp_meta.data.answers import Learned, Prediction, Rival
from nlp_meta.data.episodes import Queries, SupportSet, support_targets
from nlp_meta.encoders.backbone import Backbone
from nlp_meta.encoders.batches import pad_rows, tokenize
from nlp_meta.errors import DivergedError, MissingPackageError, SettingsError, need_packages
from nlp_meta.objectives.classification import to_predictions

_PACKAGES = ("setfit", "sentence-transformers", "transformers")

# The head's regression is fitted to the end; the package leaves it scikit-learn's 100 steps.
_MAX_ITERATIONS = 5000
PAPER_PAIRS = 20
"""The `pairs` that the authors take: 20 rounds of a like and an unlike one for each example. Their
batches and rate are the defaults of `setfit` (`scripts/setfit/run_fewshot.py` of the package)."""
_KEEPS_NOTHING = {
    "report_to": "none",
    "save_strategy": "no",
    "logging_strategy": "no",
    "show_progress_bar": False,
}


class Reader(nn.Module):
    """A copy of the encoder and its mean pooling, as one module of a SentenceTransformer."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        with backbone.running():
            self.encoder = copy.deepcopy(backbone.encoder).float().requires_grad_(True)

    def preprocess(self, texts: Sequence[str], **_: object) -> dict[str, Tensor]:
        """Token ids with the backbone's own prefix and limit; it was given no other prompt."""
        padding = self.backbone.tokenizer.pad_token_id or 0
        ids, mask = pad_rows(tokenize(self.backbone, texts), padding=padding)
        return {"input_ids": ids, "attention_mask": mask}

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        mask = features["attention_mask"]
        states = self.encoder(input_ids=features["input_ids"], attention_mask=mask)
        real = mask.unsqueeze(-1).float()
        means = (states.last_hidden_state.float() * real).sum(1) / real.sum(1)
        return {**features, "sentence_embedding": means}


def setfit(
    backbone: Backbone,
    *,
    pairs: int,
    seed: int,
    epochs: int = 1,
    learning_rate: float = 2e-5,
    batch_size: int = 16,
) -> Rival:
    """Make a method that trains a copy of the encoder by the package `setfit`.

    The training is the package's own, dropout included, drawn from `seed`; the random
    states of everything else are as before. Nothing is kept on disk and nothing is asked
    of the Hub. A label of the task that the support set lacks has probability 0.

    Args:
        pairs: For each support example as many pairs of like labels and of unlike ones
            (the package's `num_iterations`).
        seed: Of the package's trainer: the order of the pairs, and dropout.
        epochs: Over all pairs, for the encoder; this and the next two are as the package
            has them.
        batch_size: Pairs of an update, and texts of a batch that is answered.

    Raises:
        MissingPackageError: The package is missing or does not work with the others here,
            or several processes share the comparison.
        SettingsError: A number that is not above 0.
        DivergedError, EpisodeError: In learning, for parameters that became infinite
            and for a support set of fewer than 2 labels.

    Source:
        Tunstall et al. 2022, arXiv:2209.11055, section 3.
    """
    if min(pairs, epochs, learning_rate, batch_size) <= 0:
        raise SettingsError(
            f"cannot train by `setfit` with {pairs} pairs, {epochs} epochs, a rate of "
            f"{learning_rate} and batches of {batch_size}: all above 0 are needed; change "
            "`rivals.setfit_pairs`, or the other numbers"
        )
    package = import_setfit()

    def learn(support_set: SupportSet) -> Learned:
        with _quiet(), _own_randomness(backbone.device), tempfile.TemporaryDirectory() as folder:
            arguments = package.TrainingArguments(
                output_dir=folder,
                num_iterations=pairs,
                num_epochs=epochs,
                body_learning_rate=learning_rate,
                batch_size=batch_size,
                seed=seed,
                **_KEEPS_NOTHING,
            )
            model = _train(package, backbone, support_set, arguments)

        def answer(queries: Queries) -> list[Prediction]:
            with _quiet():
                return _answer(model, queries.texts, support_set.labels, batch_size=batch_size)

        return answer

    return learn


def import_setfit() -> Any:
    """Import the package `setfit`, or say what is missing.

    Raises:
        MissingPackageError: It is not installed, its import fails, or this is one of
            several processes.
    """
    need_packages("compare `setfit`", "setfit", extra="setfit")
    # Its trainer reads this too, and would wait for the others at every step.
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise MissingPackageError(
            f"cannot compare `setfit` ({processes} processes): its trainer takes them for one "
            "training, and one process is needed; run the comparison without `accelerate launch`"
        )
    try:
        with _quiet():
            importlib.import_module("sentence_transformers")
            return importlib.import_module("setfit")
    except (ImportError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        versions = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
        raise MissingPackageError(
            f"cannot compare `setfit` ({versions}: {reason}): versions that work together are "
            "needed; `pip install --upgrade 'nlp-meta[setfit]'`"
        ) from error


def _train(package: Any, backbone: Backbone, support_set: SupportSet, arguments: Any) -> Any:
    from sklearn.linear_model import LogisticRegression
    from transformers import PrinterCallback, ProgressCallback

    texts = list(support_set.texts)
    places = list(support_targets(support_set, purpose="pair examples"))
    sentences: Any = importlib.import_module("sentence_transformers")
    body = sentences.SentenceTransformer(modules=[Reader(backbone)], device=str(backbone.device))
    head = LogisticRegression(max_iter=_MAX_ITERATIONS)
    model = package.SetFitModel(model_body=body, model_head=head)
    trainer = package.Trainer(model=model, args=arguments)
    for bar in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(bar)
    # The two halves of `trainer.train()`, which would first describe the data for a model card.
    trainer.train_embeddings(texts, places, args=arguments)
    if not all(bool(parameter.isfinite().all()) for parameter in body.parameters()):
        raise DivergedError(
            f"cannot train by `setfit` on task '{support_set.task}': a parameter became infinite "
            f"at a rate of {arguments.body_embedding_learning_rate}; finite ones are needed; lower "
            "the learning rate"
        )
    trainer.train_classifier(texts, places, args=arguments)
    return model


def _answer(
    model: Any, texts: Sequence[str], labels: Sequence[str], *, batch_size: int
) -> list[Prediction]:
    probabilities = np.zeros((len(texts), len(labels)))
    if texts:
        probabilities[:, model.model_head.classes_] = model.predict_proba(
            list(texts), batch_size=batch_size, as_numpy=True, show_progress_bar=False
        )
    return to_predictions(torch.from_numpy(probabilities).log(), labels, labels)


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Put every global random state back, which the package's trainer seeds."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress, notices and warnings that only the packages' authors can act on."""
    loggers = [logging.getLogger(name) for name in ("setfit", "sentence_transformers")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
