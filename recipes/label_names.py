"""What names of labels say of label sets that no start has seen, without labels and beside some.

python recipes/label_names.py recipes/configs/compare_labels_english.yaml \\
  --meta-split meta-validation --labels 0 8 16 50 --draws 2 --output label_names.json
The encoder of the config as it is, mean-pooled, or a start through a head. `chance` draws labels,
`majority` gives the most frequent one, `names` answers by what labels are called and the queries
that these gather, `names_alone` without the latter; `adapt` makes a head over features and n-grams,
`named` around what names say where labels do not contradict them; `mixed_up` is `named` with the
names of other labels of the task; `stepped`, from 32 labels on, is what `nlp-meta adapt` gives:
`named`, then inner steps. Macro-F1; standard errors over tasks.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

import yaml
from measures.rungs import SEED, look, name_rungs, plain_start, split_views

from nlp_meta.data.episodes import evaluation_episode
from nlp_meta.evaluation.answers import episode_scorer
from nlp_meta.files.outputs import check_file, write_file
from nlp_meta.models.label_judge import LEAST
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.objectives.classification import to_predictions
from nlp_meta.settings import DataSettings, ModelSettings
from nlp_meta.training.plan import load_splits

QUERIES = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="whose tasks and encoder are taken")
    parser.add_argument("--meta-split", default="meta-validation")
    parser.add_argument("--tasks", nargs="*", help="names of tasks (default: all of the split)")
    parser.add_argument("--base", help="folder of the encoder (default: as the config names it)")
    parser.add_argument("--start", help="folder of a start whose features are taken")
    parser.add_argument("--product", default="builtin:reviews-en", help="what `stepped` adapts")
    parser.add_argument("--labels", type=int, nargs="*", default=[0, 8, 16, 50])
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True, help="gets the scores as JSON")
    options = parser.parse_args()
    check_file(options.output, argument="output")
    config = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    (tasks,) = load_splits(DataSettings(**config["data"]), options.meta_split)
    settings = ModelSettings(**{**config["model"], "pooling": "mean", "head": "ridge"})
    if options.start:
        model = MetaModel.from_pretrained(options.start)
    else:
        base = options.base or settings.model_name_or_path
        model = plain_start(replace(settings, model_name_or_path=base))
    product_start = MetaModel.from_pretrained(options.product)
    scores: dict[str, dict[str, dict[str, list[float]]]] = {}
    for task in [task for task in tasks if not options.tasks or task.name in options.tasks]:
        draws = list(product(options.labels, range(options.draws)))
        episodes = [
            evaluation_episode(task, labels_total=n, seed=SEED, draw=draw, max_query=QUERIES)
            for n, draw in draws
        ]
        seen, places = look(model, task, episodes)
        for (labels, _), episode in zip(draws, episodes, strict=True):
            views = split_views(seen, places, episode)
            answered = {
                way: to_predictions(logits.log_softmax(-1), task.labels, task.labels)
                for way, logits in name_rungs(model, task, episode, views)
            }
            if labels >= LEAST:
                texts, targets = zip(*((e.source, e.target) for e in episode.support), strict=True)
                same = {label: label for label in targets}
                adapted = product_start.adapt(texts, targets, label_map=same)
                answered["stepped"] = adapted.predict([e.source for e in episode.query])
            for way, answers in answered.items():
                at = scores.setdefault(str(labels), {}).setdefault(way, {})
                at.setdefault(task.name, []).append(episode_scorer("macro_f1")(episode, answers))
        print(task.name, flush=True)
        write_file(options.output, json.dumps(scores, indent=1) + "\n")
    show(scores)


def show(scores: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> None:
    """Print the mean of each way over tasks, and what it has over `adapt`, or over chance."""
    for labels, by_way in scores.items():
        than = {t: fmean(v) for t, v in by_way["adapt" if "adapt" in by_way else "chance"].items()}
        for way, by_task in by_way.items():
            gains = [fmean(values) - than[task] for task, values in by_task.items()]
            error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
            mean = fmean(map(fmean, by_task.values()))
            more = f"{fmean(gains):+.3f}, se {error:.3f}"
            print(f"{labels:>3} {way:9} {mean:.3f}  more than the first: {more}")


if __name__ == "__main__":
    main()
