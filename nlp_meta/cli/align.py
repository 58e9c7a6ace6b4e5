"""`nlp-meta align`: the sentences of two files that translate each other."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nlp_meta.cli.evaluate import GENERATION, RETRIEVAL, find_skill
from nlp_meta.cli.files import Columns, check_ending, check_output_file, write_columns
from nlp_meta.cli.options import above_zero, add_shared, read_path
from nlp_meta.cli.screen import Screen, show_facts
from nlp_meta.errors import DataError
from nlp_meta.progress import quiet_libraries, show_count

if TYPE_CHECKING:
    from nlp_meta.models.generation import GenerationModel
    from nlp_meta.models.retrieval import RetrievalModel

EXAMPLE = "nlp-meta align ind-jav --source a.txt --target b.txt --output pairs.tsv"
ENDINGS = (".tsv", ".csv", ".jsonl", ".xlsx")

# Lines that people are shown of each reason for leaving lines out.
_SHOWN = 3


def add_options(command: ArgumentParser) -> None:
    """Add the options of `align`."""
    main = command.add_argument_group("main options")
    add_shared(main, "model", "--base")
    for side in ("source", "target"):
        main.add_argument(
            f"--{side}",
            dest=f"{side}s",
            required=True,
            type=read_path,
            metavar="FILE",
            help=f"plain text of {side} sentences, one a line, in any order; may be packed as .gz; "
            "of equal sentences the first one counts",
        )
    add_shared(
        main,
        "--output",
        help="table to write, .tsv, .csv, .jsonl or .xlsx: source, target, margin and both line "
        "numbers",
    )
    add_shared(main, "--replace")
    main.add_argument(
        "--threshold",
        type=above_zero,
        metavar="MARGIN",
        help="least margin of a pair, about 1; higher means fewer and surer pairs (default: what "
        "the held-out pairs of the adaptation advised)",
    )
    add_shared(
        command.add_argument_group("data"),
        "--encoding",
        help="encoding of both texts, such as cp1252 or utf-16 (default: it is looked for)",
    )


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


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Mine pairs, write them whole, and tell how many there are."""
    check_output_file(options)
    check_ending(options.output, ENDINGS, what="pairs")
    source, target = (_read(options, side) for side in ("source", "target"))
    with quiet_libraries():
        model = _load(options.model, options.base)
        with show_count("embedding", console=screen.notes) as on_step:
            mined = model.align(
                source.sentences, target.sentences, threshold=options.threshold, on_step=on_step
            )
    # A text of cells is for people, who read six digits.
    is_exact = options.output.suffix.lower() in (".jsonl", ".xlsx")
    columns: Columns = {
        "source": [source.sentences[pair.source] for pair in mined],
        "target": [target.sentences[pair.target] for pair in mined],
        "margin": [pair.margin if is_exact else f"{pair.margin:.6f}" for pair in mined],
        "source_line": [source.lines[pair.source] for pair in mined],
        "target_line": [target.lines[pair.target] for pair in mined],
    }
    write_columns(options, [columns])
    threshold = model.threshold if options.threshold is None else options.threshold
    counts = {"source": len(source.sentences), "target": len(target.sentences)}
    facts = {
        "pairs": f"{len(mined)}, of {counts['source']} and {counts['target']} sentences",
        "threshold": f"{threshold:.3f}",
        **_describe("repeated sentences", source.repeated, target.repeated),
        **_describe("empty lines", source.empty, target.empty),
        "written to": str(options.output),
    }
    show_facts(screen, facts)
    return {
        "output": str(options.output),
        "pairs": len(mined),
        "threshold": threshold,
        "sentences": counts,
        "empty_lines": {"source": len(source.empty), "target": len(target.empty)},
        "repeated_lines": {"source": list(source.repeated), "target": list(target.repeated)},
        "columns": list(columns),
    }


def _load(name: str, base: str | None) -> "RetrievalModel | GenerationModel":
    from nlp_meta.models.skills import SKILLS

    skill = GENERATION if find_skill(name) == GENERATION else RETRIEVAL
    adapted = SKILLS[skill].adapted.from_pretrained(name, base=base)
    return cast("RetrievalModel | GenerationModel", adapted)


def _read(options: Namespace, side: str) -> _Text:
    from nlp_meta.data.cells import is_empty
    from nlp_meta.data.duplicates import first_places
    from nlp_meta.files.memories import MEMORY_FORMS, read_lines

    path: Path = getattr(options, f"{side}s")
    if not path.is_file():
        raise DataError(
            f"cannot read '{path}': there is no such file, a text of one sentence a line is "
            f"needed; check the path given as `--{side}`"
        )
    lines = read_lines(path, known=MEMORY_FORMS, encoding=options.encoding)
    kept = [number for number, line in enumerate(lines, start=1) if not is_empty(line)]
    if not kept:
        raise DataError(
            f"cannot align '{path}': it has no sentence in {len(lines)} lines and at least one is "
            f"needed; name another text with `--{side}`"
        )
    empty = sorted(set(range(1, len(lines) + 1)) - set(kept))
    sentences = tuple(lines[number - 1] for number in kept)
    firsts = set(first_places(sentences))
    repeated = tuple(number for place, number in enumerate(kept) if place not in firsts)
    return _Text(sentences, tuple(kept), tuple(empty), repeated)


def _describe(name: str, source: Sequence[int], target: Sequence[int]) -> dict[str, str]:
    parts = [
        f"{len(lines)} of the {side} (line {', '.join(map(str, lines[:_SHOWN]))}"
        f"{', ...' if len(lines) > _SHOWN else ''})"
        for side, lines in (("source", source), ("target", target))
        if lines
    ]
    return {name: "; ".join(parts)} if parts else {}
