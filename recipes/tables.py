"""Print the results of a comparison as Markdown, or write them into documents that ask for them.

python recipes/tables.py runs/compare_reviews/results.json
python recipes/tables.py --update recipes/RESULTS.md README.md

A document asks with `<!-- results of compare_reviews: scores, paired -->`; the results are those
of `recipes/results/compare_reviews.json`.
"""

import argparse
import json
from functools import cache
from pathlib import Path

from nlp_meta.files.outputs import write_file
from nlp_meta.report.page import fill_markdown, to_markdown
from nlp_meta.report.scores import Results

RESULTS = Path(__file__).parent / "results"


@cache
def read_results(name: str) -> Results:
    """The committed results of a comparison."""
    found: Results = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="results.json; with --update documents")
    parser.add_argument("--update", action="store_true", help="write tables into the documents")
    arguments = parser.parse_args()
    for path in arguments.files:
        text = path.read_text(encoding="utf-8")
        if arguments.update:
            write_file(path, fill_markdown(text, read_results), replace=True)
        else:
            print(to_markdown(json.loads(text)))


if __name__ == "__main__":
    main()
