"""Fuzz every reader: whatever a file holds, it gives a value or an error of the package.

make fuzz
python tests/fuzz/run.py --seconds 60 --readers tmx,xliff

Each reader runs in a process of its own with bounds on memory and on the time of one file, on
mutations of `tests/fuzz/seeds/READER.*`. A crash, a hang, another exception or a message beyond
2,000 characters is a finding: its file is kept in `build/fuzz/` and the exit code is 1.
"""

import argparse
import contextlib
import hashlib
import json
import mmap
import os
import random
import re
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from mutations import mutate

from nlp_meta.comparing.bench import FORMS
from nlp_meta.data.cards import load_card
from nlp_meta.errors import NlpMetaError
from nlp_meta.files.documents import read_sources, write_translations
from nlp_meta.files.memories import read_memory
from nlp_meta.files.outputs import describe_files, seal
from nlp_meta.files.tables import read_table
from nlp_meta.hub.records import read_record
from nlp_meta.settings import MetaTraining, SmallTraining
from nlp_meta.training.config import choose_form, read_settings

SEEDS = Path(__file__).parent / "seeds"
CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"
FINDINGS = Path("build/fuzz")
_MEMORY = 6 * 2**30
_SLOW = 30.0  # seconds of processor time for one file: a machine may do other things too
_LONGEST_MESSAGE = 2_000
_DIFFERENT = 5  # findings of one reader that are kept; more are most often the same


@dataclass(frozen=True, slots=True)
class Reader:
    """How the file of a name is read, and which words its mutations take."""

    name: str
    read: Callable[[Path], object]
    kind: str


def read_labels(path: Path) -> object:
    return read_table(path, max_rows=1_000_000)


def read_pairs(path: Path) -> object:
    return read_memory(path, source_lang="en", target_lang="de")


def translate_and_read(path: Path) -> object:
    """Read pairs; then fill the gaps, and read what was written."""
    try:
        sources = read_sources(path, source_lang="en", target_lang="de")
        out = path.with_name(f"out-{path.name}")
        write_translations(out, sources, ["x <b>y</b>"] * len(sources.texts), target_lang="de")
        out.unlink()
    finally:
        memory = read_pairs(path)
    return memory


def read_config(path: Path) -> object:
    words = ["--config", str(path)]
    forms = {**FORMS, "small_model": SmallTraining, "episode": MetaTraining}
    return read_settings(choose_form(forms, words), words)


def read_saved(path: Path) -> object:
    """Read a record with a seal and a file of PEFT that fit it, as far as it is one."""
    with contextlib.suppress(ValueError, RecursionError):
        values = json.loads(path.read_bytes())
        if isinstance(values, dict) and isinstance(model := values.get("model"), dict):
            names = {"base_model_name_or_path": "model_name_or_path", "r": "lora_r"}
            names |= {name: name for name in ("lora_alpha", "revision")}
            config = {theirs: model.get(ours) for theirs, ours in names.items()}
            path.with_name("adapter_config.json").write_text(json.dumps(config))
            if isinstance(files := values.get("files"), dict):
                files |= describe_files(path.parent, ["adapter_config.json"])
            path.write_text(json.dumps(seal(values)))
    return read_record(path.parent, name="model")


READERS = [
    *(Reader(f"table.{form}", read_labels, "table") for form in ("csv", "tsv")),
    *(Reader(f"table.{form}", read_labels, "json") for form in ("json", "jsonl")),
    Reader("table.parquet", read_labels, "table"),
    Reader("table.xlsx", read_labels, "workbook"),
    *(Reader(f"pairs.{form}", read_pairs, "table") for form in ("csv", "tsv", "jsonl")),
    Reader("memory.tmx", read_pairs, "xml"),
    Reader("memory.xliff", translate_and_read, "xml"),
    Reader("memory.ts", translate_and_read, "xml"),
    Reader("memory.po", translate_and_read, "gettext"),
    Reader("card.md", load_card, "yaml"),
    Reader("config.yaml", read_config, "yaml"),
    Reader("nlp_meta.json", read_saved, "json"),
]


class Counts:
    """Numbers that the process of a reader leaves to its parent, also when it dies."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 4 * 8)

    def set(self, executions: int, values: int, findings: int, began: float) -> None:
        self._shared[:] = struct.pack("qqqd", executions, values, findings, began)

    def get(self) -> tuple[int, int, int, float]:
        return struct.unpack("qqqd", self._shared[:])


def run_reader(reader: Reader, counts: Counts, folder: Path, *, until: float, seed: int) -> None:
    """Read mutations until the time is over; what is new to a reader becomes a seed too."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    draw = random.Random(seed)
    seeds, known, different = load_seeds(reader), set(), set()
    executions, values, findings, _ = counts.get()
    path = folder / reader.name
    while time.time() < until:
        fresh = executions < len(seeds)
        content = seeds[executions] if fresh else mutate(seeds, kind=reader.kind, draw=draw)
        path.write_bytes(content)
        counts.set(executions, values, findings, time.process_time())
        fault = ""
        try:
            reader.read(path)
            values += 1
            outcome = "value"
        except NlpMetaError as error:
            outcome = re.sub(r"'[^']*'|\d+", "", str(error))[:150]
            if len(str(error)) > _LONGEST_MESSAGE or "\n" in str(error):
                fault = f"a message of {len(str(error))} characters: {str(error)[:300]!r}"
        except BaseException as error:
            outcome = fault = traceback.format_exc()
            outcome = f"{type(error).__name__} {outcome.splitlines()[-3]}"
        executions += 1
        if fault:
            findings += 1
            if outcome not in different and len(different) < _DIFFERENT:
                different.add(outcome)
                keep(reader, content, fault)
        elif outcome not in known and len(content) < 20_000:
            known.add(outcome)
            seeds.append(content)
    counts.set(executions, values, findings, 0.0)


def load_seeds(reader: Reader) -> list[bytes]:
    """What is kept for a reader; every shipped config is a seed of configs."""
    shipped = [*CONFIGS.glob("*builtin*.yaml"), CONFIGS / "multitask_reviews.yaml"]
    paths = [*SEEDS.glob(f"{reader.name}*"), *(shipped if reader.kind == "yaml" else [])]
    return [path.read_bytes() for path in sorted(paths)]


def keep(reader: Reader, content: bytes, fault: str) -> None:
    """Keep a file that was a finding, with what happened beside it."""
    FINDINGS.mkdir(parents=True, exist_ok=True)
    name = f"{hashlib.sha256(content).hexdigest()[:12]}-{reader.name}"
    (FINDINGS / name).write_bytes(content)
    (FINDINGS / f"{name}.why.txt").write_text(fault, encoding="utf-8")


def watch(reader: Reader, *, seconds: float, seed: int) -> dict[str, object]:
    """Run a reader in processes of its own; one that dies or hangs is a finding and goes on."""
    counts, until = Counts(), time.time() + seconds
    counts.set(0, 0, 0, 0.0)
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shared if os.access(shared, os.W_OK) else None))
    while time.time() < until:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            run_reader(reader, counts, folder, until=until, seed=seed + counts.get()[0])
            os._exit(0)
        status = wait(child, counts)
        if status:
            executions, values, findings, _ = counts.get()
            keep(reader, (folder / reader.name).read_bytes(), f"the process ended by {status}")
            counts.set(executions + 1, values, findings + 1, 0.0)
    shutil.rmtree(folder)
    executions, values, findings, _ = counts.get()
    return {"reader": reader.name, "executions": executions, "values": values, "findings": findings}


def wait(child: int, counts: Counts) -> str:
    """Wait for a process; say what ended it, if it did not end by itself."""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            return f"signal {signal}" if signal else f"exit code {status >> 8}" if status else ""
        began = counts.get()[3]
        if began and sum(psutil.Process(child).cpu_times()[:2]) - began > _SLOW:
            os.kill(child, 9)
            os.waitpid(child, 0)
            return f"the clock: one file took more than {_SLOW:.0f} seconds of processor time"
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="for each reader (default: 600)")
    parser.add_argument("--readers", default="", help="names or parts of them, with commas")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    parts = [part for part in options.readers.split(",") if part]
    chosen = [reader for reader in READERS if not parts or any(p in reader.name for p in parts)]
    findings = 0
    for reader in chosen:
        counts = watch(reader, seconds=options.seconds, seed=options.seed)
        print(json.dumps(counts), flush=True)
        findings += int(str(counts["findings"]))
    print(f"{findings} findings" + (f", kept in {FINDINGS}" if findings else ""))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
