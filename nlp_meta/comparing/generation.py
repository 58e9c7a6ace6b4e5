"""Methods that write translations: ours, joint training then fine-tuning, and their rivals."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar

import torch

from nlp_meta.comparing.bench import Method
from nlp_meta.comparing.methods import ADAPTED, ASKED, JUDGED, Kind, no_choice
from nlp_meta.comparing.pairs import (
    UNMOVED,
    Choice,
    Inside,
    build_lora,
    build_pretrained,
    build_start,
    choose_lora,
    choose_start,
    draw_pair_episodes,
)
from nlp_meta.comparing.prompted import build_prompting, choose_prompting
from nlp_meta.comparing.run import Contest
from nlp_meta.data.episodes import Episode, SupportSet
from nlp_meta.hub.pull import ADAPTER, RECORD
from nlp_meta.meta.inner_loop import Weights
from nlp_meta.models.generation import (
    AdaptedGeneration,
    TranslationMetaModel,
    adapt_generation,
    build_generator,
)
from nlp_meta.objectives.generation import Generation
from nlp_meta.rivals.copied_source import copied_source
from nlp_meta.settings import GenerationComparison, GenerationSettings


@dataclass(frozen=True, slots=True)
class GenerationBench:
    """What every builder of a method that writes is given.

    Attributes:
        judged: Episodes of the meta-validation tasks, for every choice; answered greedily.
    """

    passes: ClassVar[float] = 1.75  # its own, and three quarters beside the held-out pairs
    settings: GenerationComparison
    judged: tuple[Episode, ...]
    _loaded: dict[str, Generation] = field(default_factory=dict, repr=False)

    def objective(self, model: GenerationSettings) -> Generation:
        """Load an encoder-decoder with its adapter's plan; a second time give the same.

        All methods of a comparison write with as many beams, those of its own settings.
        """
        key = json.dumps(asdict(model))
        if key not in self._loaded:
            run = self.settings.run
            self._loaded[key] = build_generator(
                model, precision=run.mixed_precision, batch_tokens=run.batch_tokens
            )
        return replace(self._loaded[key], num_beams=self.settings.generation.num_beams)

    def start(self, folder: str) -> TranslationMetaModel:
        """Load a meta-model; those of one encoder-decoder share it."""
        model = TranslationMetaModel.from_pretrained(folder)
        shared = self.objective(model.settings)
        return replace(model, objective=replace(shared, plan=model.objective.plan))

    def pretrained(self) -> tuple[Generation, Weights]:
        """The encoder-decoder of the settings, with LoRA matrices that change nothing yet."""
        objective = self.objective(self.settings.generation)
        generator = torch.Generator().manual_seed(self.settings.run.seed)
        return objective, objective.meta_parameters(generator)

    def adapt_inside(
        self,
        objective: Generation,
        weights: Weights,
        support_set: SupportSet,
        *,
        inside: Inside,
    ) -> tuple[Generation, AdaptedGeneration]:
        """Adapt to a support set as `nlp-meta adapt` does."""
        found = adapt_generation(
            objective,
            weights,
            support_set.examples,
            language=support_set.language,
            inner=inside.inner,
            minibatch=inside.minibatch,
            early_stop=inside.early_stop,
            seed=self.settings.run.seed,
        )
        return objective, found

    def while_choosing(self, objective: Generation) -> Generation:
        """Choices are made by greedy translations, which take a fraction of the time."""
        return replace(objective, num_beams=1)


def build_copied(bench: GenerationBench, _: str, choice: Choice) -> Method:
    """Every source as its own translation."""
    return Method(copied_source, 0, lambda _pairs: 0, UNMOVED)


_MODEL = "the adapted encoder-decoder"
_FOLDER = (ADAPTER, RECORD)
_BEAMS = "generation.num_beams"

KINDS: Mapping[str, Kind] = {
    "start": Kind(
        "a meta-model, fine-tuned",
        "ours",
        _MODEL,
        (_BEAMS, *ADAPTED),
        choose_start,
        build_start,
        folder=True,
        files=_FOLDER,
    ),
    "joint": Kind(
        "joint training, then fine-tuning",
        "rival",
        _MODEL,
        (_BEAMS, *ADAPTED),
        choose_start,
        build_start,
        folder=True,
        files=_FOLDER,
    ),
    "lora": Kind("plain LoRA", "rival", _MODEL, ("generation", *ADAPTED), choose_lora, build_lora),
    "zero_pairs": Kind(
        "the encoder-decoder as it is",
        "rival",
        "the frozen encoder-decoder",
        ("generation",),
        no_choice,
        build_pretrained,
    ),
    "copied_source": Kind(
        "the source as it is", "rival", "the source's characters", (), no_choice, build_copied
    ),
    "prompting": Kind(
        "in-context prompting",
        "rival",
        "a causal language model",
        (*ASKED, "translation_prompting", *JUDGED),
        choose_prompting,
        build_prompting,
    ),
}
CONTEST = Contest("generation", draw_pair_episodes, KINDS)
"""Writing translations."""
