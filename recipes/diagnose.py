"""Follow the adaptation of a start on the meta-validation tasks of a config.

The score of each episode and the losses on support and query sets after each number of steps,
how far the weights went, and how far in each layer against where they began: why a start
adapts well, or does not.

python recipes/diagnose.py --config recipes/configs/reptile_languages.yaml \
  --run.init_from runs/reptile_languages
"""

import json
from dataclasses import asdict

from nlp_meta.settings import MetaTraining
from nlp_meta.training.config import run_recipe
from nlp_meta.training.diagnosis import diagnose_start, load_start
from nlp_meta.training.plan import load_splits


def main(settings: MetaTraining) -> int:
    model = load_start(settings)
    (validation,) = load_splits(settings.data, "meta-validation")
    found = diagnose_start(settings, model, validation)
    print(json.dumps({"meta_model": settings.run.init_from, **asdict(found)}, indent=1))
    return 0


if __name__ == "__main__":
    run_recipe(main, MetaTraining)
