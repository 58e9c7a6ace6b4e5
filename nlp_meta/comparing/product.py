"""Methods that are what `nlp-meta adapt` does, held-out folds, temperature and all.

The two differ in the companion alone, so one adaptation serves both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nlp_meta.comparing.bench import BYTES_A_NUMBER, Bench, Method, name_start
from nlp_meta.data.answers import Prediction
from nlp_meta.data.episodes import Episode
from nlp_meta.data.reuse import work_time
from nlp_meta.evaluation.protocol import hash_support
from nlp_meta.meta.adaptation import repeat
from nlp_meta.meta.step_sizes import drop_step_sizes
from nlp_meta.models import AdaptedModel, MetaModel
from nlp_meta.objectives.ngrams import FEATURES

Choice = Mapping[str, object]

EXAMPLES_A_LABEL = 2
"""What `adapt` asks for; without any, only a head that knows all labels can answer."""
FOLDED = 4
"""Adaptations of a call of `adapt`: its own, and copies of three quarters on four folds."""


def build_adapt(bench: Bench, folder: str, choice: Choice) -> Method:
    """A meta-model as users adapt it, without companion."""
    return _build(bench, folder, mixed=False)


def build_hybrid(bench: Bench, folder: str, choice: Choice) -> Method:
    """A meta-model as users adapt it, with its n-gram companion where that pays."""
    return _build(bench, folder, mixed=True)


def _build(bench: Bench, folder: str, *, mixed: bool) -> Method:
    model = bench.start(folder)
    said: dict[str, object] = {}

    def predict(episode: Episode) -> Sequence[Prediction]:
        if not episode.support:
            bench.stopwatch.adapted()
            return _answer(model, episode)
        adapted = _adapt(bench, folder, model, episode)
        bench.stopwatch.adapted()
        answers = _answer(adapted, replace(episode, labels=adapted.labels))
        said.update(_tell(adapted, mixed=mixed))
        if mixed and adapted.companion is not None:
            return adapted.companion.mix([one.source for one in episode.query], answers)
        return answers

    moved = sum(value.numel() for value in drop_step_sizes(model.weights).values())
    if mixed:
        prior = model.companion
        moved += len(bench.labels) * (FEATURES if prior is None else prior.weight.shape[1])
    how = "with n-grams" if mixed else "without n-grams"
    facts = {
        "title": f"{name_start(model)}, `nlp-meta adapt` {how}",
        "examples_before": model.provenance["examples"],
        "start": Path(folder).name,
        "pooling": model.settings.pooling,
        "parameters": moved,
        "bytes": BYTES_A_NUMBER * moved,
        "choice": {"chosen": "by held-out folds of each support set"},
    }

    def examples(labels: int) -> int:
        batches = 1 if model.minibatch is None else max(1, round(labels / model.minibatch))
        return round(FOLDED * model.adaptation.steps * labels / batches)

    alone, each = bench.knows(model), EXAMPLES_A_LABEL
    return Method(predict, each * len(bench.labels), examples, facts, said, None, alone, each)


def _adapt(bench: Bench, folder: str, model: MetaModel, episode: Episode) -> AdaptedModel:
    """Adapt, or give what the other method has just adapted, at its cost."""
    key = f"{folder} {hash_support(episode)}"
    if key not in bench.adapted:
        began = work_time()
        adapted = model.adapt(
            [example.source for example in episode.support],
            [example.target for example in episode.support],
            seed=bench.settings.run.seed,
        )
        bench.adapted.clear()
        bench.adapted[key] = adapted, work_time() - began
    else:
        bench.stopwatch.credit(bench.adapted[key][1])
    return bench.adapted[key][0]


def _answer(model: MetaModel | AdaptedModel, episode: Episode) -> list[Prediction]:
    """Answer through the cached prefix, which `AdaptedModel.predict` does not keep.

    Args:
        episode: Of an adapted model, with its labels in the order of its logits.
    """
    objective, stacked = model.objective, repeat(model.weights, tasks=1)
    return objective.answer(stacked, objective.query_batches([episode]), [episode])[0]


def _tell(adapted: AdaptedModel, *, mixed: bool) -> dict[str, object]:
    report = adapted.report
    if report is None:
        return {}
    told: dict[str, object] = {"steps": report.steps, "temperature": report.temperature}
    if mixed and report.companion is not None:
        weight = report.companion.weight if report.companion.on else 0.0
        told |= {"companion_weight": weight, "prior_scale": report.companion.prior_scale}
    return told
