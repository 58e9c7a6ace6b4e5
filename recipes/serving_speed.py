"""What many domains over one encoder cost: time beside one domain and PEFT models, and memory.

python recipes/serving_speed.py --output-dir runs/domains

Adapters are as training begins. All ways are measured in turn; ratios are medians over rounds.
"""

import argparse
import json
import random
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from peft import AutoPeftModelForSequenceClassification

from nlp_meta.data.tasks import load_tasks
from nlp_meta.files.outputs import write_file
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.progress import quiet_libraries
from nlp_meta.serving.pack import DomainPack
from nlp_meta.settings import ModelSettings

DOMAINS, TEXTS, TOKENS, TARGETS = 8, 32, 128, ["query", "value"]
MODEL = ModelSettings("builtin:minilm", None, "native", "shared", "", TOKENS, 8, 16.0, 3, TARGETS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with quiet_libraries():
        folders = save_domains(options.output_dir)
        found = measure_memory(folders) | measure_seconds(folders, options.rounds)
    print(text := json.dumps(found | {"threads": torch.get_num_threads()}, indent=1))
    write_file(options.output_dir / "serving_speed.json", text + "\n", argument="output_dir")


def save_domains(folder: Path) -> dict[str, Path]:
    objective = build_classifier(MODEL, labels=("negative", "positive"))
    for seed in range(DOMAINS):
        own = replace(objective, labels=tuple("abcde"[: 2 + seed % 4]))
        weights = own.meta_parameters(torch.Generator().manual_seed(seed))
        AdaptedModel(own, weights, MODEL).save_pretrained(folder / f"d{seed}")
    return {f"d{seed}": folder / f"d{seed}" for seed in range(DOMAINS)}


def measure_memory(folders: dict[str, Path]) -> dict[str, float]:
    """Memory of the process, in MB, after a batch: with one domain, then with thirty."""
    pack = DomainPack.from_pretrained({"0": folders["d0"]})
    found = {}
    for domains in (1, 30):
        for i in range(len(pack.domains), domains):
            pack.load(str(i), folders[f"d{i % DOMAINS}"])
        pack.predict([str(i % domains) for i in range(TEXTS)], ["a good room"] * TEXTS)
        found[f"memory_{domains}"] = psutil.Process().memory_info().rss / 2**20
    return found | {"memory_30/memory_1": found["memory_30"] / found["memory_1"]}


@torch.inference_mode()
def measure_seconds(folders: dict[str, Path], rounds: int) -> dict[str, float]:
    """Seconds for 32 texts: of 8 domains, of one, and by 8 PEFT models that get 4 each."""
    names, pack = list(folders) * (TEXTS // DOMAINS), DomainPack.from_pretrained(folders)
    load = partial(AutoPeftModelForSequenceClassification.from_pretrained, dtype=torch.float32)
    models = [load(str(p), num_labels=len(pack.find(n).labels)) for n, p in folders.items()]
    tokenizer: Any = pack.backbone.tokenizer
    read = partial(tokenizer, padding=True, truncation=True, max_length=TOKENS)
    ways: dict[str, Any] = {
        "mixed": lambda batch: pack.predict(names, batch),
        "one": lambda batch: pack.predict(["d0"] * TEXTS, batch),
        "peft": lambda batch: [
            model.eval()(**read(batch[i::DOMAINS], return_tensors="pt")).logits.softmax(-1).tolist()
            for i, model in enumerate(models)
        ],
    }
    tasks = load_tasks(["nlp_meta_reviews"], meta_split="meta-train")
    texts = [row.source for task in tasks for row in task.train]
    seconds = {name: list[float]() for name in ways}
    for round_ in range(rounds + 1):
        batch = random.Random(round_).sample(texts, TEXTS)  # noqa: S311  no secret
        for name, way in ways.items():
            began = time.perf_counter()
            way(batch)
            seconds[name] += [time.perf_counter() - began] * bool(round_)  # the first warms up
    ratios = {n: np.divide(seconds["mixed"], seconds[n]) for n in ("one", "peft")}
    found = {f"seconds_{name}": median(own) for name, own in seconds.items()}
    return found | {f"mixed/{name}": median(own.tolist()) for name, own in ratios.items()}


if __name__ == "__main__":
    main()
