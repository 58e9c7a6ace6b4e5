"""`nlp-meta update`: a start goes on with new domains, and what it forgot is measured."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from nlp_meta.cli.files import check_output_folder, read_rows
from nlp_meta.cli.options import LABEL_OPTIONS, READING, add_shared, positive, read_float
from nlp_meta.cli.screen import Screen, show_facts, show_table, show_work
from nlp_meta.errors import SettingsError
from nlp_meta.progress import quiet_libraries

if TYPE_CHECKING:
    from nlp_meta.evaluation.statistics import Paired
    from nlp_meta.files.tables import LabeledTable
    from nlp_meta.meta.state import StepRecord
    from nlp_meta.training.update import UpdateReport

EXAMPLE = """\
nlp-meta update runs/quickstart/meta --add-domain hotels=hotels.csv \\
    --output-dir runs/with_hotels"""


def add_options(command: ArgumentParser) -> None:
    """Add the options of `update`."""
    main = command.add_argument_group("main options")
    add_shared(main, "start")
    add_shared(main, "--base")
    main.add_argument(
        "--add-domain",
        dest="added",
        required=True,
        action="append",
        type=_domain,
        metavar="NAME=FILE",
        help="a new domain and its table of labeled texts; may be given several times",
    )
    add_shared(main, "--output-dir", help="new or empty folder for the new start")
    add_shared(main, "--replace")
    main.add_argument(
        "--steps",
        type=positive,
        metavar="N",
        help="outer steps (default: a quarter of those of the first training)",
    )
    main.add_argument(
        "--replay",
        type=_share,
        default=0.5,
        metavar="SHARE",
        help="share of the episodes that old tasks give, from 0 to below 1 (default: %(default)s)",
    )
    data = command.add_argument_group("data")
    add_shared(data, *LABEL_OPTIONS, *READING)
    data.add_argument(
        "--data-root",
        metavar="DIR",
        help="folder of the old tasks' files (default: the environment's NLP_META_DATA)",
    )
    add_shared(data, "--seed")


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Train on, judge, save, and tell what was gained and what was forgotten."""
    tables = _read_domains(options, screen)
    from nlp_meta.files.outputs import Layout

    # An update never takes the place of another model without being told.
    check_output_folder(options, Layout("a start", record=""))
    with quiet_libraries(), show_work(screen, "outer steps") as on_step:
        from nlp_meta.training.update import update_meta_model

        done = 0

        def count(_: "StepRecord") -> None:
            nonlocal done
            done += 1
            on_step(done, max(done, options.steps or 0))

        model, report = update_meta_model(
            options.start,
            {name: (table.texts, table.labels or ()) for name, table in tables.items()},
            steps=options.steps,
            replay=options.replay,
            label_map=options.label_map,
            data_root=options.data_root,
            seed=options.seed,
            base=options.base,
            on_step=count,
        )
        model.save_pretrained(options.output_dir, replace=options.replace)
    _show(report, options.output_dir, screen)
    record = {"output_dir": str(options.output_dir), **asdict(report)}
    return {**record, "forgotten": list(report.forgotten)}


def _read_domains(options: Namespace, screen: Screen) -> dict[str, "LabeledTable"]:
    tables: dict[str, LabeledTable] = {}
    for name, path in options.added:
        if name in tables:
            raise SettingsError(
                f"cannot add the domain '{name}' twice: each needs a name of its own; rename one "
                "`--add-domain`, or put both tables into one file"
            )
        tables[name] = read_rows(options, path, screen)
    return tables


def _show(report: "UpdateReport", folder: Path, screen: Screen) -> None:
    show_table(
        screen,
        ("domain", "", "before", "after", "difference", ""),
        [
            (
                domain.task,
                "new" if domain.added else "old",
                *(
                    f"{score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"
                    for score in (domain.before, domain.after)
                ),
                _show_difference(domain.difference),
                "forgotten" if domain.forgotten else "",
            )
            for domain in report.domains
        ],
    )
    facts = {
        "measured": f"{report.metric}, {report.draws} support draws, 95% intervals",
        "replayed": f"{len(report.replayed)} old tasks, {report.replay:.0%} of the episodes",
    }
    if report.old is not None:
        facts["old domains together"] = _show_difference(report.old)
    facts["forgotten"] = ", ".join(report.forgotten) or "nothing beyond the interval"
    if all(domain.added for domain in report.domains):
        facts["forgotten"] = "not measured: no old domain is here"
    facts |= {f"not here: {name}": reason for name, reason in report.missing.items()}
    facts |= {"saved to": str(folder), "time": f"{report.seconds:.0f} s"}
    show_facts(screen, facts)


def _show_difference(paired: "Paired") -> str:
    return f"{paired.difference:+.3f} [{paired.low:+.3f}, {paired.high:+.3f}]"


def _domain(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (equals and name.strip() and path) or "/" in name:
        raise ArgumentTypeError(f"{text!r} is not of the form NAME=FILE, such as hotels=hotels.csv")
    return name.strip(), Path(path)


def _share(text: str) -> float:
    share = read_float(text)
    if not 0 <= share < 1:
        raise ArgumentTypeError(f"{text!r} is not a share, a number from 0 to below 1 is needed")
    return share
