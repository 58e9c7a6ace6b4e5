"""Seconds from a dropped table to a model and all answers, and from a label to the next text.

python recipes/app_speed.py --data shared/data/sentiment/fdu_mtl/apparel.train.jsonl

It opens `nlp-meta app` on an empty project, drops the texts, answers as many as are asked for, one
after another, and waits until every text has an answer of the model of all labels.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2

from nlp_meta.files.projects import Project


def give_labels(client: httpx2.Client, truth: dict[int, str], count: int) -> list[float]:
    """Seconds of each answer, a label sent to the next text come."""
    page, seconds = client.get("/label").text, []
    for _ in range(count):
        fields = dict(re.findall(r'name="(row|version|is_random)" value="(\d+)"', page))
        fields["do"] = f"label:{truth[int(fields['row'])]}"
        began = time.perf_counter()
        page = client.post("/label", data=fields, headers={"hx-request": "true"}).text
        seconds.append(time.perf_counter() - began)
        time.sleep(0.2)  # nobody reads faster
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--labels", type=int, default=50)
    options = parser.parse_args()
    lines = options.data.read_text(encoding="utf-8").splitlines()[: options.texts]
    rows = [json.loads(line) for line in lines]
    folder = Path(tempfile.mkdtemp()) / "project"
    command = [sys.executable, "-m", "nlp_meta", "app", str(folder), "--no-browser"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as app:  # noqa: S603
        address = (app.stderr.readline() if app.stderr else "").split()[-1]
        with httpx2.Client(base_url=address.partition("/?")[0], follow_redirects=True) as client:
            client.get(address)
            began = time.perf_counter()
            client.post("/drop", files={"table": ("texts.jsonl", "\n".join(lines).encode())})
            names = "\n".join(sorted({row["label"] for row in rows}))
            client.post("/columns", data={"text_column": "text", "names": names})
            truth = {place: row["label"] for place, row in enumerate(rows, start=1)}
            seconds = sorted(give_labels(client, truth, options.labels))
            project = Project(folder)
            while True:
                answers = (project.read_fact("answers") or {"answers": {}})["answers"]
                figures = project.read_fact("figures") or {"labels": 0}
                if len(answers) == len(rows) and figures["labels"] == options.labels:
                    break
                time.sleep(0.2)
            whole = time.perf_counter() - began
        app.terminate()
    print(
        f"{len(rows)} texts, {options.labels} labels: {whole:.1f} s from the table to all answers"
    )
    print(
        f"a label to the next text: median {1000 * statistics.median(seconds):.0f} ms, "
        f"95% {1000 * seconds[int(0.95 * len(seconds))]:.0f} ms, most {1000 * seconds[-1]:.0f} ms"
    )


if __name__ == "__main__":
    main()
