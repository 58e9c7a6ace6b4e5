"""Write NusaX with a number for each sentence, and its train sentences in two halves.

NusaX has the same sentences in every language. The pairs of NusaX-MT say which row translates
which. Meta-train tasks take one half, and what is held out is adapted to with rows of the other: no
support row is then a translation of a row that a start saw. The card is recipes/nusax_apart.md.

python recipes/nusax_apart.py --root "$NLP_META_DATA"
accelerate launch recipes/meta_train.py --config recipes/configs/fomaml_languages.yaml \
  --data.cards '[recipes/nusax_apart.md, afrisenti]'
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from nlp_meta.data.cards import TRANSLATION, find_card, load_card
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.episodes import join_units, make_generator
from nlp_meta.data.sources import Row, read_rows
from nlp_meta.data.tasks import Example
from nlp_meta.files.outputs import write_file


def number_sentences(root: Path) -> dict[str, int]:
    """Key of a text, in any language, to the number of its sentence."""
    card = load_card(find_card("nusax_mt"))
    rows = [
        row
        for task in card.tasks
        for split in ("train", "test")
        for row in read_rows(card, task, split, source="files", data_root=root)
    ]
    units = join_units([Example(row.source, row.target) for row in rows], TRANSLATION)
    return {
        text_key(text): number
        for number, unit in enumerate(units)
        for pair in unit
        for text in (pair.source, pair.target)
    }


def save_rows(path: Path, rows: Iterable[Row], numbers: Mapping[str, int]) -> None:
    lines = [
        {"text": row.source, "label": row.target, "sentence": numbers[text_key(row.source)]}
        for row in rows
    ]
    write_file(path, "".join(json.dumps(line) + "\n" for line in lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--output", type=Path, help="folder to write below (default: the root)")
    arguments = parser.parse_args()
    numbers = number_sentences(arguments.root)
    order = make_generator(0).permutation(max(numbers.values()) + 1)
    card = load_card(find_card("nusax"))
    for task in card.tasks:
        parts = {
            split: [
                row
                for row in read_rows(card, task, split, source="files", data_root=arguments.root)
                if text_key(row.source) in numbers
            ]
            for split in ("train", "test")
        }
        halves: tuple[list[Row], list[Row]] = ([], [])
        for row in parts["train"]:
            halves[order[numbers[text_key(row.source)]] % 2].append(row)
        folder = (arguments.output or arguments.root) / "sentiment/nusax_apart"
        for name, rows in (("learn", halves[0]), ("adapt", halves[1]), ("test", parts["test"])):
            save_rows(folder / f"{task.name}.{name}.jsonl", rows, numbers)
        print(f"{task.name}: {len(halves[0])} and {len(halves[1])} train rows")


if __name__ == "__main__":
    main()
