"""`nlp-meta align`: the sentences of two files that translate each other."""

import csv
import json
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nlp_meta.cli.evaluate_pairs import writes_translations
from nlp_meta.cli.files import check_output_file, replace_file
from nlp_meta.cli.screen import Screen, show_facts, show_progress
from nlp_meta.data.duplicates import first_places
from nlp_meta.errors import DataError
from nlp_meta.files.entries import is_blank
from nlp_meta.files.memories import FORMS
from nlp_meta.files.parallel_texts import read_lines
from nlp_meta.progress import quiet_libraries

COLUMNS = ("source", "target", "margin", "source_line", "target_line")
# Lines that people are shown of each kind that is left out.
SHOWN = 3
Row = tuple[str, str, float, int, int]


@dataclass(frozen=True, slots=True)
class _Text:
    """The sentences of a file.

    Attributes:
        lines: Of the sentences.
        empty: Lines that are left out.
        repeated: Lines of sentences that an earlier one stands for.
    """

    sentences: tuple[str, ...]
    lines: tuple[int, ...]
    empty: tuple[int, ...]
    repeated: tuple[int, ...]


def run_align(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Mine pairs, write them whole, and tell how many there are."""
    for side in ("source", "target"):
        check_output_file(
            options.output, data=getattr(options, side), given=f"the text given as `--{side}`"
        )
    write = _find_writer(options.output)
    source, target = (_read(getattr(options, side), side) for side in ("source", "target"))
    with quiet_libraries():
        from nlp_meta.models.generation import TranslationModel
        from nlp_meta.models.retrieval import AlignmentModel

        kind = TranslationModel if writes_translations(options.model) else AlignmentModel
        model: AlignmentModel | TranslationModel = kind.from_pretrained(options.model)
        with show_progress(screen, "embedding") as on_step:
            mined = model.align(
                source.sentences, target.sentences, threshold=options.threshold, on_step=on_step
            )
    rows = [
        (
            source.sentences[one.source],
            target.sentences[one.target],
            one.margin,
            source.lines[one.source],
            target.lines[one.target],
        )
        for one in mined
    ]
    with replace_file(options.output) as path:
        write(path, rows)
    threshold = model.threshold if options.threshold is None else options.threshold
    return _tell(options.output, len(rows), threshold, source, target, screen)


def _tell(
    output: Path, pairs: int, threshold: float, source: _Text, target: _Text, screen: Screen
) -> dict[str, object]:
    show_facts(
        screen,
        {
            "pairs": f"{pairs}, of {len(source.sentences)} and {len(target.sentences)} sentences",
            "threshold": f"{threshold:.3f}",
            **_describe("repeated sentences", source.repeated, target.repeated),
            **_describe("empty lines", source.empty, target.empty),
            "written to": str(output),
        },
    )
    return {
        "output": str(output),
        "pairs": pairs,
        "threshold": threshold,
        "sentences": {"source": len(source.sentences), "target": len(target.sentences)},
        "empty_lines": {"source": len(source.empty), "target": len(target.empty)},
        "repeated_lines": {"source": list(source.repeated), "target": list(target.repeated)},
        "columns": list(COLUMNS),
    }


def _read(path: Path, side: str) -> _Text:
    if not path.is_file():
        raise DataError(
            f"cannot read '{path}': there is no such file, a text of one sentence a line is "
            f"needed; check the path given as `--{side}`"
        )
    lines = read_lines(path, known=FORMS)
    kept = [place for place, line in enumerate(lines, start=1) if not is_blank(line)]
    if not kept:
        raise DataError(
            f"cannot align '{path}': it has no sentence in {len(lines)} lines and at least one is "
            f"needed; name another text with `--{side}`"
        )
    empty = sorted(set(range(1, len(lines) + 1)) - set(kept))
    sentences = tuple(lines[place - 1] for place in kept)
    firsts = set(first_places(sentences))
    repeated = tuple(line for place, line in enumerate(kept) if place not in firsts)
    return _Text(sentences, tuple(kept), tuple(empty), repeated)


def _describe(name: str, source: Sequence[int], target: Sequence[int]) -> dict[str, str]:
    told = [
        f"{len(lines)} of the {side} (line {', '.join(map(str, lines[:SHOWN]))}"
        f"{', ...' if len(lines) > SHOWN else ''})"
        for side, lines in (("source", source), ("target", target))
        if lines
    ]
    return {name: "; ".join(told)} if told else {}


def _find_writer(path: Path) -> Callable[[Path, Sequence[Row]], None]:
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise DataError(
            f"cannot write pairs to '{path}': its ending {path.suffix!r} is unknown, one of "
            f"{', '.join(_WRITERS)} is needed; name such a file with `--output`"
        )
    return writer


def _write_delimited(path: Path, rows: Sequence[Row], *, separator: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((a, b, f"{margin:.6f}", *lines) for a, b, margin, *lines in rows)


def _write_json_lines(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            values = dict(zip(COLUMNS, row, strict=True))
            file.write(json.dumps(values, ensure_ascii=False) + "\n")


_WRITERS: Mapping[str, Callable[[Path, Sequence[Row]], None]] = {
    ".tsv": partial(_write_delimited, separator="\t"),
    ".csv": partial(_write_delimited, separator=","),
    ".jsonl": _write_json_lines,
}
