"""`nlp-meta update`: a meta-model goes on with new domains, and what it forgot is measured."""

import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from nlp_meta.cli.files import check_new_folder
from nlp_meta.cli.screen import Screen, show_facts, show_progress, show_table
from nlp_meta.data.labels import parse_label_map
from nlp_meta.errors import SettingsError
from nlp_meta.files.tables import Table, read_table
from nlp_meta.progress import quiet_libraries

if TYPE_CHECKING:
    from nlp_meta.meta.state import StepRecord
    from nlp_meta.training.update import UpdateReport


def run_update(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Train on, judge, save, and tell what was gained and what was forgotten."""
    label_map = None if options.label_map is None else parse_label_map(options.label_map)
    tables = _read_domains(options)
    check_new_folder(options.output_dir)
    with quiet_libraries(), show_progress(screen, "outer steps") as on_step:
        from nlp_meta.training.update import update_meta_model

        done = 0

        def count(_: "StepRecord") -> None:
            nonlocal done
            done += 1
            on_step(done, max(done, options.steps or 0))

        model, report = update_meta_model(
            options.meta,
            {name: (table.texts, table.labels or ()) for name, table in tables.items()},
            steps=options.steps,
            replay=options.replay,
            label_map=label_map,
            data_root=options.data_root,
            seed=options.seed,
            on_step=count,
        )
        model.save_pretrained(options.output_dir)
    _show(report, options.output_dir, screen)
    record = {"output_dir": str(options.output_dir), **asdict(report)}
    return {**record, "forgotten": list(report.forgotten)}


def _read_domains(options: Namespace) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    for name, path in options.add_domain:
        if name in tables:
            raise SettingsError(
                f"cannot add the domain '{name}' twice: each needs a name of its own; rename one "
                "`--add-domain`, or put both tables into one file"
            )
        tables[name] = read_table(
            path,
            text_column=options.text_column,
            label_column=options.label_column,
            max_rows=sys.maxsize,
        )
    return tables


def _show(report: "UpdateReport", folder: Path, screen: Screen) -> None:
    show_table(
        screen,
        ("domain", "", "before", "after", "difference", ""),
        [
            (
                one.task,
                "new" if one.added else "old",
                *(f"{x.mean:.3f} [{x.low:.3f}, {x.high:.3f}]" for x in (one.before, one.after)),
                _difference(one.difference.difference, one.difference.low, one.difference.high),
                "forgotten" if one.forgotten else "",
            )
            for one in report.domains
        ],
    )
    facts = {
        "measured": f"{report.metric}, {report.draws} support draws, 95% intervals",
        "replayed": f"{len(report.replayed)} old tasks, {report.replay:.0%} of the episodes",
    }
    if report.old is not None:
        told = _difference(report.old.difference, report.old.low, report.old.high)
        facts["old domains together"] = told
    facts["forgotten"] = ", ".join(report.forgotten) or "nothing beyond the interval"
    if not any(not one.added for one in report.domains):
        facts["forgotten"] = "not measured: no old domain is here"
    facts |= {f"not here: {name}": reason for name, reason in report.missing.items()}
    facts |= {"saved to": str(folder), "time": f"{report.seconds:.0f} s"}
    show_facts(screen, facts)


def _difference(mean: float, low: float, high: float) -> str:
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
