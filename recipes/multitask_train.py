"""Train on all meta-train tasks together: one adapter, or a small model from nothing.

This is ordinary multi-task training: the start that meta-training begins from
(`run.init_from`, or `model.model_name_or_path`), and the rival that it has to beat.
Over a pretrained model it is the outer loop with no inner step, so it saves a start
like any other, which adapts, resumes and compares alike.

accelerate launch recipes/multitask_train.py --config recipes/configs/multitask_reviews.yaml
accelerate launch recipes/multitask_train.py --config recipes/configs/multitask_translation.yaml
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from meta_train import main

from nlp_meta.errors import SettingsError
from nlp_meta.progress import show_steps
from nlp_meta.settings import MetaTraining, SmallTraining
from nlp_meta.training.config import run_recipe
from nlp_meta.training.plan import load_splits
from nlp_meta.training.run import start_accelerator
from nlp_meta.training.small_model import save_small_model, score_small_model, train_small_model


def train_jointly(settings: MetaTraining) -> int:
    if settings.outer.algorithm != "joint":
        raise SettingsError(
            f"cannot train all tasks together by '{settings.outer.algorithm}': joint is needed; "
            "set `outer.algorithm` to joint, or run recipes/meta_train.py"
        )
    return main(settings)


def build_small_model(settings: SmallTraining) -> int:
    accelerator = start_accelerator(settings.run)
    train, validation = load_splits(settings.data, "meta-train", "meta-validation")
    with show_steps(settings.outer.steps, enabled=accelerator.is_main_process) as on_step:
        trained = train_small_model(settings, train, accelerator=accelerator, on_step=on_step)
    if trained.interrupted:
        accelerator.print(f"stopped after step {trained.step}; go on with --resume")
        accelerator.end_training()
        return 130
    if accelerator.is_main_process:
        scores = score_small_model(trained, validation, settings)
        save_small_model(Path(settings.run.output_dir), trained, settings, scores)
        print(f"model: {settings.run.output_dir}")
        print(f"held-out loss: {trained.loss} after step {trained.best_step} of {trained.step}")
        for score in scores:
            print(f"chrF++ {score.chrf:5.1f}  {score.name}, {score.pairs} pairs")
    accelerator.end_training()
    return 0


MAINS: dict[type, Callable[[Any], int]] = {
    MetaTraining: train_jointly,
    SmallTraining: build_small_model,
}

if __name__ == "__main__":
    forms = {"small_model": SmallTraining, "episode": MetaTraining}
    run_recipe(lambda settings: MAINS[type(settings)](settings), forms)
