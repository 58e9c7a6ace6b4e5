"""Compare methods on the same support draws of the meta-test tasks.

Steps and rate of every method that has them are chosen by the same search on the
meta-validation tasks; the meta-test tasks are opened once, at the end.

python recipes/compare.py --config recipes/configs/compare_reviews.yaml
"""

import json
from dataclasses import asdict
from pathlib import Path

from nlp_meta.comparing import build_method
from nlp_meta.console import run_recipe
from nlp_meta.data.episodes import evaluation_episode
from nlp_meta.data.tasks import load_tasks
from nlp_meta.evaluation.protocol import Scores, evaluate, summarize
from nlp_meta.settings import Comparison
from nlp_meta.training import union_of_labels, validation_episodes


def main(settings: Comparison) -> int:
    data, plan = settings.data, settings.comparison
    validation, test = (
        load_tasks(
            data.cards,
            meta_split=meta_split,
            data_root=data.root,
            source=data.source,
            splits=data.splits,
            exclude=data.exclude,
        )
        for meta_split in ("meta-validation", "meta-test")
    )
    judged = validation_episodes(validation, settings.adaptation)
    labels = union_of_labels((*validation, *test))
    reserve = max(plan.labels)
    folder = Path(settings.run.output_dir)
    scores: dict[int, list[Scores]] = {total: [] for total in plan.labels}
    facts: dict[str, object] = {}
    for name, text in plan.methods.items():
        method = build_method(text, settings, labels=labels, judged=judged)
        facts[name] = method.facts
        for total in plan.labels:
            episodes = [
                evaluation_episode(
                    task,
                    labels_total=total,
                    seed=settings.run.seed,
                    draw=draw,
                    reserve=reserve,
                    max_query=plan.max_query,
                )
                for task in test
                for draw in range(plan.draws)
            ]
            scores[total].append(evaluate(method.predict, episodes, method=name))
        # After each method: an interrupted comparison keeps what is done.
        summary = write_results(folder, settings, facts, scores)
    print(json.dumps(summary, indent=1))
    return 0


def write_results(
    folder: Path,
    settings: Comparison,
    facts: dict[str, object],
    scores: dict[int, list[Scores]],
) -> dict[str, object]:
    summary: dict[str, object] = {
        metric: {
            str(total): summarize(each, metric=metric, over_tasks=False, resamples=2000, seed=0)
            for total, each in scores.items()
            if each
        }
        for metric in ("accuracy", "macro_f1", "ece", "seconds")
    }
    cells = [
        {"method": one.method, **asdict(cell)}
        for each in scores.values()
        for one in each
        for cell in one.cells
    ]
    results = {"settings": asdict(settings), "methods": facts, "cells": cells, "summary": summary}
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    return summary


if __name__ == "__main__":
    run_recipe(main, Comparison)
