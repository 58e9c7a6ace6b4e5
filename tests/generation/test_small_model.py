"""A small encoder-decoder from nothing: its vocabulary, its pairs, its training."""

import json
from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer

from nlp_meta.data.tasks import Example, Task
from nlp_meta.encoders.batches import PairRow
from nlp_meta.errors import BackboneError, CheckpointError, SettingsError
from nlp_meta.settings import (
    CorpusSettings,
    DataSettings,
    OuterSettings,
    RunSettings,
    SmallModelSettings,
    SmallTraining,
)
from nlp_meta.training.small_corpus import (
    Corpus,
    Pair,
    deal_batches,
    gather_pairs,
    target_languages,
)
from nlp_meta.training.small_model import save_vocabulary, train_small_model
from nlp_meta.training.small_seq2seq import (
    build_around_encoder,
    build_marian,
    save_marian_vocabulary,
    save_trimmed_vocabulary,
)

NOUNS = "house river market doctor garden window letter river teacher bridge".split()
VERBS = "sleeps eats runs falls sings opens waits burns grows moves".split()
TEXTS = [f"the {noun} {verb} and the {verb}" for noun in NOUNS for verb in VERBS]


def make_task(language: str, *, first: int = 0, count: int = 40) -> Task:
    """Sentences and the same with each word turned around, which is a language too."""
    pairs = tuple(
        Example(text, " ".join(word[::-1] for word in text.split()))
        for text in TEXTS[first : first + count]
    )
    return Task(f"made/{language}", "translation", language, "made", "meta-train", (), pairs, ())


def make_settings(folder, **options) -> SmallTraining:
    outer = {"steps": 6, "checkpoint_every": 2, "average_last": 0, "validate_every": 3}
    outer |= {"learning_rate": 0.01}
    return SmallTraining(
        DataSettings([], None, "files", {}, []),
        SmallModelSettings(None, 300, 16, 1, 1, 2, 24, 0.1, 40),
        CorpusSettings(True, 0.2, 0.2, 6, 0.1),
        OuterSettings(
            algorithm="joint",
            meta_batch_size=2,
            stack=1,
            optimizer="AdamW",
            options={},
            warmup_steps=2,
            schedule="cosine",
            max_gradient_norm=1.0,
            patience=None,
            **{**outer, **options},
        ),
        RunSettings(0, str(folder), None, "no", 400, None, [], False),
    )


def train(settings, **options):
    tasks = [make_task("eng-abc"), make_task("eng-xyz", first=30)]
    return train_small_model(settings, tasks, accelerator=Accelerator(cpu=True), **options)


def weights_of(trained):
    return {name: value.clone() for name, value in trained.backbone.model.state_dict().items()}


@pytest.fixture(scope="module")
def unigram_encoder(tmp_path_factory):
    """A random BERT of three layers with a unigram vocabulary, as multilingual-e5-small has."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("unigram")
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = [chr(place) for place in range(ord("a"), ord("z") + 1)]
    pieces = [*special, "▁", *letters, "▁the", "▁and", "▁zebra", "▁quartz", *map(str, range(10))]
    vocabulary = [(piece, -float(place)) for place, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in (*special, "<mask>")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
    ).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    config = BertConfig(
        vocab_size=len(pieces) + 1, num_hidden_layers=3, max_position_embeddings=30, **sizes
    )
    model = BertModel(config, add_pooling_layer=False)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.5)
    model.save_pretrained(folder)
    return str(folder)


def test_vocabulary_has_tags_and_spells_what_it_never_saw(tmp_path):
    tokenizer = save_marian_vocabulary(
        tmp_path, TEXTS, languages=["jav", "ind"], size=300, max_tokens=40
    )
    loaded = AutoTokenizer.from_pretrained(tmp_path)

    assert len(tokenizer) == len(loaded) == 300
    assert {">>jav<<", ">>ind<<", ">>und<<"} <= set(loaded.get_vocab())
    ids = loaded(">>jav<< the doctor ሰላም")["input_ids"]
    assert loaded.unk_token_id not in ids
    assert loaded.decode(ids[1:], skip_special_tokens=True) == "the doctor ሰላም"


def test_a_vocabulary_that_texts_do_not_fill_stops(tmp_path):
    with pytest.raises(SettingsError, match=r"small_model\.vocabulary"):
        save_marian_vocabulary(tmp_path, TEXTS, languages=[], size=9000, max_tokens=40)


def test_marian_of_the_config_in_the_recipes_has_about_ten_million_weights(tmp_path):
    """By hand: 8000 x 256, four layers of 4h^2 + 2hf, three of 8h^2 + 2hf, h 256 and f 1024."""
    tokenizer = save_marian_vocabulary(tmp_path, TEXTS, languages=[], size=300, max_tokens=40)

    model = build_marian(
        tokenizer,
        hidden=256,
        encoder_layers=4,
        decoder_layers=3,
        attention_heads=4,
        feed_forward=1024,
        dropout=0.1,
        max_tokens=40,
        seed=0,
    )

    matrices = sum(
        v.numel() for n, v in model.named_parameters() if v.dim() > 1 and v.shape[0] > 40
    )
    by_hand = 4 * (4 * 256**2 + 2 * 256 * 1024) + 3 * (8 * 256**2 + 2 * 256 * 1024)
    assert matrices == 300 * 256 + by_hand
    assert 8e6 < 8000 * 256 + by_hand < 12e6
    assert model.lm_head.weight is model.model.encoder.embed_tokens.weight


def test_a_pretrained_encoder_is_held_weight_for_weight(unigram_encoder, tmp_path):
    """By the other route: the encoder itself, with its own vocabulary."""
    save_trimmed_vocabulary(
        tmp_path, TEXTS, encoder=unigram_encoder, languages=["jav"], size=1000, max_tokens=28
    )
    whole = AutoTokenizer.from_pretrained(unigram_encoder)
    trimmed = AutoTokenizer.from_pretrained(tmp_path)
    encoder = AutoModel.from_pretrained(unigram_encoder, dtype=torch.float32).eval()

    model = build_around_encoder(
        unigram_encoder,
        trimmed,
        encoder_layers=3,
        decoder_layers=1,
        dropout=0.1,
        seed=0,
    ).eval()

    assert len(trimmed) < len(whole)
    assert "▁zebra" not in trimmed.get_vocab()
    for text in TEXTS[:3]:
        theirs, ours = whole(text, return_tensors="pt"), trimmed(text, return_tensors="pt")
        names = [whole.convert_ids_to_tokens(theirs["input_ids"][0])]
        assert names == [trimmed.convert_ids_to_tokens(ours["input_ids"][0])]
        states = model.get_encoder()(input_ids=ours["input_ids"]).last_hidden_state
        torch.testing.assert_close(
            states,
            encoder(input_ids=theirs["input_ids"]).last_hidden_state,
            rtol=1e-3,
            atol=1e-3,  # the two norms have different epsilons
        )
    assert trimmed.convert_ids_to_tokens(trimmed(">>jav<< the")["input_ids"])[1] == ">>jav<<"


def test_a_smaller_vocabulary_keeps_the_frequent_pieces_and_every_character(
    unigram_encoder, tmp_path
):
    vocabularies = []
    for size in (1000, 0):
        folder = tmp_path / str(size)
        tokenizer = save_trimmed_vocabulary(
            folder, TEXTS, encoder=unigram_encoder, languages=[], size=size, max_tokens=28
        )
        vocabularies.append(tokenizer.get_vocab())
        for text in TEXTS[:3]:
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text
    every, characters = vocabularies
    assert characters.keys() < every.keys()
    # Without room for pieces, only characters stand beside the special tokens.
    assert all(len(piece) == 1 or piece[0] in "<>" for piece in characters)

    middle = save_trimmed_vocabulary(
        tmp_path / "middle",
        TEXTS,
        encoder=unigram_encoder,
        languages=[],
        size=len(characters),  # without the tag there is room for one piece
        max_tokens=28,
    ).get_vocab()
    kept = middle.keys() - characters.keys()
    whole = AutoTokenizer.from_pretrained(unigram_encoder)
    counts = Counter(piece for text in TEXTS for piece in whole.tokenize(text))
    left = every.keys() - middle.keys()
    assert kept and min(counts[one] for one in kept) >= max(counts[one] for one in left)


def test_the_decoder_begins_with_the_topmost_layers_that_are_kept(unigram_encoder, tmp_path):
    """By hand: of two kept layers and three in the decoder, layers 0, 0 and 1."""
    tokenizer = save_trimmed_vocabulary(
        tmp_path, TEXTS, encoder=unigram_encoder, languages=[], size=1000, max_tokens=28
    )
    pretrained = AutoModel.from_pretrained(unigram_encoder, dtype=torch.float32)
    decoder = build_around_encoder(
        unigram_encoder, tokenizer, encoder_layers=2, decoder_layers=3, dropout=0.1, seed=0
    ).model.decoder

    for layer, source in enumerate((0, 0, 1)):
        ours, theirs = decoder.layers[layer], pretrained.encoder.layer[source]
        torch.testing.assert_close(ours.fc2.weight, theirs.output.dense.weight)
        for attention in (ours.self_attn, ours.encoder_attn):
            torch.testing.assert_close(attention.q_proj.bias, theirs.attention.self.query.bias)
        for norm in (ours.self_attn_layer_norm, ours.encoder_attn_layer_norm):
            torch.testing.assert_close(norm.weight, theirs.attention.output.LayerNorm.weight)


def test_more_layers_than_the_encoder_has_stop(unigram_encoder, tmp_path):
    tokenizer = save_trimmed_vocabulary(
        tmp_path, TEXTS, encoder=unigram_encoder, languages=[], size=1000, max_tokens=28
    )
    with pytest.raises(BackboneError, match=r"small_model\.encoder_layers"):
        build_around_encoder(
            unigram_encoder,
            tokenizer,
            encoder_layers=4,
            decoder_layers=1,
            dropout=0.1,
            seed=0,
        )


def test_held_out_pairs_share_no_sentence_with_the_rest():
    tasks = [make_task("eng-abc"), make_task("eng-xyz", first=20)]  # half of their sources shared

    pairs, held = gather_pairs(tasks, held_out=10, seed=0)

    assert len(held) == 10
    kept = {text for pair in pairs for text in (pair.source, pair.target)}
    assert kept.isdisjoint(text for pair in held for text in (pair.source, pair.target))
    assert gather_pairs(tasks, held_out=10, seed=0) == (pairs, held)
    with pytest.raises(SettingsError, match=r"corpus\.held_out"):
        gather_pairs(tasks, held_out=50, seed=0)


def test_languages_that_are_written():
    pairs = [Pair("a", "b", "ind-jav"), Pair("a", "c", "eng-jav")]

    assert target_languages(pairs, both_directions=False) == ["jav"]
    assert target_languages(pairs, both_directions=True) == ["eng", "ind", "jav"]


def make_corpus(count: int) -> Corpus:
    def row(number):  # tag 5 or 6, then the row's own number
        ids = torch.tensor([5 + number % 2, 100 + number] + [9] * (number % 7))
        return PairRow(ids, ids.clone(), (0,))

    rows = tuple(row(number) for number in range(count))
    return Corpus(rows, tuple(row(1000 + n) for n in range(50)), torch.tensor([5, 6]), 7)


def test_an_epoch_deals_every_pair_once_and_the_share_of_copies():
    options = {"copies": 0.25, "undetermined": 0.3, "tokens": 40, "seed": 3}
    batches, seen = [], 0
    for batch in deal_batches(make_corpus(100), **options):
        batches.append(batch)
        seen += len(batch)
        if seen == 125:
            break

    numbers = sorted(int(row.source[1]) - 100 for batch in batches for row in batch)
    assert numbers[:100] == list(range(100))
    assert len({number for number in numbers[100:] if number >= 1000}) == 25
    tags = [int(row.source[0]) for batch in batches for row in batch]
    assert 20 < tags.count(7) < 55
    assert all(max(len(r.source) for r in b) * len(b) <= 20 for b in batches)


def test_batches_can_be_passed_over():
    options = {"copies": 0.1, "undetermined": 0.1, "tokens": 40, "seed": 1}
    all_of_them = list(islice(deal_batches(make_corpus(60), **options), 90))

    later = list(islice(deal_batches(make_corpus(60), **options, after=70), 20))

    for batch, other in zip(all_of_them[70:], later, strict=True):
        assert [r.source.tolist() for r in batch] == [r.source.tolist() for r in other]


def test_training_lowers_the_loss_and_gives_a_model_that_transformers_loads(tmp_path):
    records = []
    settings = make_settings(tmp_path / "run", steps=60, average_last=5, validate_every=20)

    trained = train(settings, on_step=records.append)

    assert records[-1].loss_before < 0.75 * records[0].loss_before
    assert trained.step == 60
    assert trained.loss == pytest.approx(-max(r.score for r in records if r.score is not None))
    trained.backbone.model.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "saved")
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, trained.backbone.model.state_dict()[name])
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 61))


def test_training_may_begin_with_a_pretrained_encoder(unigram_encoder, tmp_path):
    """By hand: before any step the encoder's first layer is the pretrained one's."""
    settings = make_settings(tmp_path / "run", steps=2, learning_rate=1e-9)
    small = replace(settings.small_model, encoder_init=unigram_encoder, max_tokens=28)
    trained = train(replace(settings, small_model=replace(small, encoder_layers=2)))

    pretrained = AutoModel.from_pretrained(unigram_encoder, dtype=torch.float32)
    layer = trained.backbone.model.model.encoder.layers[0]
    torch.testing.assert_close(
        layer.fc1.weight, pretrained.encoder.layer[0].intermediate.dense.weight, atol=1e-6, rtol=0
    )
    assert len(trained.backbone.model.model.encoder.layers) == 2
    assert trained.backbone.languages.family == "tags"


def test_training_may_go_on_from_an_earlier_model(tmp_path):
    """By hand: after a step at a vanishing rate the weights are still the earlier model's."""
    earlier = train(make_settings(tmp_path / "run", steps=3)).backbone
    earlier.model.save_pretrained(tmp_path / "earlier")
    earlier.tokenizer.save_pretrained(tmp_path / "earlier")
    settings = make_settings(tmp_path / "later", steps=1, learning_rate=1e-9)
    run = replace(settings.run, init_from=str(tmp_path / "earlier"))

    later = train(replace(settings, run=run)).backbone

    assert later.tokenizer.get_vocab() == earlier.tokenizer.get_vocab()
    for name, value in earlier.model.state_dict().items():
        torch.testing.assert_close(later.model.state_dict()[name], value, atol=1e-6, rtol=0)
    with pytest.raises(SettingsError, match="no tag for kik"):
        save_vocabulary(replace(settings, run=run), tmp_path / "other", [], ["kik"])


def test_a_resumed_training_equals_one_that_was_never_stopped(tmp_path):
    whole = weights_of(train(make_settings(tmp_path / "whole")))
    settings = make_settings(tmp_path / "parts")

    class StopError(Exception):
        pass

    def stop(record):
        if record.step == 5:  # a checkpoint was left after step 4
            raise StopError

    with pytest.raises(StopError):
        train(settings, on_step=stop)
    resumed = train(replace(settings, run=replace(settings.run, resume=True)))

    assert resumed.step == 6
    for name, value in weights_of(resumed).items():
        assert torch.equal(value, whole[name]), name


def test_another_config_does_not_resume(tmp_path):
    settings = make_settings(tmp_path / "run")
    train(settings)
    other = replace(
        settings,
        outer=replace(settings.outer, learning_rate=0.5),
        run=replace(settings.run, resume=True),
    )

    with pytest.raises(CheckpointError, match="other settings"):
        train(other)
