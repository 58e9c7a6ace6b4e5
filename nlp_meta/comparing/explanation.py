"""Why a model gave a label: the words that decided, labeled texts like it, layers that moved.

What is explained is by how much one label is more likely than another, in nats. The encoder's part
is told by integrated gradients, that of n-grams by their own weights: both are sums over
characters, so that a word has what its characters have. All words and what the model says of a
text without words make the whole.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlp_meta.data.answers import Prediction
from nlp_meta.data.inputs import Texts, as_texts, check_whole
from nlp_meta.encoders.backbone import plain_modes
from nlp_meta.encoders.batches import Owners
from nlp_meta.encoders.cache import Storage
from nlp_meta.encoders.lora import LORA_A, LORA_B, WEIGHT, Adapter
from nlp_meta.encoders.plain_ngrams import hash_ngrams
from nlp_meta.encoders.prefix import has_prefix, prefix_network, states_below
from nlp_meta.errors import BackboneError, LabelError, need_packages
from nlp_meta.meta.inner_loop import repeat
from nlp_meta.models.classification import AdaptedModel, exact
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.objectives.ngrams import CHARACTERS, ORDERS

Array = NDArray[np.float64]

STEPS, MOST_STEPS = 32, 256
"""Points on the way of the integral: doubled until words sum up."""
GAP = 0.02
"""Most that words may miss the whole by, as a share of it (of 1 nat where it is less)."""
NEIGHBORS, NGRAMS = 3, 10
_ROWS = 16  # of one pass

# Scripts that write no blanks between words: there the encoder's tokens stand for them.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


@dataclass(frozen=True, slots=True)
class Word:
    """What a word of a text adds to the score.

    Attributes:
        start, end: Its place in the text, in characters.
        encoder, ngrams: In nats; above 0 it speaks for the label.
    """

    start: int
    end: int
    text: str
    encoder: float
    ngrams: float

    @property
    def weight(self) -> float:
        """Of both parts."""
        return self.encoder + self.ngrams


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A labeled text that the encoder sees as like the explained one.

    Attributes:
        place: Among the texts that were given, from 0.
        cosine: Of both texts' features, less the mean of the labeled ones'.
    """

    place: int
    text: str
    label: str
    cosine: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one label is more likely than another; `dataclasses.asdict` gives plain values.

    Attributes:
        text: In composed characters, without blanks around it: places of words count in it.
        label, against: What is explained is the logarithm of how many times as likely the first is.
        score: That logarithm. It is `without_words`, and all words, and `gap`.
        without_words: What it is of a text of as many tokens that say nothing.
        gap: What the sum over words misses.
        words: In the order of the text.
        ngrams: The character n-grams of the largest weight, each with all its occurrences.
        neighbors: Labeled texts, the nearest first; empty where none were given.
        is_cut: The encoder does not read the end of the text.
    """

    text: str
    answer: Prediction
    label: str
    against: str
    score: float
    without_words: float
    gap: float
    words: tuple[Word, ...]
    ngrams: tuple[tuple[str, float], ...]
    neighbors: tuple[Neighbor, ...]
    is_cut: bool


@plain_modes()
def explain(
    model: AdaptedModel,
    texts: Texts,
    *,
    label: str | None = None,
    against: str | None = None,
    support: Sequence[tuple[str, str]] = (),
    neighbors: int = NEIGHBORS,
    ngrams_only: bool = False,
) -> list[Explanation]:
    """Tell for each text which words decided, and which labeled texts are like it.

    Args:
        label: To explain; None takes the one that the model gives.
        against: To hold it against; None takes the most likely of the others.
        support: Labeled texts and their labels: a saved model keeps none of those it learned from.
        neighbors: Of them, so many are named.
        ngrams_only: Leave the encoder's part out, which takes seconds and captum.

    Raises:
        BackboneError: The encoder is of a kind whose layers cannot be entered.
        DataError: A text is missing, empty or no text.
        LabelError: A label is none of the model's, or both are the same.
        MissingPackageError: Captum is not there.

    Source:
        Sundararajan et al. 2017, arXiv:1703.01365, section 3, for integrated gradients.
    """
    model = AdaptedModel.of(model, "model")
    check_whole(neighbors, "neighbors")
    asked = [unicodedata.normalize("NFC", text).strip() for text in as_texts(texts, "texts")]
    _check_labels(model.labels, label, against)
    encoder = None if ngrams_only else _Encoder(model)
    near = _find_neighbors(model, asked, support, number=neighbors)
    explanations = []
    for text, answer, nearest in zip(asked, model.predict(asked), near, strict=True):
        odds = sorted(model.labels, key=lambda name: -answer.probabilities[name])
        first = label or next(name for name in odds if name != against)
        second = against or next(name for name in odds if name != first)
        parts = _explain(model, encoder, text, first, second)
        explanations.append(replace(parts, answer=answer, neighbors=nearest))
    return explanations


def _explain(
    model: AdaptedModel, encoder: "_Encoder | None", text: str, label: str, against: str
) -> Explanation:
    """Put both parts together; the answer and the neighbors are left out."""
    pair = (model.labels.index(label), model.labels.index(against))
    nothing = _Seen(0.0, 0.0, np.zeros(len(text)), (), is_cut=False)
    seen = nothing if encoder is None else encoder.explain(text, *pair)
    grams = _explain_ngrams(model, text, *pair)
    words = _join_words(text, seen.characters, grams.characters, seen.tokens)
    score = seen.score + grams.without_words + float(grams.characters.sum())
    without = seen.without_words + grams.without_words
    return Explanation(
        text=text,
        answer=Prediction(label, {}),
        label=label,
        against=against,
        score=score,
        without_words=without,
        gap=score - without - sum(word.weight for word in words),
        words=words,
        ngrams=grams.strongest,
        neighbors=(),
        is_cut=seen.is_cut,
    )


def _check_labels(known: Sequence[str], label: str | None, against: str | None) -> None:
    strange = [name for name in (label, against) if name is not None and name not in known]
    if strange or (label is not None and label == against):
        raise LabelError(
            f"cannot explain {label!r} against {against!r}: two different ones of "
            f"{', '.join(known)} are needed; change `label` or `against`"
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the encoder's part of a score is made of.

    Attributes:
        characters: What each character of the text adds.
        tokens: Where tokens begin.
    """

    score: float
    without_words: float
    characters: Array
    tokens: tuple[int, ...]
    is_cut: bool


class _Encoder:
    """The encoder of a model from its first layer on, in float32."""

    def __init__(self, model: AdaptedModel) -> None:
        need_packages("explain an answer", "captum", extra="explain")
        from captum.attr import IntegratedGradients

        backbone = model.objective.backbone
        if not has_prefix(backbone.config) or not backbone.tokenizer.is_fast:
            raise BackboneError(
                f"cannot explain answers of '{backbone.name}': an encoder whose first layer can be "
                "entered and whose tokenizer tells the places of tokens is needed; adapt another"
            )
        self._integral = IntegratedGradients
        self._model, self._backbone = model, backbone
        self._factor = 1.0 if model.companion is None else model.companion.encoder_factor
        self._weights = repeat(model.weights, tasks=1)
        exactly = torch.float32
        self._network = prefix_network(
            backbone, frozen_layers=0, storage=Storage(), cache_dtype=exactly
        )
        self._below = states_below(backbone.encoder, 0, padding=0, dtype=exactly)

    def explain(self, text: str, label: int, against: int) -> _Seen:
        """Integrate from a text whose tokens are all padding to the text as it is."""
        ids, places, is_cut = self._tokenize(text)
        padding = self._backbone.tokenizer.pad_token_id or 0
        blank = torch.tensor(
            [padding if place else token for token, place in zip(ids.tolist(), places, strict=True)]
        )
        full, base = (state.unsqueeze(0) for state in self._below.run([ids, blank]))

        def margin(states: Tensor) -> Tensor:
            logits = self._run(states)
            return self._factor * (logits[:, label] - logits[:, against])

        with torch.no_grad():
            score, without_words = (float(margin(states)) for states in (full, base))
        steps, most = STEPS, GAP * max(abs(score - without_words), 1.0)
        while True:
            sums = self._integral(margin).attribute(
                full, baselines=base, n_steps=steps, internal_batch_size=_ROWS
            )
            tokens = sums.sum(-1)[0].double().cpu().numpy()
            if abs(score - without_words - tokens.sum()) <= most or steps >= MOST_STEPS:
                break
            steps *= 2
        characters = np.zeros(len(text))
        for value, place in zip(tokens.tolist(), places, strict=True):
            if place:
                _spread(characters, text, *place, value)
        begins = tuple(place[0] for place in places if place)
        return _Seen(score, without_words, characters, begins, is_cut)

    def _tokenize(self, text: str) -> tuple[Tensor, list[tuple[int, int] | None], bool]:
        """Ids; the place of each in the text, None of signs and prefix; whether it is cut."""
        prefix, tokenizer = self._backbone.prefix_text, self._backbone.tokenizer
        with self._backbone.reading():
            encoded = tokenizer(
                prefix + text,
                truncation=True,
                max_length=self._backbone.max_tokens,
                return_offsets_mapping=True,
                return_special_tokens_mask=True,
            )
        places: list[tuple[int, int] | None] = []
        for (begin, end), special in zip(
            encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True
        ):
            outside = special or end <= len(prefix.rstrip())
            place = max(begin - len(prefix), 0), max(end - len(prefix), 0)
            places.append(None if outside else place)
        last = max((place[1] for place in places if place), default=0)
        return torch.tensor(encoded["input_ids"]), places, last < len(text)

    def _run(self, states: Tensor) -> Tensor:
        rows, tokens = states.shape[:2]
        owners = Owners(torch.zeros(rows, dtype=torch.long, device=states.device), (rows,))
        mask = torch.ones(rows, tokens, dtype=torch.long, device=states.device)
        adapter = Adapter(self._model.objective.plan, self._weights, owners)
        return self._network.run(states, mask, adapter).float()


def _spread(characters: Array, text: str, begin: int, end: int, value: float) -> None:
    """Share a value among the characters of a place; a blank alone gives it to what follows."""
    places = [place for place in range(begin, end) if not text[place].isspace()]
    if not places:
        after = (place for place in range(begin, len(text)) if not text[place].isspace())
        places = [next(after, len(text) - 1)]
    characters[places] += value / len(places)


@dataclass(frozen=True, slots=True)
class _Grams:
    """What the part of n-grams is made of: each character's, without any, and the strongest."""

    characters: Array
    without_words: float
    strongest: tuple[tuple[str, float], ...]


def _explain_ngrams(model: AdaptedModel, text: str, label: int, against: int) -> _Grams:
    characters = np.zeros(len(text))
    if model.companion is None:
        return _Grams(characters, 0.0, ())
    ngrams, factor = model.companion.model, model.companion.ngram_factor
    weight = factor * (ngrams.weight[label] - ngrams.weight[against]).astype(np.float64)
    plain, origins = _read_plainly(text)
    grams = [
        (plain[first : first + order], first)
        for order in range(ORDERS[0], ORDERS[1] + 1)
        for first in range(len(plain) - order + 1)
    ]
    columns = _hash_each([gram for gram, _ in grams]) % ngrams.weight.shape[1]
    _, inverse, counts = np.unique(columns, return_inverse=True, return_counts=True)
    values = 1 + np.log(counts)
    values /= np.sqrt((values**2).sum()) * counts
    by_gram: dict[str, float] = {}
    for (gram, first), column, value in zip(grams, columns, values[inverse], strict=True):
        part = float(value * weight[column])
        by_gram[gram] = by_gram.get(gram, 0.0) + part
        places = origins[first : first + len(gram)]
        solid = [place for place in places if not text[place].isspace()] or places
        for place in solid:
            characters[place] += part / len(solid)
    strongest = sorted(by_gram.items(), key=lambda item: -abs(item[1]))[:NGRAMS]
    bias = factor * float(ngrams.bias[label] - ngrams.bias[against])
    return _Grams(characters, bias, tuple(strongest))


def _hash_each(grams: Sequence[str]) -> NDArray[np.int64]:
    """The hash of each n-gram, as texts are counted by."""
    hashes = np.zeros(len(grams), dtype=np.int64)
    for order in range(ORDERS[0], ORDERS[1] + 1):
        places = [place for place, gram in enumerate(grams) if len(gram) == order]
        owners, values = hash_ngrams(
            [grams[place] for place in places], orders=(order, order), characters=order
        )
        hashes[np.array(places, dtype=np.int64)[owners]] = values
    return hashes


def _read_plainly(text: str) -> tuple[str, list[int]]:
    """A text as its n-grams are counted, and where each character of that stands in it."""
    origins = [
        place for place, sign in enumerate(text[:CHARACTERS]) for _ in range(len(sign.lower()))
    ]
    lowered = text[:CHARACTERS].lower()
    kept = [True] * len(lowered)
    letters = list(lowered)
    for run in re.finditer(r"\s\s+", lowered):
        letters[run.start()] = " "
        kept[run.start() + 1 : run.end()] = [False] * (run.end() - run.start() - 1)
    pairs = [
        (letter, origin)
        for letter, origin, keep in zip(letters, origins, kept, strict=True)
        if keep
    ]
    return "".join(letter for letter, _ in pairs), [origin for _, origin in pairs]


def _join_words(
    text: str, encoder: Array, ngrams: Array, tokens: Sequence[int]
) -> tuple[Word, ...]:
    """Sum characters up to words."""
    return tuple(
        Word(
            begin,
            end,
            text[begin:end],
            float(encoder[begin:end].sum()),
            float(ngrams[begin:end].sum()),
        )
        for begin, end in _split_words(text, tokens)
    )


def _split_words(text: str, tokens: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Places of what stands between blanks; where a script has none, of tokens."""
    for match in re.finditer(r"\S+", text):
        cuts = [match.start(), match.end()]
        if _UNSPACED.search(match[0]):
            cuts = sorted({*cuts, *(cut for cut in tokens if match.start() < cut < match.end())})
        yield from pairwise(cuts)


def _find_neighbors(
    model: AdaptedModel, texts: Sequence[str], support: Sequence[tuple[str, str]], *, number: int
) -> list[tuple[Neighbor, ...]]:
    """The labeled texts whose features are nearest, of each text."""
    if not support or not number:
        return [()] * len(texts)
    labeled = [text.strip() for text, _ in support]
    with torch.no_grad():
        features = exact(model.objective).features(model.weights, [*labeled, *texts]).double()
    rows = (features - features[: len(labeled)].mean(0)).numpy()
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    nearest = []
    for row in rows[len(labeled) :]:
        cosines = rows[: len(labeled)] @ row
        best = np.argsort(-cosines, kind="stable")[:number].tolist()
        nearest.append(
            tuple(
                Neighbor(place, support[place][0], support[place][1], float(cosines[place]))
                for place in best
            )
        )
    return nearest


@torch.no_grad()
def measure_layers(model: AdaptedModel, start: MetaModel | None = None) -> dict[str, float]:
    """How far the adapter moved each layer, as a share of the length of its frozen weights.

    Args:
        start: To measure from: what adaptation moved. None measures from the pretrained encoder:
            what the start and adaptation moved together.

    Raises:
        LabelError: The start's layers are others than the model's.
    """
    model = AdaptedModel.of(model, "model")
    start = None if start is None else MetaModel.of(start, "start")
    plan, moved, frozen = model.objective.plan, dict[str, float](), dict[str, float]()
    if start is not None and any(name + LORA_A not in start.weights for name in plan.scales):
        raise LabelError(
            "cannot measure how far layers moved: the start moves others than the model, and the "
            "one that it was adapted from is needed; change `start`"
        )
    for name, scale in plan.scales.items():
        way = model.weights[name + LORA_B] @ model.weights[name + LORA_A]
        if start is not None:
            way = way - start.weights[name + LORA_B] @ start.weights[name + LORA_A]
        number = re.search(r"\.(\d+)\.", name)
        layer = f"layer {number[1]}" if number else name
        whole = model.objective.backbone.model.get_parameter(name + WEIGHT)
        moved[layer] = moved.get(layer, 0.0) + float((scale * way).square().sum())
        frozen[layer] = frozen.get(layer, 0.0) + float(whole.float().square().sum())
    return {layer: (moved[layer] / frozen[layer]) ** 0.5 for layer in moved}
