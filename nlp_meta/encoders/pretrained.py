"""Pretrained models and tokenizers of others: weights are read, code is never run.

All is loaded inside of `reading`, which makes one error of the many that libraries raise.
Whatever a repository or a folder asks for, only classes of transformers itself are used and
only safetensors (or GGUF) are read; pickles and modules of the repository are not. Nobody is
asked on the terminal.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase
from transformers.utils.peft_utils import find_adapter_config_file

from nlp_meta.encoders.turns import loading
from nlp_meta.errors import BackboneError

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
