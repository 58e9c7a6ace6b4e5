"""Writing translations: loss, gradient and decoding against PEFT's own model."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.trainer_pt_utils import LabelSmoother

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.lora import lowest_adapted_source_layer
from nlp_meta.encoders.prefix import build_source_network, whole_source_network
from nlp_meta.encoders.seq2seq import direct, load_seq2seq
from nlp_meta.errors import BackboneError, SettingsError
from nlp_meta.meta.inner_loop import InnerLoop, adapt, mean_gradient, repeat
from nlp_meta.objectives.generation import build_generation

TEXTS = (
    "the big house",
    "two doctor eats and sleeps",
    "red river",
    "the market sleeps and the doctor eats the red house",
)
PAIRS = {
    "marian": "ind-jav",
    "nllb": "ind-jav",
    "m2m": "ind-jav",
    "mbart": "eng-sin",
    "mbart50": "eng-ind",
    "t5": "eng-jav",
}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
OPTIONS = {
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_sides": "both",
    "lora_layers": 1,
    "lora_target_modules": None,
    "label_smoothing": 0.1,
    "num_beams": 1,
    "autocast": None,
    "batch_tokens": 120,
}


def make_episode(pair: str, *, support: int, query: int, shift: int) -> Episode:
    """Pairs of texts of 1 to 16 words, no two sides alike."""

    def examples(count):
        return tuple(
            Example(" ".join(TEXTS[(i + shift) % 4].split()[: 1 + i]), TEXTS[(i + 1 + shift) % 4])
            for i in range(count)
        )

    return Episode(f"made/{shift}", (), examples(support), examples(query), 0, "generation", pair)


def build(folder, **options):
    """Its frozen layers' states are kept in float32, to be compared with those computed anew."""
    backbone = load_seq2seq(str(folder), max_tokens=50)
    objective = build_generation(backbone, **{**OPTIONS, **options})
    layers = lowest_adapted_source_layer(backbone, objective.plan)
    network = build_source_network(backbone, frozen_layers=layers, cache_dtype=torch.float32)
    return replace(objective, network=network)


def begin(objective, *, tasks=1):
    """Stacked weights away from their beginning, different for each task."""
    generator = torch.Generator().manual_seed(0)
    meta = repeat(objective.meta_parameters(generator), tasks=tasks)
    return {n: v + 0.2 * torch.randn(v.shape, generator=generator) for n, v in meta.items()}


def peft_model(folder, objective, weights, *, task=0):
    """The same adapter in PEFT, as an ordinary model that trains."""
    model = AutoModelForSeq2SeqLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    adapted = get_peft_model(model, LoraConfig(**objective.plan.config)).eval()
    state = {f"base_model.model.{n}.weight": v[task].detach() for n, v in weights.items()}
    loaded = set_peft_model_state_dict(adapted, state)
    assert not loaded.unexpected_keys
    return adapted


def encode_plainly(folder, family, example):
    """One pair as transformers documents it for the family."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    source, prefix = example.source, ""
    if family in ("nllb", "m2m", "mbart", "mbart50"):
        found = direct(load_seq2seq(str(folder), max_tokens=50), PAIRS[family])
        tokenizer.src_lang, tokenizer.tgt_lang = found.source, found.target
    elif family == "t5":
        prefix = "translate English to Javanese: "
    else:
        prefix = ">>jav<< "
    cut = {"truncation": True, "max_length": 50, "return_tensors": "pt"}
    return tokenizer(prefix + source, text_target=example.target, **cut)


def test_loss_and_gradient_equal_those_of_peft(model_folders, family):
    """By the other route: one pair at a time, PEFT's layers, transformers' shift and smoother."""
    folder = model_folders(family)
    objective = build(folder)
    episode = make_episode(PAIRS[family], support=5, query=0, shift=0)
    weights = begin(objective)
    batches = objective.support_batches([episode], minibatch=None)[0]

    losses, gradient = mean_gradient(objective.loss, weights, batches)

    model = peft_model(folder, objective, weights)
    total, tokens = torch.zeros(()), 0
    for example in episode.support:
        inputs = encode_plainly(folder, family, example)
        count = inputs["labels"].shape[1]
        smooth = LabelSmoother(epsilon=0.1)
        total = total + smooth(model(**inputs), inputs["labels"]) * count
        tokens += count
    (total / tokens).backward()
    torch.testing.assert_close(losses[0], (total / tokens).detach(), **CLOSE)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            own = name.removeprefix("base_model.model.").replace(".default.weight", "")
            torch.testing.assert_close(gradient[own][0], parameter.grad, **CLOSE)


@pytest.mark.parametrize(("sides", "layers"), [("both", 1), ("decoder", 2)])
def test_frozen_layers_of_the_encoder_are_run_once(model_folders, family, sides, layers):
    """Against the whole encoder of transformers; states are kept in bfloat16, of eight bits."""
    objective = build(model_folders(family), lora_sides=sides)
    assert lowest_adapted_source_layer(objective.backbone, objective.plan) == layers
    passes = []
    objective.backbone.encoder.get_submodule("embed_tokens").register_forward_hook(
        lambda *_: passes.append(1)
    )
    episode = make_episode(PAIRS[family], support=5, query=0, shift=0)
    weights = begin(objective)

    def loss(some):
        (batch,) = some.support_batches([episode], minibatch=None)[0]
        assert batch.sources.dim() == 2 if some is whole else 3
        return some.loss(weights, batch)

    whole = replace(
        objective, network=whole_source_network(objective.backbone), batch_tokens=10_000
    )
    kept = replace(objective, batch_tokens=10_000)
    expected = loss(whole)
    passes.clear()
    torch.testing.assert_close(loss(kept), expected, **CLOSE)
    torch.testing.assert_close(loss(kept), expected, **CLOSE)
    near = replace(kept.over(kept.backbone), batch_tokens=10_000)
    torch.testing.assert_close(loss(near), expected, rtol=0.02, atol=0.02)
    assert len(passes) == 2


def test_pieces_of_a_minibatch_have_the_gradient_of_the_whole(model_folders):
    """Accumulated over pieces of at most 60 tokens, against one batch of all pairs."""
    episodes = [make_episode("ind-jav", support=7, query=0, shift=s) for s in range(2)]
    results = []
    for tokens in (60, 100_000):
        objective = build(model_folders("marian"), batch_tokens=tokens)
        minibatch = objective.support_batches(episodes, minibatch=None)[0]
        results.append(
            (minibatch, mean_gradient(objective.loss, begin(objective, tasks=2), minibatch))
        )
    (pieces, (loss, gradient)), (whole, (other_loss, other_gradient)) = results

    assert len(whole) == 1
    assert len(pieces) > 4
    for piece in pieces:
        size = piece.mask.numel() + piece.labels.numel()
        assert size <= 60 or len(piece.sources) == 1
    torch.testing.assert_close(loss, other_loss, **CLOSE)
    for name, value in gradient.items():
        torch.testing.assert_close(value, other_gradient[name], **CLOSE)


@pytest.mark.parametrize(
    ("family", "sides"),
    [("marian", "encoder"), ("marian", "decoder"), *((family, "both") for family in PAIRS)],
)
def test_stacked_episodes_adapt_as_they_do_alone(model_folders, family, sides):
    objective = build(model_folders(family), lora_sides=sides)
    shots = ((6, 0), (3, 1), (8, 2))
    episodes = [make_episode(PAIRS[family], support=n, query=2, shift=s) for n, s in shots]
    weights = begin(objective, tasks=3)
    inner = InnerLoop(3, 0.05, "sgd")

    support = objective.support_batches(episodes, minibatch=4)
    together = adapt(objective.loss, weights, support, inner=inner)

    count = len(support)
    for w, episode in enumerate(episodes):
        each = max(1, round(len(episode.support) / count))
        alone = objective.support_batches([episode], minibatch=each)
        assert len(alone) == count
        own = {name: value[w : w + 1] for name, value in weights.items()}
        fast = adapt(objective.loss, own, alone, inner=inner)
        for name, value in fast.items():
            torch.testing.assert_close(together[name][w], value[0], **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "beams"), [("marian", 1), *((family, 3) for family in PAIRS)])
def test_each_task_decodes_with_its_own_weights(model_folders, family, beams):
    """By the other route: PEFT's model of each task alone, one sentence at a time."""
    folder = model_folders(family)
    objective = build(folder, num_beams=beams)
    episodes = [make_episode(PAIRS[family], support=0, query=2, shift=s) for s in range(2)]
    weights = begin(objective, tasks=2)

    answers = objective.answer(weights, objective.query_batches(episodes), episodes)

    direction = direct(objective.backbone, PAIRS[family])
    if family != "m2m":  # which writes nothing but tokens of languages
        assert answers[0] != answers[1]
    for w, episode in enumerate(episodes):
        model = peft_model(folder, objective, weights, task=w)
        for example, answer in zip(episode.query, answers[w], strict=True):
            ids = encode_plainly(folder, family, example)["input_ids"]
            written = model.generate(
                input_ids=ids,
                decoder_input_ids=torch.tensor([direction.start]),
                decoder_start_token_id=direction.start[0],
                num_beams=beams,
                do_sample=False,
                max_new_tokens=32 if ids.shape[1] <= 16 else 50,
            )
            new = written[0, len(direction.start) :]
            text = objective.backbone.tokenizer.decode(new, skip_special_tokens=True)
            assert answer.text == text.strip()


def test_a_stack_may_hold_several_directions(model_folders):
    objective = build(model_folders("nllb"))
    pairs = ("eng-fra", "ind-jav", "jav-ind")
    episodes = [make_episode(pair, support=3, query=2, shift=0) for pair in pairs]
    weights = repeat(objective.meta_parameters(torch.Generator().manual_seed(0)), tasks=3)

    together = objective.answer(weights, objective.query_batches(episodes), episodes)

    for w, episode in enumerate(episodes):
        own = {name: value[w : w + 1] for name, value in weights.items()}
        alone = objective.answer(own, objective.query_batches([episode]), [episode])
        assert together[w] == alone[0]


def test_embeddings_are_means_of_the_encoders_states(model_folders):
    """By hand on one sentence: PEFT's encoder, no padding, a plain mean."""
    folder = model_folders("marian")
    objective = build(folder)
    episode = make_episode("ind-jav", support=0, query=3, shift=0)
    weights = begin(objective)

    found = objective.embed(weights, objective.query_batches([episode]))[0]

    model = peft_model(folder, objective, weights)
    for row, example in zip(found, episode.query, strict=True):
        ids = encode_plainly(folder, "marian", example)["input_ids"]
        states = model.get_encoder()(input_ids=ids).last_hidden_state
        torch.testing.assert_close(row, states[0].mean(0).detach(), **CLOSE)


def test_bfloat16_gives_nearly_the_same_loss(model_folders):
    episode = make_episode("ind-jav", support=6, query=0, shift=0)
    exact, coarse = (
        build(model_folders("marian"), autocast=dtype) for dtype in (None, torch.bfloat16)
    )
    weights = begin(exact)

    losses = [
        sum(o.loss(weights, b) for b in o.support_batches([episode], minibatch=None)[0])
        for o in (exact, coarse)
    ]

    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[0], losses[1], rtol=0.02, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["marian", "t5"])
def test_adaptation_lowers_the_loss(model_folders, family):
    objective = build(model_folders(family), lora_layers=None)
    episode = make_episode(PAIRS[family], support=8, query=0, shift=0)
    start = repeat(objective.meta_parameters(torch.Generator().manual_seed(0)), tasks=1)
    support = objective.support_batches([episode], minibatch=None)

    fast = adapt(objective.loss, start, support, inner=InnerLoop(20, 0.02, "adam"))

    before, after = (
        float(sum(objective.loss(w, b) for b in support[0]).detach()) for w in (start, fast)
    )
    assert after < 0.95 * before


def test_joint_training_needs_no_support(model_folders):
    objective = build(model_folders("marian"))
    episode = make_episode("ind-jav", support=0, query=2, shift=0)

    assert objective.support_batches([episode], minibatch=4) == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lora_sides": "left"}, BackboneError, r"model\.lora_sides"),
        ({"lora_layers": 3}, BackboneError, r"1 to 2 are needed; change `model\.lora_layers`"),
        (
            {"lora_target_modules": ["nothing"]},
            BackboneError,
            r"model\.lora_target_modules",
        ),
        ({"label_smoothing": 1.0}, SettingsError, r"model\.label_smoothing"),
        ({"num_beams": 0}, SettingsError, r"`num_beams`"),
    ],
)
def test_settings_out_of_range_stop(model_folders, options, error, message):
    with pytest.raises(error, match=message):
        build(model_folders("marian"), **options)
