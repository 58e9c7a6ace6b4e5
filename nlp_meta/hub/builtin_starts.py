"""Starts that come with this package, by name: `builtin:reviews-en` and others.

Each is a folder as a run saves it, with a card that says what it learned from, under which
license and how well it does. Its tokenizer is that of its encoder and is not here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nlp_meta.data.cells import LabelMap
from nlp_meta.data.labels import SENTIMENTS, match_labels
from nlp_meta.data.schema import read_object
from nlp_meta.errors import MetaModelError
from nlp_meta.hub.pull import RECORD

BUILTIN = "builtin:"
"""What names of starts and encoders that come as packages begin with."""
FOLDER = Path(__file__).parents[1] / "starts"
SCORES = "scores.json"
"""Beside the files of a start: what it scored on tasks that nothing of it was chosen by."""
ENGLISH, MULTILINGUAL, ANY_LABELS = "reviews-en", "sentiment-multi", "labels-multi"
PAIRS = BUILTIN + "pairs-multi"
"""For sentence pairs of any languages."""

_WORDS = frozenset(
    "the of and to in is it that was for you with on this not are be have as at but they my we so "
    "had or from all very me just an if were been will would can when what there your".split()
)
_LEAST_ENGLISH = 0.15
"""Of the words of English texts, about two fifths are among `_WORDS`; of others next to none."""


@dataclass(frozen=True, slots=True)
class StartFacts:
    """What is told of a start in a list.

    Attributes:
        name: With `builtin:` before it.
        base: The encoder that it needs.
        corpora: What it was trained on, with the license of each.
        scores: A line for each suite: what was measured, and how much it was.
        bytes: Of its files.
    """

    name: str
    skills: tuple[str, ...]
    labels: tuple[str, ...]
    base: str
    corpora: dict[str, str]
    scores: dict[str, str]
    bytes: int


def list_starts() -> list[StartFacts]:
    """What this package carries."""
    return [_read_facts(folder) for folder in sorted(FOLDER.iterdir()) if folder.is_dir()]


def _read_facts(folder: Path) -> StartFacts:
    record = read_object(folder / RECORD)
    corpora = {
        str(corpus["card"]): str(corpus["license"])
        for corpus in record["provenance"]["data"]
        if any(task["use"] == "meta_train" for task in corpus["tasks"])
    }
    return StartFacts(
        BUILTIN + folder.name,
        tuple(record["skills"]),
        tuple(record["labels"]),
        str(record["model"]["model_name_or_path"]),
        corpora,
        {str(suite): str(score) for suite, score in read_object(folder / SCORES).items()},
        sum(path.stat().st_size for path in folder.iterdir()),
    )


def place_start(name: str) -> Path:
    """The folder of a start that comes with this package.

    Args:
        name: With `builtin:` before it.

    Raises:
        MetaModelError: There is none of that name; tells which there are.
    """
    folder = FOLDER / name.removeprefix(BUILTIN)
    known = [start.name for start in list_starts()]
    if name not in known:
        raise MetaModelError(
            f"cannot load '{name}': there is no such start and one of {', '.join(known)} is "
            "needed; correct the name, or see `nlp-meta starts`"
        )
    return folder


def choose_start(
    texts: Sequence[str], labels: Sequence[str] | None = None, label_map: LabelMap | None = None
) -> str:
    """The start for English texts; for others, that of sentiment or that of any other labels."""
    words = [word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower())]
    if sum(word in _WORDS for word in words) >= _LEAST_ENGLISH * max(len(words), 1):
        return BUILTIN + ENGLISH
    new = labels and not match_labels(labels, sorted(SENTIMENTS), label_map=label_map).shared
    return BUILTIN + (ANY_LABELS if new else MULTILINGUAL)
