"""What a small encoder-decoder scores, and the folder with a card that says so plainly."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from nlp_meta.data.answers import Translation
from nlp_meta.data.cards import find_card, load_card
from nlp_meta.data.episodes import GENERATION, Episode
from nlp_meta.data.languages import split_pair
from nlp_meta.data.tasks import Example, Task
from nlp_meta.encoders.seq2seq import Seq2Seq
from nlp_meta.evaluation.translation_metrics import chrf, signature_of
from nlp_meta.hub.pull import TRAINING
from nlp_meta.hub.storage import keep_finished
from nlp_meta.meta.inner_loop import repeat
from nlp_meta.objectives.generation import Generation, build_generation
from nlp_meta.settings import SmallTraining
from nlp_meta.training.small_corpus import Pair
from nlp_meta.training.small_model import SmallTrained

JUDGED_PAIRS = 40
"""Pairs of one direction that are translated for the card."""

_CARD = """\
---
library_name: transformers
pipeline_tag: translation
tags: [nlp-meta]
license: other
---

# A small encoder-decoder for low-resource languages

**This model is small and it translates badly.** It has {weights:.1f} million weights and has seen
{pairs} sentence pairs, nothing else: no pretrained weights{start}. It is for machines without a
hub, for tests, and as the start that `nlp-meta` adapts to a new pair of languages from a few
dozen sentences. Do not publish its translations unread.

What it scores, by chrF++ ({signature}), translating greedily, {count} pairs at most a direction:

{scores}

The loss of the {held_out} held-out pairs is {loss} nats a token. Pairs of the meta-validation
tasks are in languages that it has never seen; it is told `>>und<<` there, as for any new language.

Languages that it writes: {languages}.
The pairs are of {cards}.
"""


@dataclass(frozen=True, slots=True)
class Score:
    """chrF++ of one direction; `seen` where the model has learned from other pairs of it."""

    name: str
    language: str
    seen: bool
    pairs: int
    chrf: float


def score_small_model(
    trained: SmallTrained, validation: Sequence[Task], settings: SmallTraining
) -> list[Score]:
    """Translate held-out pairs of every direction, and pairs of the meta-validation tasks."""
    objective = _objective(trained.backbone, settings)
    groups: dict[str, list[Pair]] = {}
    for pair in trained.held_out:
        groups.setdefault(pair.language, []).append(pair)
    scores = [
        _score(objective, language, [Example(p.source, p.target) for p in pairs], language)
        for language, pairs in sorted(groups.items())
    ]
    return scores + [
        replace(_score(objective, task.name, task.test or task.train, task.language), seen=False)
        for task in validation
    ]


def save_small_model(
    folder: Path, trained: SmallTrained, settings: SmallTraining, scores: Sequence[Score]
) -> None:
    """Write the model, its tokenizer, what it was made of and its card; all of it or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.part"))
    try:
        trained.backbone.model.save_pretrained(str(beside))
        trained.backbone.tokenizer.save_pretrained(str(beside))
        own = asdict(replace(settings, data=replace(settings.data, root=None)))
        del own["run"]
        record = {
            "settings": own,
            "seed": settings.run.seed,
            "steps": trained.step,
            "best_step": trained.best_step,
            "held_out_loss": trained.loss,
            "pairs": trained.pairs,
            "scores": [asdict(score) for score in scores],
        }
        text = json.dumps(record, indent=1, ensure_ascii=False)
        (beside / TRAINING).write_text(text + "\n", encoding="utf-8")
        card = write_card(trained, settings, scores)
        (beside / "README.md").write_text(card, encoding="utf-8")
        beside.chmod(0o755)
        keep_finished(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_card(trained: SmallTrained, settings: SmallTraining, scores: Sequence[Score]) -> str:
    """The model card: what the model is, that it is small, and what it scores."""
    small, backbone = settings.small_model, trained.backbone
    rows = [
        f"| {score.name} | {score.language} | {'yes' if score.seen else 'no'} | {score.pairs} | "
        f"{score.chrf:.1f} |"
        for score in scores
    ]
    head = ["| | direction | seen in training | pairs | chrF++ |", "| --- " * 5 + "|"]
    loss = "not measured" if trained.loss is None else f"{trained.loss:.3f}"
    start = f" but those of the encoder {small.encoder_init}" if small.encoder_init else ""
    return _CARD.format(
        weights=sum(value.numel() for value in backbone.model.parameters()) / 1e6,
        pairs=trained.pairs,
        start=start,
        signature=signature_of("chrf", ""),
        count=JUDGED_PAIRS,
        scores="\n".join([*head, *rows]) if rows else "not measured",
        held_out=len(trained.held_out),
        loss=loss,
        languages=", ".join(sorted(map(str, backbone.languages.known))),
        cards=", ".join(f"{name} ({license})" for name, license in _licenses(settings).items()),
    )


def _licenses(settings: SmallTraining) -> Mapping[str, str]:
    cards = [load_card(find_card(card)) for card in settings.data.cards]
    return {card.name: card.license for card in cards}


def _objective(backbone: Seq2Seq, settings: SmallTraining) -> Generation:
    """A search with the model as it is: an adapter that has not moved changes nothing."""
    return build_generation(
        backbone,
        lora_r=1,
        lora_alpha=1.0,
        lora_sides="encoder",
        lora_layers=1,
        lora_target_modules=None,
        label_smoothing=0.0,
        num_beams=1,
        autocast=None,
        batch_tokens=settings.run.batch_tokens,
    )


def _score(objective: Generation, name: str, examples: Sequence[Example], language: str) -> Score:
    episode = Episode(
        name, (), (), tuple(examples[:JUDGED_PAIRS]), 0, skill=GENERATION, language=language
    )
    weights = repeat(objective.meta_parameters(torch.Generator().manual_seed(0)), tasks=1)
    answers: list[Translation] = objective.answer(
        weights, objective.query_batches([episode]), [episode]
    )[0]
    _, target = split_pair(language)
    score = chrf([example.target for example in episode.query], answers, (target,))
    return Score(name, language, True, len(answers), score)
