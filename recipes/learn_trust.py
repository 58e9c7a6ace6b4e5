"""Learn how far a start's views are to be trusted from more tasks than those of meta-validation.

python recipes/learn_trust.py recipes/configs/multitask_languages.yaml --start runs/joint \
  --left-out runs/without_a runs/without_b runs/without_c --output runs/joint_trusted
Each start of `--left-out` was trained as the first one but for some meta-train tasks
(`--data.exclude`): these tasks are as new to it as a user's domain is. The first start gets the
numbers; nothing else of it changes. Without `--start` it is the encoder as it is, mean-pooled, to
which all tasks are new. The numbers of `nlp_meta/models/views.py` were learned with `--anew`,
those of `nlp_meta/models/label_names.py` with `--names` too.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from measures.rungs import plain_start

from nlp_meta.files.outputs import check_folder
from nlp_meta.hub.records import START
from nlp_meta.hub.storage import layout_of
from nlp_meta.models.label_names import NAMED_LABELS
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.views import NEW_LABELS
from nlp_meta.settings import DataSettings, ModelSettings
from nlp_meta.training.plan import load_splits
from nlp_meta.training.trust import learn_trust, look_at_unseen

SEED, STEPS, LONG, LIGHT = 0, 150, 400, 0.003


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="that the first start was trained by")
    parser.add_argument("--start", help="folder of the start")
    parser.add_argument("--left-out", nargs="*", default=[], help="starts that left tasks out")
    parser.add_argument(
        "--anew", action="store_true", help="begin at 0, a start at what the encoder alone needs"
    )
    parser.add_argument(
        "--names", action="store_true", help="let names of labels answer; for no start at all"
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
    pools = look_at_unseen(model, validation, names=options.names)
    for folder in options.left_out:
        pools += look_at_unseen(MetaModel.from_pretrained(folder), train)
    way: dict[str, Any] = {"steps": STEPS}
    if options.anew:
        # Tasks of one number of labels do not say what another number would need.
        begin = dict.fromkeys(NEW_LABELS, 0.0) if options.start is None else NEW_LABELS
        begin = NAMED_LABELS if options.names else begin
        way = {"begin": begin, "stiffness": LIGHT, "steps": LONG}
    trust = learn_trust([pool for _, pool in pools], seed=SEED, **way)
    print(f"learned from {len(pools)} tasks: {trust}")
    how = replace(model.adaptation["classification"], trust=trust)
    adaptation = {**model.adaptation, "classification": how}
    replace(model, adaptation=adaptation).save_pretrained(options.output)


if __name__ == "__main__":
    main()
