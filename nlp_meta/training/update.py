"""Continual meta-training: a start goes on with new domains, and old ones are replayed.

The meta-train tasks that a record names are read from their cards again, with the settings
of the first training. Each domain, old or new, keeps rows apart that the training does not
see: the test part of its corpus, else a quarter of its rows. Both starts, before and
after, adapt to the same support sets and answer the same held-out rows, so that what was
forgotten, and what was gained, has an interval. Of old domains without a test part the
first training saw those rows too, so before is judged kindly there, and what is forgotten
is never understated.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator

from nlp_meta.data.cards import CLASSIFICATION, META_SPLITS, find_card, load_card
from nlp_meta.data.cells import LabelMap
from nlp_meta.data.duplicates import first_by_key, text_key
from nlp_meta.data.episodes import (
    EpisodeStream,
    MixedStream,
    Stream,
    Unit,
    join_units,
    make_generator,
    number_of,
)
from nlp_meta.data.labels import LabelMatch, check_labels, match_labels
from nlp_meta.data.tasks import Example, Task, load_tasks, texts_of
from nlp_meta.errors import CardError, LabelError, MetaModelError, SettingsError
from nlp_meta.evaluation.judged import Judged
from nlp_meta.evaluation.protocol import judge, row_key
from nlp_meta.evaluation.statistics import Interval, Paired, paired_difference, resampled_interval
from nlp_meta.hub.records import START, Record, find_model
from nlp_meta.meta.state import StepRecord
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.skills import SKILLS
from nlp_meta.rivals.fine_tune import fine_tune
from nlp_meta.settings import (
    AdaptationSettings,
    DataSettings,
    EpisodeSettings,
    HubSettings,
    InnerSettings,
    MetaTraining,
    ModelSettings,
    OuterSettings,
    RunSettings,
)
from nlp_meta.training.domains import check_new, check_texts, hash_texts
from nlp_meta.training.plan import plan_stream, validation_episodes
from nlp_meta.training.run import train_meta_model

ADDED = "added"
"""Corpus of the domains that came from tables; no card leads back to them."""
FEWEST = 8
"""Examples of each label of a new domain: six to train on, two to be judged by."""

_HELD_OUT, _SEED = 4, 7  # one row in four, the same ones in every update


@dataclass(frozen=True, slots=True)
class Recalled:
    """The tasks of a record, as far as their data are here.

    Attributes:
        tasks: By name; `train` to be replayed, `test` to be judged by.
        missing: Why, by the names of the others.
        cards: Those whose data are here.
    """

    tasks: Mapping[str, Task]
    missing: Mapping[str, str]
    cards: Sequence[str]


def recall(data: DataSettings, names: Sequence[str], *, fewest: int) -> Recalled:
    """Read the tasks that a record names, as it placed them, from the cards whose data are here.

    Args:
        fewest: Examples of each label that holding out must leave.
    """
    names = list(dict.fromkeys(names))
    cards: list[str] = []
    missing: dict[str, str] = {}
    for card in data.cards:
        task_names = [name for name in names if name.partition("/")[0] == _name_of(card)]
        try:
            _load(replace(data, cards=[card]), task_names)
        except (CardError, SettingsError) as error:
            missing |= dict.fromkeys(task_names, str(error))
        else:
            cards.append(card)
    tasks: dict[str, Task] = {}
    there = [name for name in names if name.partition("/")[0] in map(_name_of, cards)]
    if there:
        tasks = _load(replace(data, cards=cards), there)
    for name in names:
        if name not in tasks and name not in missing:
            missing[name] = "it is in none of the record's cards"
    return Recalled({n: hold_out(task, fewest=fewest) for n, task in tasks.items()}, missing, cards)


def make_task(
    name: str, texts: Sequence[str], match: LabelMatch, *, known: Sequence[str], shared: bool
) -> Task:
    """A new domain from a user's labeled texts; of a repeated text the first is kept.

    Args:
        match: Labels of the texts, by the names that the start knows.
        known: Labels of the start.
        shared: Its head answers with these and no other.

    Raises:
        LabelError: A label that the head does not know, or too few examples of one.
    """
    if shared and not match.shared:
        strange = sorted(set(match.labels).difference(known))
        raise LabelError(
            f"cannot add the domain '{name}': {', '.join(map(repr, strange))} is none of the "
            f"start's labels, {', '.join(map(repr, known))}, and its head has no other; say "
            "what it means with `label_map`, or leave these rows out"
        )
    places = first_by_key(texts).values()
    rows = tuple(Example(texts[place].strip(), match.labels[place]) for place in places)
    counts = Counter(row.target for row in rows)
    check_labels([row.target for row in rows], min_per_label=FEWEST)
    ordered = [label for label in known if label in counts]
    ordered += sorted(counts.keys() - set(ordered))
    task = Task(
        f"{ADDED}/{name}", CLASSIFICATION, "und", name, "meta-train", tuple(ordered), rows, ()
    )
    return hold_out(task, fewest=2)


def hold_out(task: Task, *, fewest: int) -> Task:
    """Move a quarter of each label's rows from `train` to `test`, where a task has no test part.

    Args:
        fewest: Units of each label that stay, so that training can still draw its episodes.
    """
    if task.test or task.kind != CLASSIFICATION:
        return task
    pools: dict[str, list[Unit]] = {}
    for unit in join_units(task.train, task.kind):
        pools.setdefault(unit[0].target, []).append(unit)
    taken: set[Example] = set()
    for place, label in enumerate(task.labels):
        pool = pools.get(label, [])
        number = max(0, min(len(pool) // _HELD_OUT, len(pool) - fewest))
        order = make_generator(_SEED, number_of(task), place).permutation(len(pool))
        taken.update(example for i in order[:number] for example in pool[i])
    return replace(
        task,
        train=tuple(example for example in task.train if example not in taken),
        test=tuple(example for example in task.train if example in taken),
    )


def drop_judged(tasks: Sequence[Task], *, judged: Sequence[Task]) -> list[Task]:
    """Leave out of the training rows what any of these tasks is judged by."""
    keys = {text_key(text) for task in judged for e in task.test for text in texts_of(e, task.kind)}
    return [
        replace(
            task,
            train=tuple(
                e for e in task.train if keys.isdisjoint(map(text_key, texts_of(e, task.kind)))
            ),
        )
        for task in tasks
    ]


def mix_streams(
    added: Sequence[Task],
    replayed: Stream | None,
    *,
    replay: float,
    episode: EpisodeSettings,
    seed: int,
) -> Stream:
    """Episodes of new domains, each as often as another, among replayed ones.

    A new domain with fewer examples than the old episodes take gives smaller ones, with the
    same ratio of support to query where there is enough for it.
    """
    streams: dict[str, Stream] = {}
    for task in added:
        shot, query_shot = _fit(task, episode)
        streams[task.name] = EpisodeStream((task,), shot, query_shot, episode.sampling, seed)
    share = (1 - replay if replayed is not None else 1.0) / len(added)
    shares = dict.fromkeys(streams, share)
    if replayed is not None:
        streams["replayed"], shares["replayed"] = replayed, replay
    return MixedStream(streams, shares)


def _fit(task: Task, episode: EpisodeSettings) -> tuple[int, int]:
    units = Counter(unit[0].target for unit in join_units(task.train, task.kind))
    there, wanted = min(units.values()), episode.shot + episode.query_shot
    if there >= wanted or not episode.shot:
        return episode.shot, min(episode.query_shot, there)
    shot = min(max(1, there * episode.shot // wanted), there - 1)
    return shot, there - shot


def _load(data: DataSettings, names: Sequence[str]) -> dict[str, Task]:
    """Training rows without what any card is judged by, and the test parts of these tasks."""
    if not names:
        return {}
    place, left_out = _place(data, names)
    options: dict[str, Any] = {"data_root": data.root, "source": data.source, "exclude": left_out}
    train, judged = (
        load_tasks(
            data.cards,
            meta_split=meta_split,
            splits={**place, meta_split: [*place.get(meta_split, []), *names]},
            **options,
        )
        for meta_split in ("meta-train", "meta-test")
    )
    tests = {task.name: task.test for task in judged}
    return {task.name: replace(task, test=tests[task.name]) for task in train if task.name in names}


def _place(data: DataSettings, names: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Every other task by its full name: where the record's run placed it, or left it out."""
    place: dict[str, list[str]] = {}
    left_out: list[str] = []
    for card in map(load_card, map(find_card, data.cards)):
        for task in card.tasks:
            name = f"{card.name}/{task.name}"
            asked = [split for split in META_SPLITS if _matches(name, data.splits.get(split, ()))]
            if name in names:
                continue
            if _matches(name, data.exclude):
                left_out.append(name)
            else:
                place.setdefault((asked or [task.meta_split])[0], []).append(name)
    return place, left_out


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _name_of(card: str) -> str:
    return card.rpartition("/")[2].removesuffix(".md")


RESAMPLES, LEVEL = 1000, 0.95


@dataclass(frozen=True, slots=True)
class DomainChange:
    """What an update did to one domain.

    Attributes:
        added: New in this update.
        rows: Held-out rows it was judged by, in each draw.
        difference: After minus before, on the same support sets and rows.
    """

    task: str
    added: bool
    rows: int
    before: Interval
    after: Interval
    difference: Paired

    @property
    def forgotten(self) -> bool:
        """An old domain is worse, beyond the interval."""
        return not self.added and self.difference.high < 0


@dataclass(frozen=True, slots=True)
class Forgetting:
    """All domains that could be judged, old ones first.

    Attributes:
        old: The old ones together; None where there is none.
    """

    old: Paired | None
    domains: tuple[DomainChange, ...]


def measure_forgetting(
    before: MetaModel,
    after: MetaModel,
    *,
    old: Sequence[Task],
    new: Sequence[Task],
    adaptation: AdaptationSettings,
) -> Forgetting:
    """Judge two starts on the test rows of each task with labels.

    Args:
        adaptation: Draws, labels and metric; tasks with fewer rows are given fewer labels.
    """
    metric = adaptation.metric
    changes: list[DomainChange] = []
    first: list[Judged] = []
    second: list[Judged] = []
    for added, tasks in ((False, old), (True, new)):
        for task in tasks:
            if (
                task.kind != CLASSIFICATION
                or len({row_key(example.source) for example in task.test}) < 2
            ):
                continue
            judged_before, judged_after = (
                _judge(model, task, adaptation) for model in (before, after)
            )
            if not added:
                first += judged_before
                second += judged_after
            scores = _interval(judged_before, metric), _interval(judged_after, metric)
            rows, difference = (
                len(judged_before[0].rows),
                _pair(judged_after, judged_before, metric),
            )
            changes.append(DomainChange(task.name, added, rows, *scores, difference))
    return Forgetting(_pair(second, first, metric) if first else None, tuple(changes))


def _judge(model: MetaModel, task: Task, adaptation: AdaptationSettings) -> list[Judged]:
    # Draws of nearly all rows would be one and the same.
    labels = min(adaptation.labels, 3 * len(task.train) // 4)
    how = model.adaptation[CLASSIFICATION]
    rival = fine_tune(
        model.objectives[CLASSIFICATION],
        model.start_of(CLASSIFICATION),
        inner=how.inner,
        minibatch=how.minibatch,
    )
    return [
        Judged(
            task.name,
            episode.index,
            task.labels,
            tuple(row_key(example.source) for example in episode.query),
            tuple(example.target for example in episode.query),
            judge(rival, episode, method="start").answers,
        )
        for episode in validation_episodes(
            [task], replace(adaptation, labels=labels), (CLASSIFICATION,)
        )
    ]


def _interval(judged: Sequence[Judged], metric: str) -> Interval:
    return resampled_interval(
        judged, metric, over_tasks=False, level=LEVEL, resamples=RESAMPLES, seed=0
    )


def _pair(after: Sequence[Judged], before: Sequence[Judged], metric: str) -> Paired:
    return paired_difference(
        after, before, metric, over_tasks=False, level=LEVEL, resamples=RESAMPLES, seed=0
    )


STEPS_SHARE = 4
"""An update takes one outer step for so many of the first training, unless told otherwise."""

_Section = TypeVar("_Section")


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """One update.

    Attributes:
        replayed: Old tasks that took part in training.
        missing: Why old tasks could not be replayed or judged, by name.
        old: All old domains together; None where none could be judged.
        domains: Old ones, then new ones.
    """

    metric: str
    draws: int
    steps: int
    replay: float
    replayed: tuple[str, ...]
    missing: Mapping[str, str]
    old: Paired | None
    domains: tuple[DomainChange, ...]
    seconds: float

    @property
    def forgotten(self) -> tuple[str, ...]:
        """Old domains that are worse, beyond the interval."""
        return tuple(domain.task for domain in self.domains if domain.forgotten)


def update_meta_model(
    name_or_path: str | Path,
    added: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    *,
    steps: int | None = None,
    replay: float = 0.5,
    label_map: LabelMap | None = None,
    data_root: str | None = None,
    seed: int = 0,
    base: str | Path | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> tuple[MetaModel, UpdateReport]:
    """Go on with the meta-training of a saved start.

    Args:
        added: Texts and labels of each new domain, by its name.
        steps: Outer steps; None takes a quarter of those of the first training.
        replay: Share of the episodes that old tasks give.
        data_root: Folder of the old tasks' files; None takes the environment's NLP_META_DATA.
        base: Where the base model is now; see `MetaModel.from_pretrained`.

    Returns:
        The new start, whose record holds the report, and the report.

    Raises:
        MetaModelError: There is no start, or its record does not say how it was trained.
        SettingsError: Nothing is left to replay, `replay` is not from 0 to below 1, or a domain
            is known already.
        LabelError: A new domain has labels that the head does not know, or clearly contradicts.
    """
    began = time.monotonic()
    if not (added and 0 <= replay < 1):
        raise SettingsError(
            f"cannot update with {len(added)} new domains and a replay of {replay}: at least one "
            "domain and a share from 0 to below 1 are needed; change `added` or `replay`"
        )
    _, record = find_model(str(name_or_path), role=START, skill=CLASSIFICATION, base=base)
    hashes = {name: hash_texts(texts) for name, (texts, _) in added.items()}
    check_new(record, hashes)
    settings = _read_settings(record, name_or_path, data_root=data_root, steps=steps, seed=seed)
    model = MetaModel.from_pretrained(name_or_path, base=base)
    shared = model.encoder_settings.head == "shared"
    new = []
    for name, (texts, labels) in added.items():
        match = match_labels(labels, model.labels, label_map=label_map)
        model.check_meaning(texts, match)
        new.append(make_task(name, texts, match, known=model.labels, shared=shared))
    plan = _plan(settings, record, new, replay, hashes)
    after = _train(settings, model, plan, on_step=on_step)
    report = _report(settings, model, after, plan, began=began)
    return replace(after, provenance=_provenance(record, after, plan, report)), report


_Hashes = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is trained on and judged by; `old` is in the record and here."""

    new: Sequence[Task]
    old: Sequence[Task]
    validation: Sequence[Task]
    missing: Mapping[str, str]
    cards: Sequence[str]
    replay: float
    hashes: _Hashes


def _plan(
    settings: MetaTraining, record: Record, new: Sequence[Task], replay: float, hashes: _Hashes
) -> _Plan:
    trained, judged = record.provenance["meta_train"], record.provenance["meta_validation"]
    again = {task.name for task in new}
    names = [name for name in (*trained, *judged) if name not in again]
    fewest = settings.episode.shot + settings.episode.query_shot
    recalled: Recalled = recall(settings.data, names, fewest=fewest)
    old = [recalled.tasks[name] for name in trained if name in recalled.tasks]
    skills = set(settings.skills) if replay else {CLASSIFICATION}
    kinds = {task.kind for task in old}
    lost = {skill for skill in skills if SKILLS[skill].rows not in kinds}
    if replay and lost:
        reason = next(iter(recalled.missing.values()), "the record names none").rstrip(".")
        raise SettingsError(
            f"cannot replay old tasks for {', '.join(sorted(lost))}: none of "
            f"{len(trained)} is here ({reason}); the data of at least one are needed; name their "
            "folder with `data_root`, or go on without them with `replay=0`"
        )
    for task in new:
        check_texts(task, recalled.tasks.values())
    old, new = (drop_judged(tasks, judged=[*recalled.tasks.values(), *new]) for tasks in (old, new))
    validation = [recalled.tasks[name] for name in judged if name in recalled.tasks]
    return _Plan(
        new, old, validation or [*old, *new], recalled.missing, recalled.cards, replay, hashes
    )


def _train(
    settings: MetaTraining,
    model: MetaModel,
    plan: _Plan,
    *,
    on_step: Callable[[StepRecord], None] | None,
) -> MetaModel:
    replayed = plan_stream(settings, plan.old) if plan.replay else None
    stream = mix_streams(
        plan.new, replayed, replay=plan.replay, episode=settings.episode, seed=settings.run.seed
    )
    train = [*(plan.old if plan.replay else ()), *plan.new]
    labels = dict.fromkeys((*model.labels, *(label for task in plan.new for label in task.labels)))
    least = min(len(task.train) // (1 if task.test else 2) for task in plan.validation)
    adaptation = replace(settings.adaptation, labels=min(settings.adaptation.labels, least))
    with tempfile.TemporaryDirectory() as folder:
        run = replace(settings.run, output_dir=folder)
        data = replace(settings.data, cards=list(plan.cards))
        after, _ = train_meta_model(
            replace(settings, run=run, data=data, adaptation=adaptation),
            train,
            plan.validation,
            accelerator=Accelerator(cpu=not torch.cuda.is_available()),
            on_step=on_step,
            labels=tuple(labels),
            stream=stream,
        )
    if after is None:
        raise KeyboardInterrupt
    # N-grams of the tasks that are here would forget those of the others.
    whole = plan.replay and not plan.missing
    return after if whole or model.companion is None else replace(after, companion=model.companion)


def _report(
    settings: MetaTraining, before: MetaModel, after: MetaModel, plan: _Plan, *, began: float
) -> UpdateReport:
    adaptation = settings.adaptation
    forgetting = measure_forgetting(
        before, after, old=plan.old, new=plan.new, adaptation=adaptation
    )
    return UpdateReport(
        metric=adaptation.metric,
        draws=adaptation.draws,
        steps=settings.outer.steps,
        replay=plan.replay,
        replayed=tuple(task.name for task in plan.old) if plan.replay else (),
        missing=plan.missing,
        old=forgetting.old,
        domains=forgetting.domains,
        seconds=time.monotonic() - began,
    )


def _provenance(
    record: Record, after: MetaModel, plan: _Plan, report: UpdateReport
) -> dict[str, Any]:
    """The first training's settings stay, so that a later update goes on from them too."""
    first, ran = record.provenance, after.provenance
    names = [*first["meta_train"], *(task.name for task in plan.new)]
    update = {
        **asdict(report),
        # Reasons name folders of this machine.
        "missing": list(report.missing),
        "forgotten": list(report.forgotten),
        "added": [
            {"task": task.name, "rows": len(task.train), "sha256": plan.hashes[task.domain]}
            for task in plan.new
        ],
        "outer_steps": ran["outer_steps"],
        "best_score": ran["best_score"],
    }
    return {
        **first,
        "meta_train": list(dict.fromkeys(names)),
        "data": [*(first.get("data") or ()), *(_describe_table(task) for task in plan.new)],
        "examples": ran["examples"],
        "trials": ran["trials"],
        "updates": [*first.get("updates", []), update],
    }


def _describe_table(task: Task) -> dict[str, Any]:
    """An entry as a card has one; what a user's own table may be used for is not stated."""
    entry = {"name": task.name, "language": task.language, "domain": task.domain, "config": None}
    return {
        "card": ADDED,
        "pretty_name": f"a table of one's own, '{task.domain}'",
        "license": "unknown",
        "hub": None,
        "tasks": [{**entry, "use": "meta_train"}],
    }


def _read_settings(
    record: Record, name: str | Path, *, data_root: str | None, steps: int | None, seed: int
) -> MetaTraining:
    """The settings of the first training, for an update."""
    try:
        settings = record.provenance["settings"]
        outer = _section(OuterSettings, settings, "outer")
        # Starts of before had episodes of all labels only.
        episode = {"ways": None, "sentiment_share": None, **settings["episode"]}
        steps = steps or max(1, outer.steps // STEPS_SHARE)
        return MetaTraining(
            skills=list(record.skills),
            data=replace(_section(DataSettings, settings, "data"), root=data_root),
            episode=_section(EpisodeSettings, {"episode": episode}, "episode"),
            model=ModelSettings(**record.model),
            inner=_section(InnerSettings, settings, "inner"),
            outer=replace(
                outer,
                steps=steps,
                warmup_steps=min(outer.warmup_steps, steps // 10),
                validate_every=min(outer.validate_every, steps),
                checkpoint_every=steps,
                average_last=min(outer.average_last, steps),
                patience=None,
            ),
            adaptation=_section(AdaptationSettings, settings, "adaptation"),
            run=RunSettings(seed, "", str(name), "auto", 2048, None, [], resume=False),
            hub=HubSettings(False, None, None, None, None, "end", None),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise MetaModelError(
            f"cannot go on with the training of '{name}': its record lacks {error} and the "
            "settings of a training by this package are needed; train it with a recipe"
        ) from error


def _section(kind: type[_Section], settings: Mapping[str, Any], name: str) -> _Section:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: value for key, value in settings[name].items() if key in known})
