"""How often the interval that the app shows covers the true accuracy, by simulated labelers.

python recipes/app_interval.py --data shared/data/sentiment/fdu_mtl --output coverage.json

Each labeler answers the texts that the app asks for, in its order, with the labels of the corpus.
The truth is the share of right answers of the model to all texts that were not labeled.
"""

import argparse
import json
import random
import statistics
import tempfile
from pathlib import Path

from nlp_meta.app.learner import Learner
from nlp_meta.files.outputs import check_file, write_file
from nlp_meta.files.projects import LABELED, Project
from nlp_meta.models.meta_model import MetaModel


def label_texts(
    rows: list[dict[str, str]], labels: list[str], start: MetaModel, *, count: int, every: int
) -> dict[str, float]:
    """One labeler: what the app shows after the last label, and the truth."""
    project = Project(Path(tempfile.mkdtemp()) / "project", create=True)
    texts = [row["text"] for row in rows]
    project.set_up(
        texts,
        [{}] * len(texts),
        text_column="text",
        columns=["text"],
        labels=labels,
        given=[None] * len(texts),
    )
    learner = Learner(project, start=start)
    for done in range(count):
        if done % every == 0:
            while learner.has_work:
                learner.work()
        turn = project.next_row()
        if turn is None:
            break
        row, is_random = turn
        label = str(rows[row.id - 1]["label"])
        project.answer(row.id, row.version, state=LABELED, label=label, is_random=is_random)
    while learner.has_work:
        learner.work()
    figures, shown = project.read_fact("figures"), project.read_fact("answers")
    labeled = {row.id for row in project.list_rows(LABELED)}
    right = [
        shown["labels"][odds.index(max(odds))] == rows[int(row) - 1]["label"]
        for row, odds in shown["answers"].items()
        if int(row) not in labeled
    ]
    return {
        "truth": statistics.fmean(right),
        **{name: figures.get(name) for name in ("accuracy", "low", "high", "random", "labels")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of *.train.jsonl")
    parser.add_argument("--start", default="builtin:reviews-en")
    parser.add_argument("--labelers", type=int, default=20)
    parser.add_argument("--labels", type=int, default=50)
    parser.add_argument("--texts", type=int, default=300, help="of each domain")
    parser.add_argument("--every", type=int, default=5, help="labels between two adaptations")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    check_file(options.output)
    start = MetaModel.from_pretrained(options.start)
    files = sorted(options.data.glob("*.train.jsonl"))
    results = []
    for labeler in range(options.labelers):
        path = files[labeler % len(files)]
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        rows = random.Random(labeler).sample(rows, min(options.texts, len(rows)))  # noqa: S311
        labels = sorted({row["label"] for row in rows})
        result = label_texts(rows, labels, start, count=options.labels, every=options.every)
        results.append({"domain": path.name.partition(".")[0], **result})
        covered = sum(one["low"] <= one["truth"] <= one["high"] for one in results)
        print(json.dumps(results[-1]), f"covered {covered} of {len(results)}", flush=True)
        record = {"covered": covered, "labelers": len(results), "results": results}
        write_file(options.output, json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
