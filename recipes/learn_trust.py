"""Learn how far a start's views are to be trusted from more tasks than those of meta-validation.

python recipes/learn_trust.py recipes/configs/multitask_languages.yaml --start runs/joint \
  --left-out runs/without_a runs/without_b runs/without_c --output runs/joint_trusted
Each start of `--left-out` was trained as the first one but for some meta-train tasks
(`--data.exclude`): these tasks are as new to it as a user's domain is. The first start gets the
numbers; nothing else of it changes. Without `--start` it is the encoder as it is, mean-pooled, to
which all tasks are new. The numbers of `nlp_meta/models/views.py` were learned with `--anew`.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.files.outputs import check_folder
from nlp_meta.hub.records import START
from nlp_meta.hub.storage import layout_of
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.views import NEW_LABELS
from nlp_meta.settings import DataSettings, ModelSettings
from nlp_meta.training.plan import load_splits
from nlp_meta.training.trust import learn_trust, look_at_unseen

SEED, STEPS, LONG, LIGHT = 0, 150, 400, 0.003


def plain_start(settings: ModelSettings) -> MetaModel:
    """An encoder as it is, with a head made from each support set."""
    objective = build_classifier(settings, labels=())
    weights = objective.meta_parameters(torch.Generator().manual_seed(0))
    how = Adaptation(InnerLoop(0, 1e-3, "adam"), None, early_stop=True)
    return MetaModel({CLASSIFICATION: objective}, weights, settings, {CLASSIFICATION: how})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="that the first start was trained by")
    parser.add_argument("--start", help="folder of the start")
    parser.add_argument("--left-out", nargs="*", default=[], help="starts that left tasks out")
    parser.add_argument(
        "--anew", action="store_true", help="begin at 0, a start at what the encoder alone needs"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the start with trust")
    options = parser.parse_args()
    check_folder(options.output, layout_of(START, ["classification"]), argument="output")
    config = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    train, validation = load_splits(DataSettings(**config["data"]), "meta-train", "meta-validation")
    if options.start is None:
        settings = {**config["model"], "pooling": "mean", "head": "ridge"}
        model = plain_start(ModelSettings(**settings))
        validation = (*train, *validation)
    else:
        model = MetaModel.from_pretrained(options.start)
    pools = look_at_unseen(model, validation)
    for folder in options.left_out:
        pools += look_at_unseen(MetaModel.from_pretrained(folder), train)
    way: dict[str, Any] = {"steps": STEPS}
    if options.anew:
        # Tasks of one number of labels do not say what another number would need.
        begin = dict.fromkeys(NEW_LABELS, 0.0) if options.start is None else NEW_LABELS
        way = {"begin": begin, "stiffness": LIGHT, "steps": LONG}
    trust = learn_trust([pool for _, pool in pools], seed=SEED, **way)
    print(f"learned from {len(pools)} tasks: {trust}")
    how = replace(model.adaptation["classification"], trust=trust)
    adaptation = {**model.adaptation, "classification": how}
    replace(model, adaptation=adaptation).save_pretrained(options.output)


if __name__ == "__main__":
    main()
