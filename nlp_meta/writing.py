"""What an encoder-decoder does with users' texts: it writes, and it embeds.

One set of weights at a time, in float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from nlp_meta.adapting import check_texts
from nlp_meta.data.card_parts import TRANSLATION
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.precision import choose_autocast, choose_device
from nlp_meta.encoders.seq2seq import direct, load_seq2seq, tokenize_sources, tokenize_targets
from nlp_meta.generation_settings import GenerationSettings
from nlp_meta.long_texts import count_long_texts, name_sentence
from nlp_meta.meta.adaptation import Weights, repeat
from nlp_meta.mining import embed_in_blocks
from nlp_meta.objectives.generation import Generation, build_generation

WRITING_TOKENS = 4096


def build_generator(
    settings: GenerationSettings,
    *,
    device: torch.device | str | None = None,
    precision: str = "auto",
    batch_tokens: int = 2048,
    token: str | None = None,
) -> Generation:
    """Load the encoder-decoder that settings name and plan its adapter."""
    place = choose_device(device)
    backbone = load_seq2seq(
        settings.model_name_or_path,
        max_tokens=settings.max_tokens,
        device=place,
        revision=settings.revision,
        token=token,
    )
    return build_generation(
        backbone,
        lora_r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_sides=settings.lora_sides,
        lora_layers=settings.lora_layers,
        lora_target_modules=settings.lora_target_modules,
        label_smoothing=settings.label_smoothing,
        num_beams=settings.num_beams,
        autocast=choose_autocast(precision, place),
        batch_tokens=batch_tokens,
    )


def write_texts(
    objective: Generation,
    weights: Weights,
    texts: Sequence[str],
    *,
    language: str,
    num_beams: int | None = None,
) -> list[str]:
    """Translate texts with one set of weights, in float32.

    Args:
        num_beams: None takes the objective's.

    Raises:
        DataError: A text is empty.
    """
    check_texts(texts)
    if not texts:
        return []
    exact = replace(
        objective,
        autocast=None,
        batch_tokens=WRITING_TOKENS,
        num_beams=num_beams or objective.num_beams,
    )
    episode = episode_of((), [Example(text.strip(), "") for text in texts], language)
    answers = exact.answer(repeat(weights, tasks=1), exact.query_batches([episode]), [episode])
    return [answer.text for answer in answers[0]]


def embed_texts(
    objective: Generation,
    weights: Weights,
    texts: Sequence[str],
    *,
    language: str,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Means of the adapted encoder's states as rows of length 1, in float32.

    Args:
        language: The texts' own and the one that the model translates into: `ind-jav`.
        on_step: Called with the number of texts just embedded.
    """
    check_texts(texts)
    exact = replace(objective, autocast=None, batch_tokens=WRITING_TOKENS)
    stacked = repeat(weights, tasks=1)

    def embed(some: list[str]) -> Tensor:
        episode = episode_of((), [Example(text, "") for text in some], language)
        return functional.normalize(exact.embed(stacked, exact.query_batches([episode]))[0], dim=1)

    width = int(objective.backbone.config.hidden_size)
    return embed_in_blocks(embed, texts, width=width, on_step=on_step)


def count_long(
    objective: Generation,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    language: str,
    long_texts: str,
    lines: Sequence[int] | None = None,
) -> int:
    """Number of sentences, of both sides, longer than the model takes.

    Args:
        lines: Of the sources, and their targets, in their file.

    Raises:
        DataError: There are some and `long_texts` is `stop`.
    """
    longest = objective.backbone.max_tokens
    backbone = replace(objective.backbone, max_tokens=longest + 1)
    direction = direct(backbone, language)
    ids = [
        *tokenize_sources(backbone, sources, direction),
        *tokenize_targets(backbone, targets, direction),
    ]
    name = partial(name_sentence, sources=len(sources), lines=lines)
    lengths = list(map(len, ids))
    return count_long_texts(lengths, longest=longest, long_texts=long_texts, name=name)


def episode_of(support: Sequence[Example], query: Sequence[Example], language: str) -> Episode:
    """One episode of pairs that its user holds."""
    return Episode(
        "pairs", (), tuple(support), tuple(query), 0, kind=TRANSLATION, language=language
    )
