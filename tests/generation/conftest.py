"""Encoder-decoders of every family, tiny and made here, each with a tokenizer of its class."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?':"
WORDS = "the house river market doctor sleeps eats red big and two".split()
MAX_TOKENS = 60


def train_pieces(folder: Path) -> Path:
    """Train SentencePiece on a few words; it spells what it lacks."""
    import sentencepiece

    path = folder / "pieces.model"
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([*WORDS, LETTERS, " ".join(LETTERS)] * 20),
            model_writer=file,
            vocab_size=90,
            model_type="unigram",
            hard_vocab_limit=False,
            character_coverage=1.0,
            minloglevel=2,
        )
    return path


def list_pieces(path: Path) -> list[str]:
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [model.id_to_piece(place) for place in range(model.get_piece_size())]


def save_marian_tokenizer(folder: Path, *, tags: Sequence[str]) -> int:
    """Save a Marian tokenizer with tags of target languages; give its size."""
    import json
    import shutil

    from transformers import MarianTokenizer

    pieces = train_pieces(folder)
    names = [piece for piece in list_pieces(pieces) if piece not in ("<s>", "</s>", "<unk>")]
    order = ["</s>", "<unk>", *names, *(f">>{tag}<<" for tag in tags), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(order)}))
    for side in ("source.spm", "target.spm"):
        shutil.copyfile(pieces, folder / side)
    parts = (str(folder / name) for name in ("source.spm", "target.spm", "vocab.json"))
    MarianTokenizer(*parts, model_max_length=MAX_TOKENS).save_pretrained(folder)
    return len(order)


def save_marian(folder: Path, *, tags: Sequence[str] = ("jav", "ind", "sin_Latn")) -> None:
    from transformers import MarianConfig, MarianMTModel

    size = save_marian_tokenizer(folder, tags=tags)
    config = MarianConfig(
        vocab_size=size,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_position_embeddings=MAX_TOKENS,
        pad_token_id=size - 1,
        decoder_start_token_id=size - 1,
        eos_token_id=0,
        forced_eos_token_id=None,
        scale_embedding=True,
    )
    save_random(MarianMTModel(config), folder)


def save_nllb(folder: Path) -> None:
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    letters = {piece: i for i, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS])}
    codes = ["eng_Latn", "ind_Latn", "jav_Latn", "ace_Arab", "ace_Latn", "kas_Arab", "kas_Deva"]
    codes += ["swh_Latn", "npi_Deva", "sin_Sinh", "zho_Hans", "zho_Hant", "fra_Latn", "gaz_Latn"]
    tokenizer = NllbTokenizer(letters, [], extra_special_tokens=codes, model_max_length=MAX_TOKENS)
    tokenizer.save_pretrained(folder)
    config = M2M100Config(vocab_size=len(tokenizer), **bart_sizes(), decoder_start_token_id=2)
    save_random(M2M100ForConditionalGeneration(config), folder)


def save_m2m(folder: Path) -> None:
    import json

    from transformers import M2M100Config, M2M100ForConditionalGeneration, M2M100Tokenizer
    from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES

    pieces = train_pieces(folder)
    names = [piece for piece in list_pieces(pieces) if piece not in ("<s>", "</s>", "<unk>")]
    order = {name: i for i, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", *names])}
    (folder / "vocab.json").write_text(json.dumps(order))
    tokenizer = M2M100Tokenizer(
        str(folder / "vocab.json"),
        str(pieces),
        model_max_length=MAX_TOKENS,
        additional_special_tokens=[f"__{code}__" for code in FAIRSEQ_LANGUAGE_CODES["m2m100"]],
    )
    tokenizer.save_pretrained(folder)
    size = len(order) + len(tokenizer.lang_code_to_id) + tokenizer.num_madeup_words
    config = M2M100Config(vocab_size=size, **bart_sizes(), decoder_start_token_id=2)
    save_random(M2M100ForConditionalGeneration(config), folder)


def save_mbart(folder: Path) -> None:
    from transformers import MBartConfig, MBartForConditionalGeneration, MBartTokenizer

    special = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = MBartTokenizer(
        [*special, *((sign, -1.0) for sign in ("▁", *LETTERS))], model_max_length=MAX_TOKENS
    )
    tokenizer.save_pretrained(folder)
    config = MBartConfig(vocab_size=len(tokenizer), **bart_sizes())
    save_random(MBartForConditionalGeneration(config), folder)


def save_mbart50(folder: Path) -> None:
    from transformers import MBart50Tokenizer, MBartConfig, MBartForConditionalGeneration

    special = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = MBart50Tokenizer(
        [*special, *((sign, -1.0) for sign in ("▁", *LETTERS))],
        src_lang="en_XX",
        model_max_length=MAX_TOKENS,
    )
    tokenizer.save_pretrained(folder)
    config = MBartConfig(vocab_size=len(tokenizer), **bart_sizes(), decoder_start_token_id=2)
    save_random(MBartForConditionalGeneration(config), folder)


def save_t5(folder: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    special = [(name, 0.0) for name in ("<pad>", "</s>", "<unk>")]
    letters = [(sign, -1.0) for sign in ("▁", *LETTERS, *LETTERS.upper())]
    vocabulary = [*special, *dict(letters).items()]
    tokenizer = T5Tokenizer(vocabulary, extra_ids=0, model_max_length=MAX_TOKENS)
    tokenizer.save_pretrained(folder)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
    )
    save_random(T5ForConditionalGeneration(config), folder)


def bart_sizes() -> dict[str, int]:
    return {
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "max_position_embeddings": MAX_TOKENS + 4,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }


def save_random(model, folder: Path) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "positions" not in name:
            parameter.data.normal_(0.0, 0.3, generator=generator)
    model.save_pretrained(folder)


FAMILIES: dict[str, Callable[[Path], None]] = {
    "marian": save_marian,
    "nllb": save_nllb,
    "m2m": save_m2m,
    "mbart": save_mbart,
    "mbart50": save_mbart50,
    "t5": save_t5,
}


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of a tiny model of a family, made when first asked for."""
    made: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            FAMILIES[name](made[name])
        return made[name]

    return find


@pytest.fixture(scope="session")
def save_tiny_marian() -> Callable[..., None]:
    """Save a Marian model with the tags asked for."""
    return save_marian
