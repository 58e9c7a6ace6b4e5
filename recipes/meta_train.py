"""Meta-train LoRA adapters on the episodes that a config describes.

Its `skills` say what is learned: to name labels, to find translations or both, on an encoder;
to write translations, on an encoder-decoder. `--help` explains every key.

accelerate launch recipes/meta_train.py --config recipes/configs/reptile_reviews.yaml
accelerate launch recipes/meta_train.py --config ... --outer.learning_rate 0.01 --resume
accelerate launch recipes/meta_train.py --config ... --push-to-hub --hub-model-id me/reptile-reviews
ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 recipes/meta_train.py --config ...
"""

from nlp_meta.progress import show_steps
from nlp_meta.settings import MetaTraining
from nlp_meta.training.config import run_recipe
from nlp_meta.training.plan import load_splits
from nlp_meta.training.pushes import check_push, push_finished
from nlp_meta.training.run import start_accelerator, train_meta_model


def main(settings: MetaTraining) -> int:
    accelerator = start_accelerator(settings.run)
    if accelerator.is_main_process:
        check_push(settings)
    train, validation = load_splits(settings.data, "meta-train", "meta-validation")
    with show_steps(settings.outer.steps, enabled=accelerator.is_main_process) as on_step:
        model, ended = train_meta_model(
            settings, train, validation, accelerator=accelerator, on_step=on_step
        )
    if model is None:
        accelerator.print(f"stopped after outer step {ended.step}; go on with --resume")
        accelerator.end_training()
        return 130
    if accelerator.is_main_process:
        model.save_pretrained(settings.run.output_dir)
        print(f"start: {settings.run.output_dir}")
        print(f"best judged: {ended.best_score} after outer step {ended.best_step} of {ended.step}")
        for skill, how in model.adaptation.items():
            inner = how.inner
            print(f"{skill}: {inner.steps} steps of {inner.optimizer} at {inner.learning_rate}")
        pushed = push_finished(settings)
        if pushed is not None:
            print("\n".join([f"pushed: {pushed.url}", *pushed.notes]))
    accelerator.end_training()
    return 0


if __name__ == "__main__":
    run_recipe(main, MetaTraining)
