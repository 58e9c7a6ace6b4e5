"""Masked language modeling on a tiny random encoder: what is hidden, its loss, what moves."""

import pytest
import torch

from nlp_meta.encoders.backbone import load_backbone
from nlp_meta.encoders.batches import tokenize
from nlp_meta.encoders.lora import LORA_B
from nlp_meta.errors import BackboneError
from nlp_meta.meta.inner_loop import InnerLoop, adapt, repeat
from nlp_meta.objectives.classification import build_classification
from nlp_meta.objectives.masked_language import Decoder, MaskedLanguage

TEXTS = ("the staff was awful, never again", "we loved the quiet room", "very good staff!")


@pytest.fixture(params=["native", "mean"])
def objective(tiny_encoder, request):
    return build_classification(
        load_backbone(str(tiny_encoder), pooling=request.param, max_tokens=32),
        labels=("bad", "good"),
        head="shared",
        lora_r=2,
        lora_alpha=4,
        lora_layers=2,
        lora_target_modules=None,
        autocast=None,
        batch_tokens=64,
    )


@pytest.fixture
def masked(objective):
    ids = torch.unique(torch.cat(tokenize(objective.backbone, TEXTS)))
    decoder = Decoder(objective.backbone, ids).requires_grad_(False)
    return MaskedLanguage(objective.backbone, objective.plan, decoder, None, batch_tokens=64)


def start_of(objective, *, tasks):
    return repeat(objective.meta_parameters(torch.Generator().manual_seed(0)), tasks=tasks)


def batches_of(masked, *pools, texts=2):
    return masked.batches(pools, texts=texts, generator=torch.Generator().manual_seed(1))


def test_hides_inner_tokens_alone_and_at_least_one(masked):
    mask_id = masked.backbone.tokenizer.mask_token_id
    batches = batches_of(masked, TEXTS, TEXTS[:1], texts=3)

    for batch in batches:
        read, true = batch.states.unbind(-1)
        hidden = read != true
        last = batch.mask.sum(1) - 1
        inside = (last - 1).clamp(min=1)
        assert (read[hidden] == mask_id).all()
        assert not hidden[:, 0].any()
        assert not hidden[torch.arange(len(read)), last].any()
        assert not (hidden & (batch.mask == 0)).any()
        assert hidden.sum(1).tolist() == (0.15 * inside).round().clamp(min=1).int().tolist()
    assert sum(batch.owners.counts[0] for batch in batches) == 3
    assert sum(batch.owners.counts[1] for batch in batches) == 1
    assert sum(float(batch.shares.sum()) for batch in batches) == pytest.approx(2)


def test_without_a_mask_token_the_unknown_one_hides_and_without_both_nothing_can(
    masked, monkeypatch
):
    tokenizer = masked.backbone.tokenizer
    unknown = tokenizer.unk_token_id
    monkeypatch.setattr(
        tokenizer, "_special_tokens_map", {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    )
    read, true = batches_of(masked, TEXTS)[0].states.unbind(-1)
    assert (read[read != true] == unknown).all()

    monkeypatch.setattr(tokenizer, "_special_tokens_map", {"pad_token": "[PAD]"})
    with pytest.raises(BackboneError, match="for unknown words, is needed"):
        batches_of(masked, TEXTS)


def test_loss_is_the_cross_entropy_of_the_hidden_tokens_of_each_text(objective, masked):
    """By hand: LoRA begins at nothing, so the plain encoder's states are decoded."""
    batches = batches_of(masked, TEXTS)
    found = sum(masked.loss(start_of(objective, tasks=1), batch) for batch in batches)

    expected = []
    for batch in batches:
        for read, true, real in zip(*batch.states.unbind(-1), batch.mask, strict=True):
            read, true = read[: real.sum()].unsqueeze(0), true[: real.sum()]
            (states,) = masked.backbone.encoder(input_ids=read).last_hidden_state
            logs = masked.decoder(states).log_softmax(-1)
            places = [i for i in range(len(true)) if read[0, i] != true[i]]
            answers = masked.decoder.ids.tolist()
            nats = [-logs[i, answers.index(int(true[i]))] for i in places]
            expected.append(sum(nats) / len(nats))
    torch.testing.assert_close(found, (sum(expected) / len(expected)).unsqueeze(0))


def test_adapting_moves_lora_alone_and_lowers_the_loss(objective, masked):
    batches = batches_of(masked, TEXTS)
    start = start_of(objective, tasks=1)
    decoder = {name: value.clone() for name, value in masked.decoder.state_dict().items()}

    fast = adapt(masked.loss, start, [batches], inner=InnerLoop(10, 1e-2, "adam"))

    before, after = (sum(masked.loss(w, b) for b in batches).item() for w in (start, fast))
    assert after < before
    assert all((fast[n] != start[n]).any() for n in fast if n.endswith(LORA_B))
    for name in (f"{layer}.{part}" for layer in objective.plan.head for part in ("weight", "bias")):
        torch.testing.assert_close(fast[name], start[name])
    torch.testing.assert_close(masked.decoder.state_dict(), decoder)


def test_a_stack_gives_each_task_the_loss_it_has_alone(objective, masked):
    def loss(*batches):
        return sum(masked.loss(start_of(objective, tasks=len(b.owners.counts)), b) for b in batches)

    generator = torch.Generator().manual_seed(1)
    together = masked.batches([TEXTS, TEXTS[:2]], texts=3, generator=generator)
    generator.manual_seed(1)
    first = masked.batches([TEXTS], texts=3, generator=generator)
    second = masked.batches([TEXTS[:2]], texts=3, generator=generator)

    torch.testing.assert_close(loss(*together), torch.cat([loss(*first), loss(*second)]))
