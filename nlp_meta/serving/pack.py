"""Many domains over one encoder: a mixed batch of texts is answered in few passes.

Each row of a pass has its own domain's low-rank term and head. The table of domains is never
changed, only replaced by another one, so an answer that has begun goes on with the weights
that it began with.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from nlp_meta.data.answers import Prediction
from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.inputs import Texts, as_texts
from nlp_meta.encoders.backbone import Backbone, resolve_name, twin
from nlp_meta.encoders.batches import Owners, pad_rows, tokenize
from nlp_meta.encoders.lora import BIAS, LORA_A, LORA_B, WEIGHT, Adapter, LoraPlan, Weights
from nlp_meta.encoders.prefix import lean_network
from nlp_meta.errors import BackboneError, DataError, MetaModelError
from nlp_meta.hub.model import Saved, refuse_pickle
from nlp_meta.hub.records import ADAPTED, find_model, read_settings
from nlp_meta.models.builders import plan_encoder
from nlp_meta.models.classification import AdaptedModel, prediction_tokens, read_adapted
from nlp_meta.models.companion import Companion
from nlp_meta.objectives.classification import MASKED, to_predictions
from nlp_meta.settings import ModelSettings

PASS_TOKENS = 2048
"""Most tokens of one pass, padded, unless a single text has more: larger ones are no faster."""
PASS_OVERHEAD = 32
"""Tokens that could be computed in the time that one more pass takes by itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """The adapter and the head of one domain, and how its texts are read.

    Attributes:
        layers: Names of the linear layers that have a low-rank term.
        weights: The scale of each low-rank term is in its `lora_B`.
        source: Last part of its folder, or Hub id; empty for a model that was never saved.
    """

    labels: tuple[str, ...]
    layers: tuple[str, ...]
    weights: Mapping[str, Tensor]
    prefix_text: str
    max_tokens: int
    companion: Companion | None
    source: str

    @property
    def bytes(self) -> int:
        """Memory of the adapter, the head and the n-grams."""
        adapter = sum(tensor.nbytes for tensor in self.weights.values())
        return adapter + (self.companion.model.weight.nbytes if self.companion else 0)


def make_domain(model: AdaptedModel, *, source: str = "") -> Domain:
    """Keep the tensors of an adapted model that are its own, and let go of its encoder."""
    plan, settings = model.objective.plan, model.settings
    weights: dict[str, Tensor] = {}
    for name, scale in plan.scales.items():
        weights[name + LORA_A] = model.weights[name + LORA_A].detach()
        weights[name + LORA_B] = model.weights[name + LORA_B].detach() * scale
    for name in plan.head:
        weights |= {name + part: model.weights[name + part].detach() for part in (WEIGHT, BIAS)}
    return Domain(
        labels=model.labels,
        layers=tuple(plan.scales),
        weights=weights,
        prefix_text=settings.prefix_text,
        max_tokens=settings.max_tokens,
        companion=model.companion,
        source=source,
    )


def load_adapted(
    name_or_path: str | Path, *, backbone: Backbone, base: ModelSettings, revision: str | None
) -> AdaptedModel:
    """Load an adapted model over an encoder that is there already.

    Args:
        base: What the encoder was loaded by.

    Raises:
        MetaModelError: There is no adapted model.
        BackboneError: It was adapted from another encoder.
    """
    name, loaded = str(name_or_path), base.model_name_or_path
    try:
        folder, record = find_model(
            name, role=ADAPTED, skill=CLASSIFICATION, revision=revision, base=loaded
        )
    except BackboneError as error:
        raise BackboneError(
            f"cannot serve '{name}' with the others: it was adapted from another base and "
            f"'{loaded}', which is loaded, is needed; leave it out and serve it by itself"
        ) from error
    settings = read_settings(record, ModelSettings)
    check_base(settings, base, name=name)
    encoder = plan_encoder(
        replace(backbone, prefix_text=settings.prefix_text, max_tokens=settings.max_tokens),
        settings,
        dtype=None,
        batch_tokens=prediction_tokens(backbone.device),
    )
    return read_adapted(Saved(folder, record, None, None, None), settings, encoder)


def check_base(settings: ModelSettings, base: ModelSettings, *, name: str) -> None:
    """Refuse a model whose encoder is not the one that is loaded.

    Raises:
        BackboneError: Another backbone, revision or pooling.
    """
    revisions = {settings.revision, base.revision} - {None}
    same = _place(settings.model_name_or_path) == _place(base.model_name_or_path)
    if same and len(revisions) < 2 and settings.pooling == base.pooling:
        return
    raise BackboneError(
        f"cannot serve '{name}' with the others: it was adapted from {_describe(settings)} and "
        f"{_describe(base)}, which is loaded, is needed; leave it out and serve it by itself"
    )


def stack_domains(domains: Sequence[Domain], plan: LoraPlan) -> tuple[LoraPlan, dict[str, Tensor]]:
    """Put the weights of domains side by side, whatever their ranks, layers and labels.

    Smaller ranks are filled up with zeros and so is a layer that a domain leaves as it is,
    which adds nothing; labels that a domain lacks get a logit that no softmax sees.
    """
    layers = dict.fromkeys(name for domain in domains for name in domain.layers)
    weights: dict[str, Tensor] = {}
    for name in layers:
        a, b = name + LORA_A, name + LORA_B
        weights[a] = _pad(_fill([domain.weights.get(a) for domain in domains]))
        columns = [None if b not in domain.weights else domain.weights[b].mT for domain in domains]
        weights[b] = _pad(_fill(columns)).mT
    for name in plan.head:
        padding = MASKED if name == plan.head[-1] else 0.0
        weights[name + WEIGHT] = _pad([domain.weights[name + WEIGHT] for domain in domains])
        weights[name + BIAS] = _pad([domain.weights[name + BIAS] for domain in domains], padding)
    scales: Mapping[str, float] = dict.fromkeys(layers, 1.0)
    return replace(plan, scales=scales), weights


def _fill(matrices: Sequence[Tensor | None]) -> list[Tensor]:
    """Rank 0 where there is no matrix."""
    like = next(matrix for matrix in matrices if matrix is not None)
    return [like[:0] if matrix is None else matrix for matrix in matrices]


def _pad(tensors: Sequence[Tensor], value: float = 0.0) -> Tensor:
    if len({tensor.shape for tensor in tensors}) == 1:
        return torch.stack(list(tensors))
    return pad_sequence(list(tensors), batch_first=True, padding_value=value)


def plan_passes(lengths: Sequence[int]) -> list[list[int]]:
    """Group texts of like length so that padding and passes together cost least.

    A pass costs its tokens with padding and a fixed number more. Once texts are in order of
    length each pass takes neighbors, so the best groups follow from those of fewer texts.

    Returns:
        Places in `lengths`, each once.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    least, begins = [0], [0]
    for end, longest in enumerate((lengths[row] for row in order), start=1):
        first = max(0, end - max(1, PASS_TOKENS // longest))
        costs = [least[begin] + longest * (end - begin) for begin in range(first, end)]
        best = min(range(len(costs)), key=costs.__getitem__)
        least.append(costs[best] + PASS_OVERHEAD)
        begins.append(first + best)
    groups: list[list[int]] = []
    end = len(order)
    while end:
        groups.append(order[begins[end] : end])
        end = begins[end]
    return groups


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One text that waits for its answer, with the weights that will give it."""

    domain: Domain
    text: str
    ids: Tensor


class DomainPack:
    """Adapted models of many domains over one encoder; any thread may call it.

    Attributes:
        backbone: The encoder of all domains.
        base: What the encoder was loaded by.
    """

    def __init__(self, first: AdaptedModel, *, name: str, source: str = "") -> None:
        """Take over the encoder of a first model."""
        self.backbone, self.base = first.objective.backbone, first.settings
        self._plan = first.objective.plan
        self._network = lean_network(self.backbone)
        self._table: Mapping[str, Domain] = MappingProxyType(
            {name: make_domain(first, source=source)}
        )
        self._loading, self._replacing = threading.Lock(), threading.Lock()

    def __reduce_ex__(self, _: object) -> NoReturn:
        refuse_pickle(type(self).__name__)

    @classmethod
    def from_pretrained(
        cls,
        models: Mapping[str, str | Path],
        *,
        device: str | None = None,
        base: str | Path | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> "DomainPack":
        """Load adapted models from folders or the Hub, by the names of their domains.

        Args:
            base: Where their base model is now; see `AdaptedModel.from_pretrained`.
            on_step: Called with the models loaded and their number.

        Raises:
            MetaModelError: There is none, or a name is of no adapted model.
            BackboneError: They were adapted from different encoders or poolings.
        """
        if not models:
            raise MetaModelError(
                "cannot serve 0 domains: at least one adapted model is needed; name its folder"
            )
        (name, path), *others = models.items()
        first = AdaptedModel.from_pretrained(path, device=device, base=base)
        pack = cls(first, name=name, source=_name_source(path))
        for done, (name, path) in enumerate(others, start=1):
            if on_step:
                on_step(done, len(models))
            pack.load(name, path)
        return pack

    @property
    def domains(self) -> Mapping[str, Domain]:
        """Domains by name, as they are now; later changes do not show in it."""
        return self._table

    def find(self, name: str) -> Domain:
        """Look a domain up.

        Raises:
            MetaModelError: It is not loaded; names those that are.
        """
        table = self._table
        if name not in table:
            raise MetaModelError(
                f"cannot find the domain '{name}': one of those that are loaded is needed, "
                f"{', '.join(sorted(table)) or 'none yet'}; correct `domain`, or load it first"
            )
        return table[name]

    def load(
        self,
        name: str,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        source: str | None = None,
    ) -> bool:
        """Load a domain, in the place of one of that name; True if there was one.

        Args:
            source: What the domain tells of where it came from; None tells the last part of its
                folder, or its id on the Hub.

        Raises:
            MetaModelError: There is no adapted model.
            BackboneError: It was adapted from another encoder or pooling.
        """
        with self._loading:
            model = load_adapted(
                name_or_path, backbone=self.backbone, base=self.base, revision=revision
            )
        source = _name_source(name_or_path) if source is None else source
        return self._put(name, make_domain(model, source=source))

    def add(self, name: str, model: AdaptedModel, *, source: str = "") -> bool:
        """Add a model that is in memory, in the place of one of that name; True if there was one.

        Raises:
            BackboneError: It was adapted from another encoder or pooling.
        """
        check_base(model.settings, self.base, name=name)
        return self._put(name, make_domain(model, source=source))

    def unload(self, name: str) -> None:
        """Take a domain out; what has begun to answer for it goes on.

        Raises:
            MetaModelError: It is not loaded.
        """
        with self._replacing:
            self.find(name)
            self._table = MappingProxyType(
                {other: domain for other, domain in self._table.items() if other != name}
            )

    def predict(self, domains: Texts, texts: Texts) -> list[Prediction]:
        """One prediction a text, each by its own domain, as `AdaptedModel.predict` gives.

        Args:
            domains: Names, one for each text.

        Raises:
            MetaModelError: A domain is not loaded.
            DataError: A text is empty, or there are fewer or more domains than texts.
        """
        domains, texts = as_texts(domains, "domains"), as_texts(texts, "texts")
        if len(domains) != len(texts):
            raise DataError(
                f"cannot answer {len(texts)} texts of {len(domains)} domains: one domain for each "
                "text is needed; give as many"
            )
        questions: list[tuple[int, Question]] = []
        for name in dict.fromkeys(domains):
            places = [place for place, domain in enumerate(domains) if domain == name]
            read = self.read(self.find(name), [texts[place] for place in places])
            questions += zip(places, read, strict=True)
        questions.sort(key=lambda pair: pair[0])
        return self.answer([question for _, question in questions])

    def read(self, domain: Domain, texts: Sequence[str]) -> list[Question]:
        """Tokenize texts for a domain."""
        backbone = replace(
            self.backbone, prefix_text=domain.prefix_text, max_tokens=domain.max_tokens
        )
        stripped = [text.strip() for text in texts]
        rows = tokenize(backbone, stripped)
        return [Question(domain, *pair) for pair in zip(stripped, rows, strict=True)]

    def answer(self, questions: Sequence[Question]) -> list[Prediction]:
        """Answer texts of any domains, in few passes."""
        domains = list(dict.fromkeys(question.domain for question in questions))
        if not domains:
            return []
        owners = [domains.index(question.domain) for question in questions]
        logits = self._run(questions, domains, owners)
        answers: list[Prediction | None] = [None] * len(questions)
        for place, domain in enumerate(domains):
            rows = [row for row, owner in enumerate(owners) if owner == place]
            texts = [questions[row].text for row in rows]
            for row, answer in zip(rows, _read_logits(domain, texts, logits[rows]), strict=True):
                answers[row] = answer
        return [answer for answer in answers if answer is not None]

    def twin(self) -> Backbone:
        """Copy the encoder for another thread: the tensors are shared, hooks and locks are not."""
        return twin(self.backbone)

    def _put(self, name: str, domain: Domain) -> bool:
        with self._replacing:
            was_there = name in self._table
            self._table = MappingProxyType({**self._table, name: domain})
        return was_there

    def _run(
        self, questions: Sequence[Question], domains: Sequence[Domain], owners: Sequence[int]
    ) -> Tensor:
        """Logits `(questions, most labels)`, in float32 on the CPU."""
        plan, weights = stack_domains(domains, self._plan)
        groups = plan_passes([len(question.ids) for question in questions])
        logits: list[Tensor] = []
        places: list[int] = []
        with torch.inference_mode():
            for group in groups:
                rows = sorted(group, key=owners.__getitem__)
                places += rows
                ids = [questions[row].ids for row in rows]
                logits.append(self._pass(plan, weights, ids, [owners[row] for row in rows]))
        return torch.cat(logits)[torch.tensor(places).argsort()]

    def _pass(
        self, plan: LoraPlan, weights: Weights, ids: Sequence[Tensor], owners: Sequence[int]
    ) -> Tensor:
        device = self.backbone.device
        block, mask = pad_rows(ids, padding=self._network.padding)
        tasks = len(weights[plan.head[-1] + BIAS])
        counts = tuple(owners.count(task) for task in range(tasks))
        rows = Owners(torch.tensor(owners, device=device), counts)
        adapter = Adapter(plan, weights, rows)
        return self._network.run(block.to(device), mask.to(device), adapter).float().cpu()


def _read_logits(domain: Domain, texts: Sequence[str], logits: Tensor) -> list[Prediction]:
    logs = logits[:, : len(domain.labels)].log_softmax(-1)
    answers = to_predictions(logs, domain.labels, domain.labels)
    return answers if domain.companion is None else domain.companion.mix(texts, answers)


def _name_source(name_or_path: str | Path) -> str:
    path = Path(name_or_path)
    return path.resolve().name if path.is_dir() else str(name_or_path)


def _place(name: str) -> str:
    place = resolve_name(name)
    return str(Path(place).resolve()) if Path(place).is_dir() else place


def _describe(settings: ModelSettings) -> str:
    revision = f" at {settings.revision}" if settings.revision else ""
    return f"'{settings.model_name_or_path}'{revision} with {settings.pooling} pooling"
