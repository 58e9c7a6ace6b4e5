"""Each family of encoder-decoders is told its languages the way it wants them."""

import re

import pytest
import torch

from nlp_meta.data.languages import join_pair
from nlp_meta.encoders.seq2seq import (
    direct,
    find_direction,
    load_seq2seq,
    tokenize_sources,
    tokenize_targets,
)
from nlp_meta.errors import BackboneError, EpisodeError

MAX_TOKENS = 60  # of the tiny models
TEXTS = ("the big house", "two doctor eats and sleeps", "red river")


@pytest.fixture
def load(model_folders):
    return lambda family: load_seq2seq(str(model_folders(family)), max_tokens=40)


@pytest.mark.parametrize(
    ("family", "pair", "source", "target"),
    [
        ("nllb", "ind-jav", "ind_Latn", "jav_Latn"),
        ("nllb", "eng-ace", "eng_Latn", "ace_Latn"),  # Latin, where there are several scripts
        ("nllb", "eng-ace_Arab", "eng_Latn", "ace_Arab"),
        ("nllb", "swa-nep", "swh_Latn", "npi_Deva"),  # members of macrolanguages
        ("nllb", "orm-sin", "gaz_Latn", "sin_Sinh"),
        ("nllb", "eng_Latn-zho_Hant", "eng_Latn", "zho_Hant"),
        ("m2m", "ind-jav", "id", "jv"),
        ("m2m", "tgl-nso", "tl", "ns"),
        ("m2m", "ceb-swh", "ceb", "sw"),
        ("m2m", "fuv-npi", "ff", "ne"),
        ("mbart", "eng-sin", "en_XX", "si_LK"),
        ("mbart50", "ind-swa", "id_ID", "sw_KE"),
        ("mbart50", join_pair("pt-BR", "zh-CN"), "pt_XX", "zh_CN"),
        ("nllb", join_pair("ind-Latn", "zh-Hant"), "ind_Latn", "zho_Hant"),
    ],
)
def test_codes_become_those_of_the_model(load, family, pair, source, target):
    found = direct(load(family), pair)

    assert (found.source, found.target, found.prefix_text) == (source, target, "")


def test_t5_reads_a_sentence(load):
    backbone = load("t5")

    assert direct(backbone, "eng-jav").prefix_text == "translate English to Javanese: "
    assert direct(backbone, "swh-Klingon").prefix_text == "translate Swahili to Klingon: "
    assert direct(backbone, "id-zh").prefix_text == "translate Indonesian to Chinese: "
    named = direct(backbone, join_pair("eng", "Shipibo-Konibo")).prefix_text
    assert named == "translate English to Shipibo-Konibo: "


def test_marian_reads_a_tag_of_the_target(load):
    backbone = load("marian")
    direction = direct(backbone, "eng-sin_Latn")

    ids = tokenize_sources(backbone, ["the house"], direction)[0]

    assert direction.prefix_text == ">>sin_Latn<< "
    first = backbone.tokenizer.convert_ids_to_tokens(ids.tolist())[:2]
    assert first == [">>sin_Latn<<", "▁t"] or first == [">>sin_Latn<<", "▁the"]


def test_marian_of_one_pair_has_no_tag(save_tiny_marian, tmp_path):
    save_tiny_marian(tmp_path, tags=())

    found = direct(load_seq2seq(str(tmp_path), max_tokens=40), "eng-xyz")

    assert (found.source, found.target, found.prefix_text, found.is_new) == (None, None, "", False)


def test_a_model_with_a_tag_for_undetermined_languages_takes_any(save_tiny_marian, tmp_path):
    save_tiny_marian(tmp_path, tags=("jav", "und"))
    backbone = load_seq2seq(str(tmp_path), max_tokens=40)

    assert direct(backbone, "eng-jav").prefix_text == ">>jav<< "
    assert direct(backbone, "eng-ban").prefix_text == ">>und<< "
    assert direct(backbone, "eng-ban").is_new


@pytest.mark.parametrize(
    ("family", "pair", "message"),
    [
        ("nllb", "eng-jvn", "to 'jvn'.* such as jav_Latn, .*change `target_lang`"),
        ("nllb", "injd-jav", "from 'injd'.* such as ind_Latn, .*change `source_lang`"),
        ("nllb", "eng-kas", "to 'kas'.* such as kas_Arab, kas_Deva, "),
        ("nllb", "eng-sin_Latn", "to 'sin_Latn'.* such as sin_Sinh, "),
        ("m2m", "eng-bhp", "to 'bhp'.* such as "),
        ("marian", "eng-javv", "to 'javv'.* such as jav, "),
        ("t5", "eng-jvv", "to 'jvv'.* such as "),
    ],
)
def test_unknown_codes_are_told_the_near_ones(load, family, pair, message):
    with pytest.raises(BackboneError, match=message) as stopped:
        direct(load(family), pair)

    assert len(re.findall("cannot", str(stopped.value))) == 1


@pytest.fixture
def open_marian(save_tiny_marian, tmp_path):
    """A model that takes any language, as the small ones of this package do."""
    save_tiny_marian(tmp_path, tags=("jav", "ind", "sun", "und"))
    return load_seq2seq(str(tmp_path), max_tokens=40)


@pytest.mark.parametrize("code", "bbc nij bug mad ace wol twi quy ban tw pt-BR zh-Hant ewe".split())
def test_a_model_that_takes_any_language_takes_real_codes_on_both_sides(open_marian, code):
    assert direct(open_marian, join_pair("ind", code)).is_new
    assert not direct(open_marian, join_pair(code, "ind")).is_new


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("ind-indo", "to 'indo'.*such as ind, .*change `target_lang`"),
        ("java-ind", "from 'java'.*such as jav, .*change `source_lang`"),
        ("ind-Javanese", "to 'Javanese'.*such as jav, "),
        ("xx-ind", "from 'xx'"),
        ("ind-42", "to '42'"),
    ],
)
def test_a_model_that_takes_any_language_refuses_words_and_lists_near_codes(
    open_marian, pair, message
):
    with pytest.raises(BackboneError, match=message) as stopped:
        direct(open_marian, pair)

    assert "und" not in str(stopped.value).split("such as")[1]


def test_a_model_of_one_pair_refuses_words_too(save_tiny_marian, tmp_path):
    save_tiny_marian(tmp_path, tags=())

    with pytest.raises(BackboneError, match="the code of a language is needed, such as ido, ind, "):
        direct(load_seq2seq(str(tmp_path), max_tokens=40), "eng-indo")


def test_a_pair_of_three_parts_is_refused_not_guessed(load):
    with pytest.raises(EpisodeError, match="'pt-BR-jav': two codes"):
        direct(load("marian"), "pt-BR-jav")


@pytest.mark.parametrize("family", ["nllb", "m2m", "mbart50"])
def test_decoding_begins_as_with_forced_bos_token_id(load, family):
    """By the other route: what transformers writes when it forces the target's token."""
    backbone = load(family)
    direction = direct(backbone, "eng-fra")
    token = backbone.languages.known[direction.target]
    for text in TEXTS:
        ids = tokenize_sources(backbone, [text], direction)[0].unsqueeze(0)
        options = {"num_beams": 1, "do_sample": False, "max_new_tokens": 12}

        forced = backbone.model.generate(ids, forced_bos_token_id=token, **options)
        begun = backbone.model.generate(
            ids,
            decoder_input_ids=torch.tensor([direction.start]),
            **{**options, "max_new_tokens": 11},
        )

        assert forced.tolist() == begun.tolist()


def test_first_mbart_begins_decoding_with_the_language(load):
    """Its labels end with the code, and transformers shifts it to the front."""
    backbone = load("mbart")
    direction = direct(backbone, "eng-sin")
    labels = tokenize_targets(backbone, ["the house"], direction)[0].unsqueeze(0)

    shifted = backbone.model.prepare_decoder_input_ids_from_labels(labels)

    assert direction.start == (int(shifted[0, 0]),)
    assert int(labels[0, -1]) == int(shifted[0, 0])


def test_languages_of_one_text_do_not_leak_into_the_next(load):
    backbone = load("nllb")
    there, back = direct(backbone, "eng-fra"), direct(backbone, "fra-eng")

    first = tokenize_sources(backbone, ["red"], there)[0]
    tokenize_targets(backbone, ["red"], back)

    assert tokenize_sources(backbone, ["red"], there)[0].tolist() == first.tolist()
    assert first[0] == backbone.languages.known["eng_Latn"]


def test_texts_are_cut_and_keep_their_end(load):
    backbone = load("marian")
    ids = tokenize_sources(backbone, ["red " * 100], direct(backbone, "eng-jav"))[0]

    assert len(ids) == 40
    assert int(ids[-1]) == backbone.tokenizer.eos_token_id


def test_more_tokens_than_positions_stop_at_once(model_folders):
    with pytest.raises(BackboneError, match=f"3 to {MAX_TOKENS} are needed"):
        load_seq2seq(str(model_folders("marian")), max_tokens=MAX_TOKENS + 1)


def test_a_folder_without_a_model_stops_at_once(tmp_path):
    with pytest.raises(BackboneError, match=r"model\.model_name_or_path"):
        load_seq2seq(str(tmp_path), max_tokens=10)


def test_codes_of_every_known_language_find_themselves(load):
    languages = load("nllb").languages

    for code in languages.known:
        assert find_direction(languages, code, code).target == code
