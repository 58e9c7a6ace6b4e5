"""A lever: LoRA first reads unlabeled texts of the new domain by masked language modeling.

A decoder is fitted on texts of the meta-train tasks while the start stands still. Then LoRA
takes `READING` steps on training texts of each meta-validation task that are not in the support
set, and adapts to that set from there. `recipes/diagnose.py` is the same without these steps.

python recipes/levers/masked_language.py --config recipes/configs/reptile_languages.yaml \
  --run.init_from runs/multitask_languages
"""

import json
from collections.abc import Sequence
from dataclasses import asdict

import torch

from nlp_meta.data.episodes import Episode
from nlp_meta.encoders.batches import tokenize
from nlp_meta.meta.inner_loop import InnerLoop, Loss, Weights, adapt, repeat
from nlp_meta.objectives.masked_language import Decoder, MaskedLanguage
from nlp_meta.settings import MetaTraining
from nlp_meta.training.config import run_recipe
from nlp_meta.training.diagnosis import diagnose_start, load_start
from nlp_meta.training.run import load_splits

UNLABELED, TEXTS = 400, 16
FITTING, FITTING_RATE = 300, 1e-3
READING = InnerLoop(steps=50, learning_rate=3e-4, optimizer="adam")


def main(settings: MetaTraining) -> int:
    model = load_start(settings)
    train, validation = load_splits(settings.data, "meta-train", "meta-validation")
    pools = {task.name: [example.source for example in task.train] for task in validation}
    known = [example.source for task in train for example in task.train]
    every = known + [text for pool in pools.values() for text in pool]
    generator = torch.Generator().manual_seed(settings.run.seed)
    masked = MaskedLanguage(
        model.objective.backbone,
        model.objective.plan,
        Decoder(
            model.objective.backbone,
            torch.unique(torch.cat(tokenize(model.objective.backbone, every))),
        ),
        model.objective.autocast,
        settings.run.batch_tokens,
    )
    losses = fit_decoder(masked, repeat(model.weights, tasks=1), known, generator)

    def lever(episodes: Sequence[Episode], start: Weights) -> tuple[Loss, Weights]:
        unlabeled = []
        for episode in episodes:
            support = {example.source for example in episode.support}
            unlabeled.append([t for t in pools[episode.task] if t not in support][:UNLABELED])
        read = [
            masked.batches(unlabeled, texts=TEXTS, generator=generator)
            for _ in range(READING.steps)
        ]
        return model.objective.loss, adapt(masked.loss, start, read, inner=READING)

    found = diagnose_start(settings, model, validation, lever=lever)
    decoder_loss = {"first": sum(losses[:10]) / 10, "last": sum(losses[-10:]) / 10}
    print(json.dumps({"decoder_loss": decoder_loss, **asdict(found)}, indent=1))
    return 0


def fit_decoder(
    masked: MaskedLanguage, start: Weights, known: Sequence[str], generator: torch.Generator
) -> list[float]:
    """Fit the decoder alone; returns its loss at each step, in nats."""
    optimizer = torch.optim.AdamW(masked.decoder.parameters(), FITTING_RATE)
    losses = []
    for _ in range(FITTING):
        batches = masked.batches([known], texts=TEXTS, generator=generator)
        loss = torch.cat([masked.loss(start, batch) for batch in batches]).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    masked.decoder.requires_grad_(False)
    return losses


if __name__ == "__main__":
    run_recipe(main, MetaTraining)
