"""Pretrained models and tokenizers of others: weights are read, code is never run.

All is loaded inside of `reading`, which makes one error of the many that libraries raise.
Whatever a repository or a folder asks for, only classes of transformers itself are used and
only safetensors (or GGUF) are read; pickles and modules of the repository are not. Nobody is
asked on the terminal.

One thread at a time uses an encoder, and one thread at a time loads models.

A pass puts hooks on the layers of an encoder, and a tokenizer keeps its options as state, so
models that share them take turns. A turn is one pass: whoever adapts for minutes lets others
answer in between. Libraries change torch itself while they load, so loads take turns too.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase
from transformers.utils.peft_utils import find_adapter_config_file

from nlp_meta.errors import BackboneError
from nlp_meta.progress import quiet_transformers


class Turn:
    """A lock that all models of one load share; a thread may take it again while it has it.

    A forked process finds it free, whichever thread of its parent had it at that moment.
    """

    def __init__(self) -> None:
        self._locks: dict[int, Any] = {}

    def __call__(self) -> Any:
        """Give the lock, to be taken by `with`."""
        return self._locks.setdefault(os.getpid(), threading.RLock())

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
        path,
        use_safetensors=True,
        output_loading_info=True,
        trust_remote_code=False,
        **options,
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
