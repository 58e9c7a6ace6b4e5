"""`recipes/plain_fomaml.py` gives the trainer's numbers: two routes to the same outer steps."""

import runpy
from pathlib import Path

import torch
from accelerate import Accelerator

from nlp_meta.data.episodes import EpisodeStream
from nlp_meta.data.tasks import load_tasks
from nlp_meta.models.builders import build_classifier
from nlp_meta.settings import MetaTraining
from nlp_meta.training.config import read_settings
from nlp_meta.training.run import train_meta_model

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
STEPS = 3


def test_plain_fomaml_moves_as_the_trainer_does(tiny_encoder: Path, tmp_path: Path) -> None:
    plain = runpy.run_path(str(RECIPES / "plain_fomaml.py"))
    words = (
        f"--data.cards [nlp_meta_reviews] --episode.shot 2 --episode.query_shot 2 "
        f"--model.model_name_or_path {tiny_encoder} --model.max_tokens 24 "
        f"--inner.steps {plain['INNER_STEPS']} --inner.learning_rate {plain['INNER_RATE']} "
        f"--inner.optimizer sgd --inner.batch_size null --outer.steps {STEPS} "
        f"--outer.meta_batch_size {plain['META_BATCH_SIZE']} --outer.stack 4 "
        f"--outer.learning_rate {plain['OUTER_RATE']} --outer.warmup_steps 0 "
        f"--outer.schedule constant --outer.max_gradient_norm null --adaptation.labels 8 "
        f"--adaptation.draws 1 --adaptation.max_query 8 --adaptation.steps [1] "
        f"--run.init_from null --run.mixed_precision no --run.output_dir {tmp_path / 'run'}"
    ).split()
    config = str(RECIPES / "configs" / "fomaml_reviews.yaml")
    settings = read_settings(MetaTraining, ["--config", config, *words])
    train = load_tasks(["nlp_meta_reviews"], meta_split="meta-train")
    validation = load_tasks(["nlp_meta_reviews"], meta_split="meta-validation")

    model, ended = train_meta_model(settings, train, validation, accelerator=Accelerator(cpu=True))
    objective = build_classifier(
        settings.model, labels=train[0].labels, device="cpu", precision="no"
    )
    stream = EpisodeStream(train, shot=2, query_shot=2, sampling="uniform", seed=0)
    weights = plain["train"](objective, stream, steps=STEPS, seed=0)

    assert ended.step == STEPS
    assert weights.keys() == model.weights.keys()
    for name, value in weights.items():
        assert torch.equal(value, model.weights[name]), name
