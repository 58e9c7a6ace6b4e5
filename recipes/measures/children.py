"""Measurements in a process of their own: peak memory, and whole jobs from start to end.

`run_child` begins one; this file, run as a module, is the child. Its last line is JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

RECIPES = Path(__file__).resolve().parents[1]
REPOSITORY = RECIPES.parent


def environment(threads: int) -> dict[str, str]:
    """The environment of a child that finds the package and computes on so many threads."""
    paths = [str(RECIPES), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
    }


def run_words(words: Sequence[str], *, threads: int = 1) -> tuple[float, str]:
    """Run a program to its end; seconds from its start, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603  the benchmark's own words
        list(words), env=environment(threads), capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return seconds, done.stdout


def run_child(name: str, *words: str, threads: int = 1) -> tuple[float, dict[str, Any]]:
    """Run one of `CHILDREN` in a process of its own; its seconds and what it measured."""
    command = [sys.executable, "-m", "measures.children", name, *words]
    seconds, printed = run_words(command, threads=threads)
    return seconds, json.loads(printed.splitlines()[-1])


def run_settings(model: str, *, folder: Path, steps: int) -> list[str]:
    """A short run of FOMAML on the built-in reviews, as words for `recipes/meta_train.py`."""
    words = (
        f"--data.cards [nlp_meta_reviews] --model.model_name_or_path {model} --model.max_tokens 64 "
        f"--episode.shot 8 --episode.query_shot 8 --inner.batch_size null --run.init_from null "
        f"--outer.steps {steps} --outer.stack 2 --outer.warmup_steps 1 --outer.validate_every "
        f"{steps} --outer.checkpoint_every {steps} --adaptation.labels 8 --adaptation.draws 1 "
        f"--adaptation.max_query 8 --adaptation.steps [1] --adaptation.learning_rates [0.001]"
    )
    config = str(RECIPES / "configs" / "fomaml_reviews.yaml")
    return ["--config", config, *words.split(), "--run.output_dir", str(folder)]


def peak_megabytes() -> float:
    """The most memory that this process has had, the GPU's where one was used."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure_memory(words: argparse.Namespace) -> dict[str, float]:
    """Peak memory of one FOMAML step with so many inner steps."""
    from measures.episodes import Case, meta_gradient, pose

    case = Case(model=words.model, layers=2, tasks=4, examples=8, steps=words.steps)
    problem = pose(case, device=words.device)
    before = peak_megabytes()
    meta_gradient(problem)
    return {"before": before, "after": peak_megabytes()}


def adapt_setfit(words: argparse.Namespace) -> dict[str, float]:
    """SetFit with its defaults on a table of labeled texts; nothing is saved."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    model = SetFitModel.from_pretrained(words.model)  # nosec B615
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(output_dir=folder, report_to="none", save_strategy="no")
        rows = Dataset.from_dict(_columns(words.data))
        Trainer(model=model, args=arguments, train_dataset=rows).train()
    return {"texts": len(rows)}


def adapt_probe(words: argparse.Namespace) -> dict[str, float]:
    """Features of sentence-transformers and logistic regression; nothing is saved."""
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    columns = _columns(words.data)
    features = SentenceTransformer(words.model).encode(columns["text"])
    LogisticRegression(max_iter=1000).fit(features, columns["label"])
    return {"texts": len(features)}


def _columns(table: Path) -> dict[str, list[str]]:
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    return {name: [row[name] for row in rows] for name in ("text", "label")}


def train_streamed(words: argparse.Namespace) -> dict[str, float]:
    """Meta-train on generated rows that stay on disk; peak memory of this process."""
    from accelerate import Accelerator
    from datasets import Dataset

    from nlp_meta.data.mapped_rows import map_task
    from nlp_meta.settings import MetaTraining
    from nlp_meta.training.config import read_settings
    from nlp_meta.training.run import train_meta_model

    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        rows = Dataset.from_generator(
            generate_rows, gen_kwargs={"number": words.rows}, cache_dir=folder
        )
        written = time.perf_counter()
        task = map_task(rows, name="generated/rows")
        mapped = time.perf_counter()
        judged = replace(
            task, name="generated/judged", train=(*task.train[:100], *task.train[-100:])
        )
        run = run_settings(words.model, folder=Path(folder) / "run", steps=words.steps)
        settings = read_settings(MetaTraining, run)
        train_meta_model(settings, [task], [judged], accelerator=Accelerator(cpu=True))
    return {
        "rows": len(rows),
        "megabytes": peak_megabytes(),
        "seconds_writing": written - began,
        "seconds_mapping": mapped - written,
        "seconds_training": time.perf_counter() - mapped,
    }


def generate_rows(number: int) -> Iterator[dict[str, str]]:
    """Different texts of two labels, of the words of the built-in reviews."""
    import random

    from measures.episodes import LABELS, read_reviews

    chance = random.Random(0)  # noqa: S311  no secret
    words = sorted({word for text in read_reviews() for word in text.split()})
    for i in range(number):
        text = " ".join(chance.choices(words, k=chance.randint(10, 30)))
        yield {"text": f"{i} {text}", "label": LABELS[i % 2]}


CHILDREN: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "memory": measure_memory,
    "setfit": adapt_setfit,
    "probe": adapt_probe,
    "streamed": train_streamed,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=CHILDREN)
    parser.add_argument("--model", default="builtin:minilm")
    parser.add_argument("--device")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000)
    words = parser.parse_args()
    print(json.dumps(CHILDREN[words.name](words)))


if __name__ == "__main__":
    main()
