"""Follow the adaptation of a meta-model on the meta-validation tasks of a config.

The score of each episode and the losses on support and query sets after each number of steps,
how far the weights went, and how far in each layer against where they began: why a start
adapts well, or does not.

python recipes/diagnose.py --config recipes/configs/reptile_languages.yaml \
  --run.init_from runs/reptile_languages
"""

import json
from dataclasses import asdict, replace

from nlp_meta.console import run_recipe
from nlp_meta.errors import SettingsError
from nlp_meta.meta.diagnostics import diagnose
from nlp_meta.mixed_training import judged_inner, validation_episodes
from nlp_meta.models import MetaModel
from nlp_meta.settings import MetaTraining
from nlp_meta.training import episode_metric, load_splits


def main(settings: MetaTraining) -> int:
    if settings.run.init_from is None:
        raise SettingsError(
            "cannot diagnose the pretrained encoder: a meta-model is needed; set `run.init_from`"
        )
    adaptation = settings.adaptation
    (validation,) = load_splits(settings.data, "meta-validation")
    model = MetaModel.from_pretrained(settings.run.init_from)
    found = diagnose(
        replace(model.objective, batch_tokens=settings.run.batch_tokens),
        model.weights,
        validation_episodes(validation, adaptation),
        inner=judged_inner(adaptation),
        minibatch=adaptation.batch_size,
        at_steps=[0, *adaptation.steps],
        stack=adaptation.stack,
        metric=episode_metric(adaptation.metric),
    )
    print(json.dumps({"meta_model": settings.run.init_from, **asdict(found)}, indent=1))
    return 0


if __name__ == "__main__":
    run_recipe(main, MetaTraining)
