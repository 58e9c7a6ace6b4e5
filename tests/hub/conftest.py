"""A Hub on the loopback address, a process with its real client, and models to push."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from nlp_meta.hub.data_cards import describe_data
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.settings import ModelSettings

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
TEXTS = ("the agent was great", "i loved it", "awful food, slow staff", "never again") * 2
LABELS = ("positive", "positive", "negative", "negative") * 2


def load_server() -> ModuleType:
    spec = importlib.util.spec_from_file_location("loopback_hub", HERE / "server.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


server = load_server()


@dataclass(frozen=True)
class Answer:
    """What came of one command: its value or exit code, what it printed, how long it waited."""

    value: Any
    out: str
    err: str
    waits: list[float]

    @property
    def record(self) -> dict[str, Any]:
        """The one JSON object that `--json` prints."""
        assert self.value == 0, self.err
        assert self.out.count("\n") == 1
        return json.loads(self.out)

    @property
    def refusal(self) -> str:
        """The one sentence of a command that could not do its work."""
        assert self.value == 2, (self.value, self.out, self.err)
        assert "Traceback" not in self.err, self.err
        (line,) = (line for line in self.err.splitlines() if line.startswith("error: "))
        return line


class Client:
    """The process that asks the Hub, with a home of its own."""

    def __init__(self, url: str, home: Path) -> None:
        self.home, self.url = home, url
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
            "HF_ENDPOINT": url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "PYTHONPATH": str(REPOSITORY),
        }
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "client.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=home,
            env=self.environment,
        )

    def run(
        self,
        *words: object,
        token: str | None = server.WRITE,
        longest_file: int | None = None,
        **env: str,
    ) -> Answer:
        """Run a command line."""
        asked = {"words": [str(word) for word in words]}
        return self._ask(asked, {"HF_TOKEN": token, **env}, longest_file)

    def code(self, text: str, *, token: str | None = server.WRITE, **env: str) -> Answer:
        """Run code that leaves its result in `found`."""
        return self._ask({"code": text}, {"HF_TOKEN": token, **env}, None)

    def forget(self) -> None:
        """Delete everything that was downloaded."""
        shutil.rmtree(self.home / "hub", ignore_errors=True)

    def _ask(
        self, asked: dict[str, Any], env: dict[str, str | None], longest_file: int | None
    ) -> Answer:
        assert self.process.stdin is not None and self.process.stdout is not None
        line = json.dumps({**asked, "env": env, "longest_file": longest_file})
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return Answer(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture(scope="session")
def running_hub() -> Iterator[Any]:
    with server.serve() as hub:
        yield hub


@pytest.fixture
def hub(running_hub: Any, tiny_encoder: Path, client: Client) -> Any:
    """An empty Hub but for the base model, and a client that has seen nothing of it."""
    running_hub.reset()
    client.forget()
    base = {path.name: path.read_bytes() for path in tiny_encoder.iterdir() if path.is_file()}
    base["README.md"] = b"---\nlicense: apache-2.0\n---\n# A base\n"
    running_hub.make("models/base/tiny", base)
    return running_hub


@pytest.fixture(scope="session")
def client(running_hub: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    found = Client(running_hub.url, tmp_path_factory.mktemp("hub_home"))
    yield found
    found.close()


def make_meta_model(encoder: Path, *, pooling: str = "native", **provenance: Any) -> MetaModel:
    """Build a start whose tensors are moved a little from where training begins."""
    settings = ModelSettings(
        model_name_or_path=str(encoder),
        revision=None,
        pooling=pooling,
        head="shared",
        prefix_text="",
        max_tokens=16,
        lora_r=2,
        lora_alpha=4.0,
        lora_layers=2,
        lora_target_modules=["query", "value"],
    )
    names = ("negative", "positive")
    objective = build_classifier(settings, labels=names, device="cpu", precision="no")
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: value + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in objective.meta_parameters(generator).items()
    }
    inner = InnerLoop(2, 0.01, "adam")
    return MetaModel(
        {"classification": objective},
        weights,
        settings,
        {"classification": Adaptation(inner, None, False)},
        provenance,
    )


TASKS = {
    "meta_train": ["nusax/ace", "nusax/min", "bangla_social/ben.social_media"],
    "meta_validation": ["nusax/sun"],
}
PROVENANCE = {
    "settings": {"adaptation": {"metric": "accuracy"}},
    "seed": 3,
    **TASKS,
    "data": describe_data(["nusax", "bangla_social"], TASKS),
    "outer_steps": 40,
    "best_step": 20,
    "best_score": 0.75,
    "examples": 48000,
}


@pytest.fixture(scope="session")
def meta(tiny_encoder: Path) -> MetaModel:
    return make_meta_model(tiny_encoder, **PROVENANCE)


@pytest.fixture(scope="session")
def saved(meta: MetaModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a start and of a model adapted from it."""
    root = tmp_path_factory.mktemp("saved")
    folders = {"meta": root / "meta", "adapted": root / "adapted"}
    meta.save_pretrained(folders["meta"])
    meta.adapt(TEXTS, LABELS, companion="ngrams").save_pretrained(folders["adapted"])
    return folders


@pytest.fixture
def support() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The texts and labels that were adapted to."""
    return TEXTS, LABELS


@pytest.fixture
def copies(saved: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copy a saved model, for a test to spoil."""

    def copy(name: str) -> Path:
        shutil.copytree(saved[name], tmp_path / name)
        return tmp_path / name

    return copy
