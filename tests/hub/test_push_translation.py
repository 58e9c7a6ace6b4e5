"""Models that find or write translations are pushed and pulled like those that classify."""

import json

import pytest
import torch

from nlp_meta.errors import MetaModelError
from nlp_meta.hub.pull import RECORD
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_generator, build_retriever
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.settings import ModelSettings, Seq2SeqSettings

NAME, PLACE = "me/javanese", "models/me/javanese"
SOURCES = [f"the {noun} {verb}" for noun in ("river", "house", "market") for verb in ("eats", "is")]
TARGETS = [" ".join(reversed(text.split())) for text in SOURCES]
LETTERS = "abcdefghijklmnopqrstuvwxyz:ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.fixture(scope="module")
def tiny_t5(tmp_path_factory):
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    folder = tmp_path_factory.mktemp("t5")
    special = [(name, 0.0) for name in ("<pad>", "</s>", "<unk>")]
    tokenizer = T5Tokenizer([*special, *((sign, -1.0) for sign in ("▁", *LETTERS))], extra_ids=0)
    tokenizer.save_pretrained(folder)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, **sizes)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def start(tiny_t5):
    settings = Seq2SeqSettings(
        model_name_or_path=str(tiny_t5),
        revision=None,
        max_tokens=40,
        lora_r=2,
        lora_alpha=4.0,
        lora_sides="both",
        lora_layers=None,
        lora_target_modules=None,
        label_smoothing=0.1,
        num_beams=1,
    )
    objective = build_generator(settings, precision="no")
    weights = objective.meta_parameters(torch.Generator().manual_seed(0))
    inner = InnerLoop(2, 0.05, "adam")
    told = {"examples": 12, "meta_train": ["flores/ind-min"], "outer_steps": 3}
    return MetaModel(
        {"generation": objective},
        weights,
        settings,
        {"generation": Adaptation(inner, None, False)},
        told,
    )


def serve_base(hub, name, folder):
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    hub.make(f"models/{name}", {**files, "README.md": b"---\nlicense: mit\n---\n# A base\n"})


def test_a_start_that_writes_is_pushed_pulled_adapted_and_pushed_again(
    hub, client, start, tiny_t5, tmp_path
):
    serve_base(hub, "base/t5", tiny_t5)
    start.save_pretrained(tmp_path / "start")
    code = (
        "from nlp_meta import GenerationModel, MetaModel\n"
        f"start = MetaModel.from_pretrained({str(tmp_path / 'start')!r}, device='cpu')\n"
        f"first = start.push_to_hub('{NAME}', hub_base_model='base/t5')\n"
        f"start = MetaModel.from_pretrained('{NAME}', device='cpu')\n"
        f"sources, targets = {SOURCES}, {TARGETS}\n"
        "model = start.adapt_to_pairs(sources, targets, source_lang='eng', target_lang='jav')\n"
        "model.push_to_hub('me/adapted', hub_base_model='base/t5')\n"
        "pulled = GenerationModel.from_pretrained('me/adapted', device='cpu')\n"
        f"ours, theirs = model.translate({SOURCES}), pulled.translate({SOURCES})\n"
        "found = [first.commit, ours, theirs, pulled.source.name, pulled.provenance]"
    )

    answer = client.code(code)

    assert answer.value != "raised", answer.err
    commit, ours, theirs, name, provenance = answer.value
    assert ours == theirs
    assert name == "me/adapted"
    assert provenance["meta_model"] == {"name": NAME, "commit": commit}
    assert provenance["meta_train"] == ["flores/ind-min"]
    card = hub.files("models/me/adapted")["README.md"].decode()
    assert f"Adapted from `{NAME}` at commit `{commit}`" in card


def test_a_model_that_finds_pairs_is_pushed_and_pulled(hub, client, tiny_encoder, tmp_path):
    settings = ModelSettings(
        model_name_or_path=str(tiny_encoder),
        revision=None,
        pooling="mean",
        head="shared",
        prefix_text="",
        max_tokens=16,
        lora_r=2,
        lora_alpha=4.0,
        lora_layers=2,
        lora_target_modules=["query", "value"],
    )
    objective = build_retriever(settings, device="cpu", precision="no")
    weights = objective.meta_parameters(torch.Generator().manual_seed(0))
    inner, told = InnerLoop(2, 0.01, "adam"), {"examples": 8}
    start = MetaModel(
        {"retrieval": objective},
        weights,
        settings,
        {"retrieval": Adaptation(inner, None, False)},
        told,
    )
    adapted = start.adapt_to_pairs(SOURCES, TARGETS, source_lang="eng", target_lang="jav")
    adapted.save_pretrained(tmp_path / "pairs")
    code = (
        "from nlp_meta.models.retrieval import RetrievalModel\n"
        f"model = RetrievalModel.from_pretrained({str(tmp_path / 'pairs')!r}, device='cpu')\n"
        f"model.push_to_hub('{NAME}', hub_base_model='base/tiny')\n"
        f"found = RetrievalModel.from_pretrained('{NAME}', device='cpu')"
        f".embed({SOURCES}).tolist()"
    )

    answer = client.code(code)

    assert answer.value != "raised", answer.err
    torch.testing.assert_close(torch.tensor(answer.value), adapted.embed(SOURCES))


@pytest.mark.parametrize("change", ["one more", "one fewer"])
def test_a_record_of_other_keys_is_refused_in_words(start, tmp_path, change):
    start.save_pretrained(tmp_path / "start")
    path = tmp_path / "start" / RECORD
    record = json.loads(path.read_text(encoding="utf-8"))
    if change == "one more":
        record["model"]["beams"] = 2
    else:
        del record["model"]["lora_sides"]
    path.write_text(json.dumps(record), encoding="utf-8")

    with pytest.raises(MetaModelError, match="was changed since it was saved"):
        MetaModel.from_pretrained(tmp_path / "start")
