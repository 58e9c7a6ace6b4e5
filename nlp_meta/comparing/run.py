"""Running a comparison: choices first, then every cell once, shared among processes.

Draws come one after the other, each with all methods, so that a run that is stopped has
judged every method on the same support sets. Whatever is finished is on disk: choices in
`choices/`, cells in `cells/`. What a finished comparison leaves is `results.json`,
`predictions.parquet` and `report.html`.
"""

import datetime
import json
import logging
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

from nlp_meta import __version__
from nlp_meta.comparing.bench import (
    CONTESTS,
    AnyComparison,
    Bench,
    Method,
    draw_episodes,
    foretell,
    skill_of,
)
from nlp_meta.comparing.fingerprints import check_unseen, fingerprint, hash_adapter
from nlp_meta.comparing.methods import MethodRow, find_method, group_of
from nlp_meta.data.episodes import Episode
from nlp_meta.data.leaks import LeakReport
from nlp_meta.data.tasks import Task
from nlp_meta.encoders.cache import Storage
from nlp_meta.errors import MissingPackageError, OutputError, SettingsError, need_packages
from nlp_meta.evaluation.answers import ANSWERS, missing_for
from nlp_meta.evaluation.protocol import FOLDER as CELLS
from nlp_meta.evaluation.protocol import (
    CellKey,
    FinishedCell,
    append_record,
    check_record,
    columns_of,
    hash_query,
    judge,
    key_of_episode,
    read_records,
)
from nlp_meta.evaluation.results import Analysis, analyze
from nlp_meta.files.locks import hold
from nlp_meta.files.outputs import (
    Layout,
    append_text,
    check_folder,
    remove_folder,
    write_file,
    write_folder,
)
from nlp_meta.progress import Outlook
from nlp_meta.report.verdict import answer_sentence
from nlp_meta.training.run import Share, describe_hardware, hash_rows

logger = logging.getLogger(__name__)

CHOICES = "choices"
"""Folder of what methods chose, a file for each: `choices/METHOD.FINGERPRINT.json`."""
STATES = "states"
"""Folder of what frozen layers gave, until the comparison ends."""

Rows = Mapping[str, tuple[MethodRow, str]]
"""By method, its row of the table and what follows its name in the config."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished comparison.

    Attributes:
        facts: By method, in the order of the settings; `skipped` says why one is missing.
        episodes: In the order of draws, tasks and labels.
    """

    facts: Mapping[str, Mapping[str, object]]
    episodes: tuple[Episode, ...]
    records: Mapping[CellKey, FinishedCell]
    notes: tuple[str, ...] = ()


_DRAWN = ("learning_curves", "all_curves", "domains", "cost", "confusion", "calibration")
_PICTURES = tuple(f"figures/{name}.{form}" for name in _DRAWN for form in ("png", "svg"))
RESULTS = Layout(
    what="a comparison",
    record="results.json",
    names=("report.html", "predictions.parquet", *_PICTURES),
    among=True,
)


def check_results_folder(
    settings: AnyComparison, tasks: Sequence[Task], *, folder: Path, replace: bool
) -> None:
    """Stop before the work where results that are there would be lost.

    Results that these go on from, with more methods, labels or draws, are no loss.

    Args:
        replace: They may be lost, and what was judged for them.

    Raises:
        OutputError: Says what these would not have.
    """
    check_folder(folder, RESULTS, replace=replace, argument="run.output_dir")
    if replace:
        for name, ours in {CHOICES: r".+\.[0-9a-f]{16}\.json", CELLS: r".+\.\d+\.jsonl"}.items():
            if (folder / name).is_dir():
                remove_folder(folder / name, ours=ours)
    path, plan = folder / RESULTS.record, settings.comparison
    if replace or not path.is_file():
        return
    earlier = json.loads(path.read_text(encoding="utf-8"))
    lost = [f"the method '{name}'" for name in earlier["methods"] if name not in plan.methods]
    lost += [f"{count} labels" for count in earlier["labels"] if count not in plan.labels]
    lost += [f"{earlier['draws']} draws"] if earlier["draws"] > plan.draws else []
    lost += [f"the metric {earlier['metric']}"] if earlier["metric"] != plan.metric else []
    lost += ["other texts"] if earlier.get("rows") != hash_rows(tasks) else []
    if lost:
        raise OutputError(
            f"cannot compare in '{folder}': results are there of {', '.join(lost[:3])}, which "
            "these would not have, and they are not lost without a word; name another folder with "
            "`run.output_dir`, or replace them with `run.replace`"
        )


def run_comparison(
    bench: Bench,
    tasks: Sequence[Task],
    *,
    folder: Path,
    share: Share,
    on_cell: Callable[[int, int], None] | None = None,
) -> Ran:
    """Judge every method on every episode; what an earlier run finished is not made again.

    Args:
        on_cell: Called with this process's finished cells and their number.

    Raises:
        MissingPackageError: The extra `compare` is not installed.
        SettingsError: An unknown method, one that was trained on a task to be judged, or a
            folder with cells of other settings.
        DataError: A folder with cells of other data.
    """
    need_packages("compare methods", "matplotlib", "pyarrow", "sklearn", extra="compare")
    settings = bench.settings
    check_metric(settings)
    methods = settings.comparison.methods
    rows = {name: find_method(text, bench.skill) for name, text in methods.items()}
    check_names(settings)
    check_unseen(settings, rows, tasks)
    if share.rank == 0:
        check_results_folder(settings, tasks, folder=folder, replace=settings.run.replace)
    share.wait()
    storage = Storage(shared=Path(settings.run.states_dir or folder / STATES))
    bench = replace(bench, storage=storage)
    path = folder / f".{share.rank}.lock"
    append_text(path, "", argument="run.output_dir")
    with hold(path, argument="run.output_dir"):
        try:
            return _run(bench, tasks, rows, folder=folder, share=share, on_cell=on_cell)
        finally:
            path.unlink(missing_ok=True)


def _run(
    bench: Bench,
    tasks: Sequence[Task],
    rows: Rows,
    *,
    folder: Path,
    share: Share,
    on_cell: Callable[[int, int], None] | None,
) -> Ran:
    settings = bench.settings
    prints = {name: fingerprint(settings, name) for name in rows}
    episodes = draw_episodes(bench, tasks)
    done = _read_done(folder, prints, episodes)
    share.wait()  # or a quick process would write cells that a slow one then reads
    _make_choices(bench, rows, folder, prints, share)
    share.wait()
    built, facts = _build_methods(bench, rows, folder, prints)
    wanted = [key_of_episode(name, episode) for name, episode in _plan(settings, built, episodes)]
    if not wanted:
        raise _nothing_error(settings, facts)
    _make_cells(bench, built, episodes, done, folder, prints, share, on_cell)
    share.wait()
    records = read_records(folder, fingerprints={name: prints[name] for name in built})
    notes = CONTESTS[bench.skill].notes(settings)
    return Ran(facts, episodes, {key: records[key] for key in wanted}, notes)


def check_metric(settings: AnyComparison) -> None:
    """Stop before anything is judged where a metric could not be reported or chosen by.

    Raises:
        SettingsError: One is not among those of which more is better, or is of other answers.
        MissingPackageError: One cannot be computed here.
    """
    fitting = ANSWERS[skill_of(settings)].main_metrics
    metrics = {"comparison": settings.comparison.metric, "adaptation": settings.adaptation.metric}
    for section, metric in metrics.items():
        if metric not in fitting:
            raise SettingsError(
                f"cannot compare by '{metric}': one of {', '.join(fitting)} is needed; change "
                f"`{section}.metric`"
            )
        missing = missing_for(metric)
        if missing:
            raise MissingPackageError(f"{missing}, or change `{section}.metric`")


def check_names(settings: AnyComparison) -> None:
    """Stop where a setting names a method that is none of the comparison's."""
    plan = settings.comparison
    named = {"comparison.ours": [plan.ours] if plan.ours else [], "comparison.limits": plan.limits}
    for setting, names in named.items():
        for name in names:
            if name not in plan.methods:
                raise SettingsError(
                    f"cannot find the method '{name}' of `{setting}`: one of "
                    f"{', '.join(plan.methods)} is needed; correct it, or add it to "
                    "`comparison.methods`"
                )


def _read_done(
    folder: Path, prints: Mapping[str, str], episodes: Sequence[Episode]
) -> dict[CellKey, FinishedCell]:
    """Read what earlier runs finished, if it was made from these episodes."""
    done = read_records(folder, fingerprints=prints)
    by_key = {key_of_episode("", episode): episode for episode in episodes}
    for key, record in done.items():
        episode = by_key.get(key._replace(method=""))
        if episode is not None:  # else of a draw that is not asked for now
            check_record(record, episode)
    return done


def _make_choices(
    bench: Bench, rows: Rows, folder: Path, prints: Mapping[str, str], share: Share
) -> None:
    """Each process makes its part of the choices; files carry them to the others."""
    for number, (name, (row, argument)) in enumerate(rows.items()):
        path = choice_path(folder, name, prints[name])
        if number % share.processes != share.rank or read_choice(path) is not None:
            continue
        again = " again: its file is damaged" if path.exists() else ""
        logger.log(logging.WARNING if again else logging.INFO, "choosing for %s%s", name, again)
        try:
            choice = row.choose(bench, argument)
        except MissingPackageError:
            continue  # building it says so again, in every process
        write_file(path, json.dumps(choice) + "\n", replace=True, argument="run.output_dir")


def choice_path(folder: Path, method: str, fingerprint: str) -> Path:
    """Where a method's choice is."""
    return folder / CHOICES / f"{method}.{fingerprint}.json"


def read_choice(path: Path) -> dict[str, object] | None:
    """What was chosen; None where there is no whole file, and it is to be made."""
    try:
        choice = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return choice if isinstance(choice, dict) else None


def _build_methods(
    bench: Bench, rows: Rows, folder: Path, prints: Mapping[str, str]
) -> tuple[dict[str, Method], dict[str, dict[str, object]]]:
    methods: dict[str, Method] = {}
    facts: dict[str, dict[str, object]] = {}
    for name, (row, argument) in rows.items():
        path = choice_path(folder, name, prints[name])
        group = group_of(bench.settings.comparison, name, row, argument)
        facts[name] = {"title": row.title, "group": group, "reads": row.skills[bench.skill].reads}
        try:
            choice = read_choice(path)
            choice = row.choose(bench, argument) if choice is None else choice
            methods[name] = row.build(bench, argument, choice)
        except MissingPackageError as error:
            logger.warning("%s is left out: %s", name, error)
            facts[name]["skipped"] = str(error)
            continue
        facts[name].update(methods[name].facts, skipped=None)
        if row.folder:
            facts[name]["start_sha256"] = hash_adapter(argument)
    return methods, facts


def _make_cells(
    bench: Bench,
    methods: Mapping[str, Method],
    episodes: Sequence[Episode],
    done: Mapping[CellKey, FinishedCell],
    folder: Path,
    prints: Mapping[str, str],
    share: Share,
    on_cell: Callable[[int, int], None] | None,
) -> None:
    # Each task's numbers of labels go round the processes: the large ones are not all one's.
    turns = {
        key_of_episode("", episode): place + place // len(bench.settings.comparison.labels)
        for place, episode in enumerate(episodes)
    }
    cells = [
        (name, episode)
        for name, episode in _plan(bench.settings, methods, episodes)
        if turns[key_of_episode("", episode)] % share.processes == share.rank
    ]
    missing = [cell for cell in cells if key_of_episode(*cell) not in done]
    for name, method in methods.items():
        if method.announce is not None:
            method.announce([episode for other, episode in missing if other == name])
    works = Counter((name, len(episode.support)) for name, episode in missing)
    outlook = Outlook(works, expected=foretell(bench, methods, missing))
    for number, (name, episode) in enumerate(missing, start=len(cells) - len(missing)):
        if on_cell:
            on_cell(number, len(cells))
        method = methods[name]
        judgment = judge(method.learn, episode, method=name, clock=bench.clock)
        used = {"examples_adapt": method.examples(len(episode.support)), **judgment.facts}
        record = FinishedCell(name, judgment.cell, judgment.answers, used, hash_query(episode))
        append_record(folder, record, fingerprint=prints[name], rank=share.rank)
        outlook(name, len(episode.support))
    if on_cell:
        on_cell(len(cells), len(cells))


def _plan(
    settings: AnyComparison, methods: Mapping[str, Method], episodes: Sequence[Episode]
) -> Iterator[tuple[str, Episode]]:
    """Give every cell: an episode, then the methods that are judged on it."""
    limits = settings.comparison.limits
    for episode in episodes:
        for name, method in methods.items():
            last = limits.get(name, settings.comparison.draws)
            if method.can_answer(episode) and episode.index < last:
                yield name, episode


def _nothing_error(
    settings: AnyComparison, facts: Mapping[str, Mapping[str, object]]
) -> SettingsError:
    budgets = ", ".join(map(str, settings.comparison.labels))
    reasons = [
        f"{name}: {about['skipped']}" for name, about in facts.items() if about.get("skipped")
    ]
    missing = f" ({'; '.join(reasons)})" if reasons else ""
    return SettingsError(
        f"cannot compare {', '.join(facts)} at {budgets} labels: none of them can learn from so "
        f"few, or from so few of one label{missing}, and one that can is needed; change "
        "`comparison.labels` or `comparison.methods`"
    )


FORMAT = 1
PACKAGES = ("torch", "transformers", "peft", "scikit-learn", "numpy")
UNEQUAL = 0.02
"""Share by which examples before may differ between starts that are called equal."""


def save_comparison(
    ran: Ran, bench: Bench, tasks: Sequence[Task], leaks: LeakReport, *, folder: Path
) -> str:
    """Write the results, every answer, and the page; give the sentence with the answer."""
    settings = bench.settings
    plan = settings.comparison
    analysis = Analysis(plan.metric, plan.ours, plan.over_tasks, plan.resamples, settings.run.seed)
    results: dict[str, object] = {
        "format": FORMAT,
        "title": plan.title,
        "metric": plan.metric,
        "labels": plan.labels,
        "draws": plan.draws,
        "ours": plan.ours,
        "settings": _portable(settings),
        "versions": _versions(),
        "hardware": describe_hardware(),
        "made": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "tasks": [_describe(task, ran) for task in tasks],
        "rows": hash_rows(tasks),
        "methods": {name: {**facts, **_prompts(name, ran)} for name, facts in ran.facts.items()},
        **analyze(ran.records, ran.episodes, analysis),
        "leaks": asdict(leaks),
        "notes": _notes(settings, ran),
    }
    by_place = {
        (episode.task, len(episode.support), episode.index): episode for episode in ran.episodes
    }
    columns = columns_of(list(ran.records.values()), by_place)
    with write_folder(
        folder, RESULTS, replace=settings.run.replace, argument="run.output_dir"
    ) as draft:
        _write_page(draft.path, results, columns)
        draft.record = results
    if settings.run.states_dir is None and (folder / STATES).is_dir():
        remove_folder(folder / STATES, ours=r"[0-9a-f]{16}\.states")
    return answer_sentence(results)


def _write_page(
    folder: Path, results: Mapping[str, object], columns: Mapping[str, Sequence[object]]
) -> None:
    import pyarrow
    import pyarrow.parquet

    from nlp_meta.report.page import write_report

    table = pyarrow.table(dict(columns))
    pyarrow.parquet.write_table(table, folder / "predictions.parquet")
    write_report(folder, results, table)


def _portable(settings: AnyComparison) -> dict[str, object]:
    """Settings without the folders of this machine."""
    data, run = replace(settings.data, root=None), replace(settings.run, states_dir=None)
    return {**asdict(settings), "data": asdict(data), "run": asdict(run)}


def _versions() -> dict[str, str]:
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {"nlp_meta": __version__, "python": platform.python_version(), **packages}


def _describe(task: Task, ran: Ran) -> dict[str, object]:
    episodes = [episode for episode in ran.episodes if episode.task == task.name]
    pool = max(len(episode.candidates) for episode in episodes)
    return {
        "name": task.name,
        "language": task.language,
        "domain": task.domain,
        "labels": list(task.labels),
        "query_rows": max(len(episode.query) for episode in episodes),
        "test_rows": len(task.test or task.train),
        **({"candidates": pool} if pool else {}),
    }


def _prompts(name: str, ran: Ran) -> dict[str, object]:
    """What a method's prompts were, in how many cells, and the demonstrations that they showed."""
    cells = [
        (key.labels, record.facts)
        for key, record in ran.records.items()
        if key.method == name and "demonstrations" in record.facts
    ]
    if not cells:
        return {}
    shown: dict[str, list[int]] = {}
    for labels, facts in sorted(cells, key=lambda cell: cell[0]):
        shown.setdefault(str(labels), []).append(int(str(facts["demonstrations"])))
    named: dict[str, object] = {
        f"{part}s": Counter(str(facts[part]) for _, facts in cells if part in facts)
        for part in ("template", "scoring")
    }
    ranges = {labels: [min(numbers), max(numbers)] for labels, numbers in shown.items()}
    return {"prompts": {**named, "demonstrations": ranges}}


def _notes(settings: AnyComparison, ran: Ran) -> list[str]:
    notes = [*ran.notes]
    before: Mapping[str, int] = {
        name: int(str(facts["examples_before"]))
        for name, facts in ran.facts.items()
        if facts.get("examples_before")
    }
    if before and max(before.values()) > (1 + UNEQUAL) * min(before.values()):
        shown = ", ".join(f"{name} {count:,}" for name, count in before.items())
        notes.append(f"The starts were not trained on equally many examples: {shown}.")
    if settings.comparison.max_query is not None:
        notes.append(
            f"Each draw judges at most {settings.comparison.max_query} rows of a test set, others "
            "in each draw."
        )
    metrics = ANSWERS[skill_of(settings)].metrics
    notes += [f"Left out: {missing}." for name in metrics if (missing := missing_for(name))]
    for name, most in settings.comparison.limits.items():
        notes.append(f"{name} was judged on {most} of {settings.comparison.draws} draws.")
    return notes
