"""Train one adapter and one head on all meta-train tasks together.

This is ordinary multi-task training: the start that meta-training begins from
(`run.init_from`), and the rival that it has to beat. It is the outer loop with no inner
step, so it saves a meta-model like any other, which adapts, resumes and compares alike.

accelerate launch recipes/multitask_train.py --config recipes/configs/multitask_reviews.yaml
"""

from meta_train import main

from nlp_meta.console import run_recipe
from nlp_meta.errors import SettingsError
from nlp_meta.settings import MetaTraining


def train_jointly(settings: MetaTraining) -> int:
    if settings.outer.algorithm != "joint":
        raise SettingsError(
            f"cannot train all tasks together by '{settings.outer.algorithm}': joint is needed; "
            "set `outer.algorithm` to joint, or run recipes/meta_train.py"
        )
    return main(settings)


if __name__ == "__main__":
    run_recipe(train_jointly, MetaTraining)
