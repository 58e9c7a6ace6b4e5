"""The dtype of matrix products, for processors that are there and that are not."""

import pytest
import torch

from nlp_meta.encoders.backbone import choose_autocast
from nlp_meta.errors import SettingsError

CPU = torch.device("cpu")
INSTRUCTIONS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")


def pretend(monkeypatch, *, there: tuple[str, ...]) -> None:
    for name in INSTRUCTIONS:
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name in there, raising=False)


@pytest.mark.parametrize("there", [INSTRUCTIONS, INSTRUCTIONS[:1], INSTRUCTIONS[1:]])
def test_auto_takes_bfloat16_where_the_processor_multiplies_it(monkeypatch, there):
    pretend(monkeypatch, there=there)

    assert choose_autocast("auto", CPU) is torch.bfloat16


def test_auto_stays_with_float32_elsewhere(monkeypatch):
    pretend(monkeypatch, there=())

    assert choose_autocast("auto", CPU) is None
    assert choose_autocast("auto", torch.device("mps")) is None


def test_auto_survives_a_torch_that_cannot_be_asked(monkeypatch):
    for name in INSTRUCTIONS:
        monkeypatch.delattr(torch.cpu, name, raising=False)

    assert choose_autocast("auto", CPU) is None


@pytest.mark.parametrize("there", [(), INSTRUCTIONS])
def test_what_the_user_asks_for_wins_over_the_processor(monkeypatch, there):
    pretend(monkeypatch, there=there)

    assert choose_autocast("bf16", CPU) is torch.bfloat16
    assert choose_autocast("no", CPU) is None


def test_unknown_precision_is_refused():
    with pytest.raises(SettingsError, match=r"'fp16'.*auto, bf16, no.*`run\.mixed_precision`"):
        choose_autocast("fp16", CPU)
