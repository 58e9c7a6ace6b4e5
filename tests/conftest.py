"""What every test shares: no network, one thread, tiny encoders, the real data if it is there."""

import atexit
import os
import shutil
import string
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nlp_meta.models.meta_model import MetaModel

# Libraries read these when they are imported, so they are set before any of them is.
HF_HOME = tempfile.mkdtemp(prefix="nlp_meta_tests_")
atexit.register(shutil.rmtree, HF_HOME, ignore_errors=True)
os.environ.update(
    HF_HOME=HF_HOME,
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_EVALUATE_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",  # tiny models only wait for a second thread
    MKL_NUM_THREADS="1",
)
for cache in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE", "HF_EVALUATE_CACHE"):
    os.environ.pop(cache, None)  # each would win over HF_HOME

WORDS = (
    "the a an and or not but is was it this that i we my very never again good bad great awful "
    "loved hated slow fast cold warm quiet loud small cheap house agent phone battery food staff "
    "room plot brake service money"
).split()
HIDDEN, LAYERS, HEADS, INTERMEDIATE, POSITIONS = 32, 4, 2, 64, 128


def save_tiny_tokenizer(folder: Path, special: Sequence[str], *, pair: Sequence[str]) -> int:
    """Save a WordPiece tokenizer that spells the words it lacks, and return its size.

    Args:
        special: The padding, unknown and mask tokens and the `pair`, in the order of their ids.
        pair: What stands before and after a text.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    signs = string.ascii_lowercase + string.digits + ".,!?'-$"
    pieces = [*special, *signs, *(f"##{sign}" for sign in signs), *WORDS]
    ids = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    named = {name.strip("<[]>").lower(): name for name in special}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=named["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    begin, end = pair
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} $B {end}",
        special_tokens=[(begin, ids[begin]), (end, ids[end])],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=named["pad"],
        unk_token=named["unk"],
        mask_token=named["mask"],
        cls_token=begin,
        sep_token=end,
        model_max_length=POSITIONS,
    ).save_pretrained(folder)
    return len(ids)


def save_tiny_model(model: "PreTrainedModel", folder: Path) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:  # wide enough that texts differ in their states
            parameter.data.normal_(0.0, 0.2, generator=generator)
    model.save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a random BERT of four layers, with its tokenizer, in safetensors."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny_encoder")
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    size = save_tiny_tokenizer(folder, special, pair=("[CLS]", "[SEP]"))
    config = BertConfig(
        vocab_size=size,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INTERMEDIATE,
        max_position_embeddings=POSITIONS,
        pad_token_id=0,
    )
    save_tiny_model(BertModel(config), folder)
    return folder


@pytest.fixture(scope="session")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a random XLM-R of four layers; its positions start behind the padding index, 1."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    folder = tmp_path_factory.mktemp("tiny_roberta")
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    size = save_tiny_tokenizer(folder, special, pair=("<s>", "</s>"))
    config = XLMRobertaConfig(
        vocab_size=size,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INTERMEDIATE,
        max_position_embeddings=POSITIONS + 2,
        type_vocab_size=1,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    save_tiny_model(XLMRobertaModel(config), folder)
    return folder


@pytest.fixture(scope="session")
def tiny_start(tiny_encoder: Path) -> "MetaModel":
    """A start of two skills, whose tensors are moved a little from where training begins."""
    import torch

    from nlp_meta.meta.inner_loop import InnerLoop
    from nlp_meta.models.adaptation import Adaptation
    from nlp_meta.models.meta_model import MetaModel
    from nlp_meta.models.skills import build_objectives
    from nlp_meta.settings import ModelSettings

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
    skills, labels = ("classification", "retrieval"), ("negative", "positive")
    objectives = build_objectives(settings, skills, labels=labels, device="cpu", precision="no")
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: value + 0.1 * torch.randn(value.shape, generator=generator)
        for objective in objectives.values()
        for name, value in objective.meta_parameters(generator).items()
    }
    how = Adaptation(InnerLoop(2, 0.01, "adam"), None, early_stop=True)
    return MetaModel(objectives, weights, settings, dict.fromkeys(skills, how))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Find the real corpora: `NLP_META_DATA`, or `shared/data` beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("NLP_META_DATA") or beside)
    if not root.is_dir():
        pytest.skip("the real corpora are not here; set NLP_META_DATA to their folder")
    return root
