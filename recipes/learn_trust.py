"""Learn how far a start's views are to be trusted from more tasks than those of meta-validation.

python recipes/learn_trust.py recipes/configs/multitask_languages.yaml --start runs/joint \
  --left-out runs/without_a runs/without_b runs/without_c --output runs/joint_trusted
Each start of `--left-out` was trained as the first one but for some meta-train tasks
(`--data.exclude`): these tasks are as new to it as a user's domain is. The first start gets the
numbers; nothing else of it changes.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import yaml

from nlp_meta.models.meta_model import MetaModel
from nlp_meta.settings import DataSettings
from nlp_meta.training.plan import load_splits
from nlp_meta.training.trust import learn_trust, look_at_unseen

SEED, STEPS = 0, 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="that the first start was trained by")
    parser.add_argument("--start", required=True, help="folder of the start")
    parser.add_argument("--left-out", nargs="*", default=[], help="starts that left tasks out")
    parser.add_argument("--output", type=Path, required=True, help="folder of the start with trust")
    options = parser.parse_args()
    data = DataSettings(**yaml.safe_load(options.config.read_text(encoding="utf-8"))["data"])
    train, validation = load_splits(data, "meta-train", "meta-validation")
    model = MetaModel.from_pretrained(options.start)
    pools = look_at_unseen(model, validation)
    for folder in options.left_out:
        pools += look_at_unseen(MetaModel.from_pretrained(folder), train)
    trust = learn_trust([pool for _, pool in pools], seed=SEED, steps=STEPS)
    print(f"learned from {len(pools)} tasks: {trust}")
    how = replace(model.adaptation["classification"], trust=trust)
    adaptation = {**model.adaptation, "classification": how}
    replace(model, adaptation=adaptation).save_pretrained(options.output)


if __name__ == "__main__":
    main()
