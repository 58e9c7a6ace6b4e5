"""Many requests at once to a server that runs: errors, throughput, and how long answers take.

nlp-meta serve runs/domains/* --port 8000 &
python recipes/serving_load.py http://127.0.0.1:8000 --output recipes/results/serving_load.json

Bursts of 200 requests of one review, 16 at a time, of all domains in turn, for a minute. Reads
the token, if the server asks for one, from SERVE_TOKEN.
"""

import argparse
import json
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np

from nlp_meta.data.tasks import load_tasks
from nlp_meta.files.outputs import check_file, write_file

BURST = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("--at-a-time", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.output:
        check_file(options.output)
    tasks = load_tasks(["nlp_meta_reviews"], meta_split="meta-train")
    texts = [row.source for task in tasks for row in task.train]
    random.Random(0).shuffle(texts)  # noqa: S311  no secret
    token = os.environ.get("SERVE_TOKEN")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with httpx2.Client(base_url=options.address, headers=headers, timeout=60) as client:
        found = ask_for(client, texts, at_a_time=options.at_a_time, seconds=options.seconds)
    print(json.dumps(found, indent=1))
    if options.output:
        write_file(options.output, json.dumps(found, indent=1) + "\n")


def ask_for(
    client: httpx2.Client, texts: list[str], *, at_a_time: int, seconds: float
) -> dict[str, float]:
    domains = [one["domain"] for one in client.get("/domains").raise_for_status().json()["domains"]]

    def ask(i: int) -> tuple[bool, float]:
        body = {"domain": domains[i % len(domains)], "texts": [texts[i % len(texts)]]}
        began = time.perf_counter()
        try:
            right = client.post("/predict", json=body).status_code == httpx2.codes.OK
        except httpx2.HTTPError:
            right = False
        return right, time.perf_counter() - began

    answers: list[tuple[bool, float]] = []
    began = time.perf_counter()
    with ThreadPoolExecutor(at_a_time) as threads:
        while time.perf_counter() - began < seconds:
            answers += threads.map(ask, range(len(answers), len(answers) + BURST))
    passed = time.perf_counter() - began
    p50, p99 = np.percentile([took for _, took in answers], [50, 99])
    return {
        "domains": len(domains),
        "requests": len(answers),
        "at_a_time": at_a_time,
        "errors": sum(not right for right, _ in answers),
        "seconds": passed,
        "requests_per_second": len(answers) / passed,
        "seconds_p50": float(p50),
        "seconds_p99": float(p99),
    }


if __name__ == "__main__":
    main()
