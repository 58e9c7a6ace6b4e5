"""A saved model, read by PEFT alone in a fresh process, predicts the same.

What is run there is the code of the saved README.md, word for word: it must not need
this package, and it must not be wrong.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.prefix import whole_network
from nlp_meta.meta.inner_loop import InnerLoop, repeat
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.settings import ModelSettings

pytestmark = pytest.mark.slow

SUPPORT = ("the agent was great", "i loved it", "awful food, slow staff", "never again", "a room")
TEXTS = ("good", "a bad plot and an awful brake, but the phone is cheap", "great " * 40, "42!")
LENGTH = 24

CASES = {
    "bert": {"encoder": "tiny_encoder"},
    "bert_prefix": {"encoder": "tiny_encoder", "prefix_text": "query: "},
    "bert_three_new_labels": {"encoder": "tiny_encoder", "labels": "abcab"},
    "bert_mean": {"encoder": "tiny_encoder", "pooling": "mean", "prefix_text": "query: "},
    "roberta": {"encoder": "tiny_roberta"},
    "roberta_mean": {"encoder": "tiny_roberta", "pooling": "mean"},
}
# Runs in the fresh process: the README's lines with `folder`, `base` and `texts` given.
SCRIPT = """
import json, sys
folders, texts = json.load(sys.stdin)
found = {}
for name, (folder, base, code) in folders.items():
    values = {"folder": folder, "base": base, "texts": texts}
    exec(code, values)
    found[name] = {"probabilities": values["probabilities"].tolist()}
    if "answers" in values:
        found[name]["logits"] = values["model"](**values["inputs"]).logits.tolist()
        found[name]["answers"] = values["answers"]
assert "nlp_meta" not in sys.modules
print(json.dumps(found))
"""


def adapt(
    encoder: Path, *, pooling: str = "native", prefix_text: str = "", labels: str = "ppnnn"
) -> AdaptedModel:
    settings = ModelSettings(
        model_name_or_path=str(encoder),
        revision=None,
        pooling=pooling,
        head="shared",
        prefix_text=prefix_text,
        max_tokens=LENGTH,
        lora_r=2,
        lora_alpha=4.0,
        lora_layers=2,
        lora_target_modules=["query", "value", "dense"],
    )
    objective = build_classifier(settings, labels=("n", "p"), device="cpu", precision="no")
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: value + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in objective.meta_parameters(generator).items()
    }
    inner = InnerLoop(3, 0.01, "adam")
    meta = MetaModel(
        {"classification": objective},
        weights,
        settings,
        {"classification": Adaptation(inner, None, False)},
        {},
    )
    # One example more of the third label, so that each has two.
    return meta.adapt((*SUPPORT, "loud"), [*labels, labels[2]], companion="ngrams")


def logits(model: AdaptedModel) -> torch.Tensor:
    """What the classifier gives, one text after another, without n-grams."""
    objective = replace(model.objective, network=whole_network(model.objective.backbone))
    weights, rows = repeat(model.weights, tasks=1), []
    for text in TEXTS:
        asked = Episode("texts", objective.labels, (), (Example(text, ""),), 0)
        (batch,) = objective.query_batches([asked])
        rows.append(objective.run(weights, batch))
    return torch.cat(rows).detach()


@pytest.fixture(scope="module")
def models(tiny_encoder, tiny_roberta) -> dict[str, AdaptedModel]:
    encoders = {"tiny_encoder": tiny_encoder, "tiny_roberta": tiny_roberta}
    return {
        name: adapt(encoders[case["encoder"]], **{k: v for k, v in case.items() if k != "encoder"})
        for name, case in CASES.items()
    }


@pytest.fixture(scope="module")
def answers(models, tmp_path_factory) -> dict[str, dict[str, list[list[float]]]]:
    """Answers of one fresh process to `TEXTS`, for every case."""
    root = tmp_path_factory.mktemp("plain_peft")
    folders = {}
    for name, model in models.items():
        model.save_pretrained(root / name)
        base = model.objective.backbone.name
        config = (root / name / "adapter_config.json").read_text(encoding="utf-8")
        assert json.loads(config)["base_model_name_or_path"] == Path(base).name
        assert str(Path(base).parent) not in config
        folders[name] = (str(root / name), base, peft_lines(root / name))
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps([folders, TEXTS]),
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def peft_lines(folder: Path) -> str:
    """The README's block of code that does without this package."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (plain,) = (block for block in blocks if "from peft import" in block)
    assert "nlp_meta" not in plain
    return plain


@pytest.mark.parametrize("name", CASES)
def test_plain_peft_gives_the_same_probabilities(models, answers, name):
    """PEFT gives the encoder alone, although n-grams are stored beside it."""
    model = replace(models[name], companion=None)
    ours = [
        [answer.probabilities[label] for label in model.labels] for answer in model.predict(TEXTS)
    ]

    torch.testing.assert_close(
        torch.tensor(answers[name]["probabilities"]), torch.tensor(ours), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("name", [name for name in CASES if not name.endswith("mean")])
def test_plain_peft_gives_the_same_logits(models, answers, name):
    theirs = torch.tensor(answers[name]["logits"])

    torch.testing.assert_close(theirs, logits(models[name]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if not name.endswith("mean")])
def test_pipeline_of_the_card_gives_the_same_labels(models, answers, name):
    """A pipeline takes its names from the card's line: an adapter alone holds none."""
    ours = replace(models[name], companion=None).predict(TEXTS)

    for theirs, answer in zip(answers[name]["answers"], ours, strict=True):
        assert theirs["label"] == answer.label
        assert theirs["score"] == pytest.approx(answer.probabilities[answer.label], abs=1e-5)


def test_answers_differ_between_texts_and_models(answers):
    """Otherwise the comparisons above would say nothing."""
    rows = torch.tensor([answers[name]["probabilities"] for name in ("bert", "roberta")])

    assert (rows[0] - rows[1]).abs().max() > 1e-3
    assert (rows[0][0] - rows[0][1]).abs().max() > 1e-3
