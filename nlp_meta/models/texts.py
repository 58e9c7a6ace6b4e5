"""Texts as users give them: none empty, sides of one length, none longer than a model takes."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from nlp_meta.data.cells import SKIP, STOP, is_empty
from nlp_meta.data.episodes import count_texts
from nlp_meta.data.inputs import Labels, Texts, as_labels, as_texts, check_choice, leave_out_empty
from nlp_meta.data.labels import check_labels, drop_rows
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import Backbone
from nlp_meta.encoders.batches import tokenize
from nlp_meta.errors import DataError, LabelError

OFTEN = 20
"""Examples of a label beside which a label of one example looks like a slip."""


def check_labeled(
    texts: Texts, labels: Labels, *, drop_labels: Labels = (), empty: str = STOP
) -> tuple[list[str], list[str], tuple[str, ...]]:
    """Take texts and labels as lists; refuse ones that differ in number.

    Args:
        drop_labels: Labels whose examples are left out.
        empty: Examples without a text or a label `stop`, or `skip` leaves them out.

    Returns:
        Texts, labels, and sentences on what is left out.

    Raises:
        DataError, LabelError: See `as_texts` and `as_labels`.
        SettingsError: `empty` is no policy here.
    """
    notes: tuple[str, ...] = ()
    if check_choice(empty, (STOP, SKIP), "empty") == SKIP:
        texts, labels, notes = leave_out_empty(texts, labels)  # type: ignore[assignment]
    text_list, label_list = as_texts(texts, "texts"), as_labels(labels, "labels")
    if len(text_list) != len(label_list):
        raise DataError(
            f"cannot adapt to {len(text_list)} texts with {len(label_list)} labels: one label for "
            "each text is needed; give as many `labels` as `texts`"
        )
    if isinstance(drop_labels, str):
        drop_labels = [drop_labels]
    left_out, dropped = drop_rows(
        [[label] for label in label_list], as_labels(drop_labels, "drop_labels")
    )
    notes = (*notes, *dropped)
    kept = [place for place in range(len(text_list)) if place not in left_out]
    return [text_list[place] for place in kept], [label_list[place] for place in kept], notes


def check_sides(sources: Texts, targets: Texts) -> tuple[list[str], list[str]]:
    """Take both sides as lists; refuse sides that differ in number.

    Raises:
        DataError: See `as_texts`.
    """
    left, right = as_texts(sources, "sources"), as_texts(targets, "targets")
    if len(left) != len(right):
        raise DataError(
            f"cannot adapt to {len(left)} sentences with {len(right)} translations: one "
            "translation for each sentence is needed; give as many `targets` as `sources`"
        )
    return left, right


def count_cut(
    backbone: Backbone,
    texts: Sequence[str],
    *,
    long_texts: str,
    name: Callable[[int], str] = lambda place: f"text {place + 1}",
) -> int:
    """Number of texts longer than an encoder takes.

    Args:
        name: What a text is called, by its place from 0.

    Raises:
        DataError: There are some and `long_texts` is `stop`.
    """
    longest = backbone.max_tokens
    rows = tokenize(replace(backbone, max_tokens=longest + 1), texts)
    return count_long_texts(list(map(len, rows)), longest=longest, long_texts=long_texts, name=name)


def count_unknown(backbone: Backbone, texts: Sequence[str]) -> int:
    """Number of texts of which an encoder knows no token: its answers to them say nothing."""
    seen = [text for text in texts if not is_empty(text)]
    return sum(share == 1 for share in share_unknown(backbone, seen))


def share_unknown(backbone: Backbone, texts: Sequence[str]) -> list[float]:
    """Of each text, the share of its tokens that an encoder does not know; 1 where it has none."""
    tokenizer = backbone.tokenizer
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return [0.0] * len(texts)
    # Some vocabularies write a blank before a word as a token of its own.
    nothing = {*tokenizer.all_special_ids, tokenizer.convert_tokens_to_ids("\u2581")}
    shares = []
    for row in tokenize(replace(backbone, prefix_text=""), texts):
        known = sum(token not in nothing for token in row.tolist())
        strange = row.tolist().count(unknown)
        shares.append(strange / (known + strange) if known else 1.0)
    return shares


def note_unknown(unknown: int, texts: int) -> tuple[str, ...]:
    """Tell of texts of which an encoder knows nothing, where there are some."""
    if not unknown:
        return ()
    return (
        f"{unknown} of {texts} texts hold nothing that the encoder knows, such as letters of "
        "another script or signs alone: however sure an answer to them is, it says nothing",
    )


def count_long_texts(
    lengths: Sequence[int], *, longest: int, long_texts: str, name: Callable[[int], str]
) -> int:
    """Number of texts longer than a model takes, by their lengths in tokens.

    Arguments and errors are those of `count_cut`.
    """
    long = [place for place, length in enumerate(lengths) if length > longest]
    if long and long_texts == "stop":
        raise DataError(
            f"cannot take {len(long)} of {len(lengths)} texts, {name(long[0])} the first: they "
            f"have more than {longest} tokens and the model takes no more; shorten them, or set "
            "`long_texts` to cut"
        )
    return len(long)


def name_sentence(place: int, *, sources: int, lines: Sequence[int] | None) -> str:
    """Say which sentence is meant of sources that are followed by their targets.

    Args:
        lines: Of the pairs in their file; None counts the pairs.
    """
    side, pair = ("source", place) if place < sources else ("target", place - sources)
    return f"{side} {pair + 1}" if lines is None else f"the {side} in line {lines[pair]}"


def check_support(support: Sequence[Example], *, fewest: int) -> None:
    """Stop where a label has too few different texts to learn it, or all to judge by.

    Args:
        fewest: Texts of each label; with 1, some label needs a second, to be held out, and
            where one has `OFTEN` a label of one example is taken for a slip.

    Raises:
        LabelError: Fewer than two labels, or too few texts of one; names the label.
    """
    counts = count_texts(support)
    if max(counts.values(), default=0) >= OFTEN:
        fewest = 2
    check_labels([example.target for example in support], min_per_label=fewest)
    label, count = min(counts.items(), key=lambda item: item[1])
    if count < fewest:
        rows = sum(example.target == label for example in support)
        raise LabelError(
            f"cannot learn label {label!r} from {rows} examples of one text: at least 2 different "
            "texts of each label are needed; add examples of it, remove it, or join it with "
            "another label by `label_map`"
        )
    if max(counts.values()) < 2:
        raise LabelError(
            f"cannot learn {len(counts)} labels from one text of each: 2 different texts of at "
            "least one label are needed, so that an answer can be checked; add examples"
        )
