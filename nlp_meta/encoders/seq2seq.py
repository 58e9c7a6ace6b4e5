"""Encoder-decoders: pretrained, frozen, with what it takes to tell them their languages.

Weights are read from safetensors only, are never changed, and the model stays in
evaluation mode: dropout would be a random input that nobody passed.

Each family wants its languages otherwise. NLLB, M2M-100 and mBART have a token for each
language, set on the tokenizer and at the head of the decoder; T5 reads a sentence
(`translate Indonesian to Javanese: `); Marian, the small model of this package and MADLAD
read a tag of the target language, where their vocabulary has such tags. A code is the
model's own (`jav_Latn`) or any that `parse_tag` reads (`jav`, `jv`, `sin_Sinh`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from nlp_meta.data.clock import Clock
from nlp_meta.data.languages import LanguageTag, common_codes, name_language, parse_tag, split_pair
from nlp_meta.encoders.backbone import (
    Turn,
    check_length,
    check_vocabulary,
    copy_apart,
    load_config,
    load_network,
    load_tokenizer,
    loading,
    reading,
)
from nlp_meta.errors import BackboneError

CODED = ("m2m_100", "nllb-moe", "mbart")
WORDED = ("t5", "mt5", "umt5", "longt5", "switch_transformers")
TAGS = (re.compile(r">>(\w+)<<"), re.compile(r"<2(\w+)>"))
"""A target language in the vocabulary, as Marian and as MADLAD write it."""
UNDETERMINED = "und"
"""ISO 639-3 for a language that is not known; a model with this tag takes any language."""
_LANGUAGE = re.compile(r"[a-z]{3}")
"""Any language as ISO 639-3 has it; of two letters `parse_tag` knows them all."""
_CODE = re.compile(r"[a-z]{2,3}_[A-Z][A-Za-z]{1,3}")
_UNUSUAL = {"ns": "nso"}
"""Codes that are M2M-100's alone, in ISO 639-3."""


@dataclass(frozen=True, slots=True)
class Languages:
    """What one model says of languages.

    Attributes:
        name: The model, as the user typed it.
        known: The model's own codes, to the id of their token or to the tag in the text;
            empty where it tells no languages apart.
        begin: Id that its decoder begins with.
        last: The target's code stands at the end of the labels and the decoder begins with it.
    """

    name: str
    family: str
    known: Mapping[str, int | str]
    begin: int
    last: bool = False


@dataclass(frozen=True, slots=True)
class Direction:
    """How one model is told from which language to which it translates.

    Attributes:
        source, target: The model's own codes; None where it has none.
        prefix_text: Put before every source text; may be empty.
        start: Ids that decoding begins with.
        is_new: The model has no code for the target and takes it as undetermined.
    """

    source: str | None
    target: str | None
    prefix_text: str
    start: tuple[int, ...]
    is_new: bool = False


def read_languages(
    config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, *, name: str, begin: int
) -> Languages:
    """Find out how a model wants its languages, and which it has."""
    if config.model_type in CODED:
        known = _codes(tokenizer)
        last = config.model_type == "mbart" and _ends_with_code(tokenizer, known)
        return Languages(name, "codes", known, begin, last)
    tags = _tags(tokenizer)
    if tags:
        return Languages(name, "tags", tags, begin)
    if config.model_type in WORDED:
        return Languages(name, "words", {}, begin)
    return Languages(name, "none", {}, begin)


def find_direction(languages: Languages, source: str, target: str) -> Direction:
    """Tell a model its language pair.

    Args:
        source, target: ISO 639, with a script where that matters, or the model's own codes.

    Raises:
        BackboneError: The model has no such language, or takes any and this is no language's
            code; lists the near ones.
    """
    begin = languages.begin
    if languages.family == "codes":
        source, target = _find(languages, source, "from"), _find(languages, target, "to")
        token = int(languages.known[target])
        start = (token,) if languages.last else (begin, token)
        return Direction(source, target, "", start)
    if languages.family == "words":
        names = [_name(languages, code, side) for code, side in ((source, "from"), (target, "to"))]
        return Direction(None, None, f"translate {names[0]} to {names[1]}: ", (begin,))
    _check_code(languages, source, "from")
    _check_code(languages, target, "to")
    if languages.family == "tags":
        # Such models read the tag of the target alone.
        new = _match(target, languages) is None and UNDETERMINED in languages.known
        code = UNDETERMINED if new else _find(languages, target, "to")
        return Direction(None, code, f"{languages.known[code]} ", (begin,), new)
    return Direction(None, None, "", (begin,))


def _find(languages: Languages, code: str, side: str) -> str:
    known = _match(code, languages)
    if known is None:
        raise _unknown(languages, code, side, needed="one of the model's languages")
    return known


def _check_code(languages: Languages, code: str, side: str) -> None:
    """Refuse what is no language at all, where the model itself would not notice."""
    if _match(code, languages) is None and not _LANGUAGE.fullmatch(parse_tag(code).language):
        raise _unknown(languages, code, side, needed="the code of a language")


def _unknown(languages: Languages, code: str, side: str, *, needed: str) -> BackboneError:
    option = "source_lang" if side == "from" else "target_lang"
    return BackboneError(
        f"cannot translate {side} '{code}' with '{languages.name}': {needed} is needed, such as "
        f"{', '.join(near_codes(languages, code))}; change `{option}`, or leave such tasks out "
        "(`data.exclude`)"
    )


def _match(code: str, languages: Languages) -> str | None:
    """The model's own code for a language; None where it has none, or several scripts of it."""
    if code in languages.known:
        return code
    wanted = parse_tag(code)
    fitting = [
        known
        for known in languages.known
        if (tag := _parse(known)).language == wanted.language
        and wanted.script in (None, tag.script)
    ]
    written = [known for known in fitting if _language(known) == _language(code)]
    latin = [known for known in written or fitting if known.endswith("_Latn")]
    left = latin or written or fitting
    return left[0] if len(left) == 1 else None


def _name(languages: Languages, code: str, side: str) -> str:
    """The English name of a language; one that is written with a capital stands for itself."""
    if code[:1].isupper():
        return code.replace("_", "-")  # a pair has no other hyphen than its own
    name = name_language(code)
    if name == code:
        raise _unknown(languages, code, side, needed="one of the model's languages")
    return name


def near_codes(languages: Languages, code: str) -> list[str]:
    """Up to five of the model's codes, the most alike first; scripts of the same one before all."""
    wanted = {_language(code), parse_tag(code).language}

    def likeness(known: str) -> float:
        names = (_language(known), _parse(known).language)
        return max(SequenceMatcher(None, name, near).ratio() for name in wanted for near in names)

    codes = [known for known in languages.known or common_codes() if known != UNDETERMINED]
    return sorted(codes, key=lambda known: (-likeness(known), known))[:5]


def _parse(known: str) -> LanguageTag:
    return parse_tag(_UNUSUAL.get(known, known))


def _language(code: str) -> str:
    return code.partition("_")[0]


def _codes(tokenizer: Any) -> dict[str, int]:
    """Codes of NLLB and mBART are tokens; those of M2M-100 stand between underscores."""
    if hasattr(tokenizer, "get_lang_id"):
        return {code: int(tokenizer.get_lang_id(code)) for code in tokenizer.lang_code_to_token}
    added = tokenizer.get_added_vocab()
    return {token: int(place) for token, place in added.items() if _CODE.fullmatch(token)}


def _tags(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    matches = ((tag.fullmatch(token), token) for token in tokenizer.get_vocab() for tag in TAGS)
    return {match[1]: token for match, token in matches if match}


def _ends_with_code(tokenizer: Any, known: Mapping[str, int]) -> bool:
    """Whether labels end with the target's code, as the first mBART had it, or begin with it."""
    tokenizer.tgt_lang = next(iter(known))
    labels = tokenizer(text_target="")["input_ids"]
    return bool(labels[-1] == known[tokenizer.tgt_lang])


@dataclass(frozen=True, slots=True)
class Seq2Seq:
    """A frozen encoder-decoder and what is needed to feed and to adapt it.

    Attributes:
        name: Hub id or folder, as the user typed it; what an adapter is saved for.
        max_tokens: Longer texts are cut; special tokens count.
        pooling: Its own form is what an adapter is saved for.
        clock: Charged for what is kept of its texts.
        running, reading: Turns of whoever runs the model, and of whoever uses its tokenizer;
            who takes both takes `running` first.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    languages: Languages
    max_tokens: int
    pooling: str = "native"
    clock: Clock = field(default_factory=Clock, compare=False, repr=False)
    running: Turn = field(default_factory=Turn, compare=False, repr=False)
    reading: Turn = field(default_factory=Turn, compare=False, repr=False)

    __deepcopy__ = copy_apart

    @property
    def config(self) -> PretrainedConfig:
        return self.model.config

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def encoder(self) -> Any:
        """The half that reads; what it holds depends on its family."""
        return self.model.get_encoder()

    @property
    def padding(self) -> int:
        """Id that fills short rows."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if isinstance(pad, int) else 0


def load_seq2seq(
    name: str,
    *,
    max_tokens: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
    token: str | None = None,
) -> Seq2Seq:
    """Load a pretrained encoder-decoder and freeze it.

    Args:
        name: Hub id or a folder.
        dtype: Of the frozen weights. transformers 5 would otherwise take the checkpoint's.
        token: For a private model on the Hub; None takes HF_TOKEN, or the login.

    Raises:
        BackboneError: No such model, no safetensors, or a model that takes fewer tokens.
    """
    device = torch.device(device)
    hub_options: dict[str, Any] = {"revision": revision or "main", "token": token}
    with reading(f"the encoder-decoder '{name}'", setting="`model.model_name_or_path`"):
        tokenizer = load_tokenizer(name, **hub_options)
        config = load_config(name, **hub_options)
        model = load_network(
            AutoModelForSeq2SeqLM,
            name,
            dtype=dtype,
            attn_implementation="eager" if device.type == "cpu" else None,
            **hub_options,
        )
        check_vocabulary(model, tokenizer)
    check_length(name, config, tokenizer, max_tokens)
    model.requires_grad_(False).eval().to(device)
    languages = read_languages(config, tokenizer, name=name, begin=_begin(name, model))
    return Seq2Seq(model, tokenizer, name, languages, max_tokens)


def skeleton(backbone: Seq2Seq) -> PreTrainedModel:
    """Build the architecture without memory, for PEFT to look at."""
    with loading(), torch.device("meta"):
        model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(
            backbone.config, trust_remote_code=False
        )
    return model


def direct(backbone: Seq2Seq, pair: str) -> Direction:
    """Tell a backbone a language pair such as `ind-jav`; see `find_direction` for errors."""
    return find_direction(backbone.languages, *split_pair(pair))


def tokenize_sources(backbone: Seq2Seq, texts: Sequence[str], direction: Direction) -> list[Tensor]:
    """Ids of source texts as the encoder takes them, cut at `max_tokens`."""
    sources = [direction.prefix_text + text for text in texts]
    return _tokenize(backbone, direction, text=sources)


def tokenize_targets(backbone: Seq2Seq, texts: Sequence[str], direction: Direction) -> list[Tensor]:
    """Ids of translations as the decoder is to write them, cut at `max_tokens`."""
    return _tokenize(backbone, direction, text_target=list(texts))


def _tokenize(backbone: Seq2Seq, direction: Direction, **texts: list[str]) -> list[Tensor]:
    if not next(iter(texts.values())):
        return []
    with backbone.reading():
        # A tokenizer keeps its languages as state, so every use sets them first.
        if direction.source is not None:
            backbone.tokenizer.src_lang = direction.source
            backbone.tokenizer.tgt_lang = direction.target
        encoded = backbone.tokenizer(
            **texts, truncation=True, max_length=backbone.max_tokens, padding=False
        )
    return [torch.tensor(ids, dtype=torch.long) for ids in encoded["input_ids"]]


def _begin(name: str, model: PreTrainedModel) -> int:
    config, decoding = model.config, model.generation_config
    token_ids = [getattr(place, "decoder_start_token_id", None) for place in (config, decoding)]
    token_ids += [getattr(place, "bos_token_id", None) for place in (config, decoding)]
    known = [token for token in token_ids if isinstance(token, int)]
    if not known:
        raise BackboneError(
            f"cannot decode with '{name}': its config has no `decoder_start_token_id`, which an "
            "encoder-decoder needs; change `model.model_name_or_path`"
        )
    return known[0]
