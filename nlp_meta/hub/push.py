"""Pushing to the Hub: one commit for one push, so that no repository is ever half pushed.

Everything that can be checked is checked first. Large files go ahead of the commit and are kept
by the Hub under their hashes: a push that was cut off goes on where it stopped when it is
repeated, and one that repeats a finished push changes nothing.

Data cards as cards of dataset repositories: what the Hub understands of them.
"""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    DatasetCardData,
    HfApi,
)

from nlp_meta.data.cards import find_card, load_card, read_front_matter
from nlp_meta.errors import CardError, HubError
from nlp_meta.hub.bases import find_base
from nlp_meta.hub.card_sections import ADAPTED, license_sentences
from nlp_meta.hub.data_facts import is_non_commercial, is_unknown
from nlp_meta.hub.destinations import (
    DATASET,
    Destination,
    Found,
    check_destination,
    check_replaceable,
    look,
    make_place,
)
from nlp_meta.hub.pulling import ADAPTER, CARD, MODEL_FILES, hash_file
from nlp_meta.hub.records import Record, read_record
from nlp_meta.hub.refusals import FAILURES, explain, patiently
from nlp_meta.hub.scores import Results, read_results
from nlp_meta.hub.staging import check_portable, stage

Operation = CommitOperationAdd | CommitOperationDelete


@dataclass(frozen=True, slots=True)
class Pushed:
    """The end of a push.

    Attributes:
        commit: Its hash; that of the newest commit where nothing had changed.
        pr_url: Address of the pull request, where one was asked for.
        left_out: What the folder holds besides the model, which stayed here.
        notes: What whoever shares this has to know; licences above all.
    """

    repo_id: str
    commit: str
    url: str
    pr_url: str | None
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def push_folder(
    folder: Path,
    to: Destination,
    *,
    hub_base_model: str | None = None,
    results: Path | None = None,
    beside: Mapping[str, Path] | None = None,
) -> Pushed:
    """Push a saved model.

    Args:
        hub_base_model: Name on the Hub, maybe with `@revision`, of a base that is a folder here.
        results: `results.json` of a comparison that judged this model.
        beside: Further files, such as a checkpoint's, by their path in the repository.

    Raises:
        HubError: The model or the destination is refused; nothing was sent then, or the Hub
            kept nothing of it that anybody sees.
        MetaModelError: The folder holds no model.
    """
    record = read_record(folder, name=str(folder))
    trained_on = record.model.get("model_name_or_path")
    if not isinstance(trained_on, str):
        raise HubError(
            f"cannot push '{folder}': its record names no base model and one is needed; save the "
            "model again"
        )
    scores = None if results is None else _read_scores(folder, record, results)
    api = check_destination(to)
    base = find_base(
        trained_on,
        revision=record.model.get("revision"),
        hub_base_model=hub_base_model,
        token=to.token,
    )
    with tempfile.TemporaryDirectory(prefix="nlp_meta_push_") as place:
        staged = stage(folder, Path(place), repo_id=to.repo_id, base=base, results=scores)
        found = look(api, to)
        check_replaceable(to, found, dict(staged.facts.record))
        sent = {name: Path(place) / name for name in staged.files} | dict(beside or {})
        gone = found.files.intersection(MODEL_FILES) - sent.keys()
        message = to.commit_message or f"Push a model ({record.kind}) with nlp-meta"
        commit = _commit(api, replace(to, commit_message=message), found, sent, sorted(gone))
    notes = list(license_sentences(staged.facts))
    if staged.own_card:
        notes.append(f"{CARD} was edited by hand and is pushed as it is.")
    return _pushed(to, commit, tuple(sent), staged.left_out, notes)


def _read_scores(folder: Path, record: Record, results: Path) -> Results:
    adapted = record.kind in ADAPTED
    stored = record.provenance.get("adapter_sha256")
    return read_results(
        results,
        adapter_sha256=stored if adapted else hash_file(folder / ADAPTER),
        examples=record.provenance.get("examples"),
        folder=folder.resolve().name,
    )


def push_data_card(path: Path, to: Destination, *, notes: Sequence[str]) -> Pushed:
    """Push a data card as the card of a dataset repository; rows are not pushed.

    Args:
        notes: What the card's licence forbids.

    Raises:
        HubError: The repository holds a card that is not an earlier version of this one, or
            the Hub refuses.
    """
    to = replace(to, repo_type=DATASET)
    api = check_destination(to)
    with tempfile.TemporaryDirectory(prefix="nlp_meta_push_") as place:
        card = Path(place) / CARD
        card.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        check_portable(Path(place), path.parent)
        found = look(api, to)
        if CARD in found.files and not (to.exist_ok or to.create_pr):
            raise HubError(
                f"cannot push the card '{path.name}' to '{to.repo_id}': that dataset has a card "
                "and one without is needed; change `--repo-id`, or replace it with `--exist-ok`"
            )
        message = to.commit_message or f"Push the data card {path.stem} with nlp-meta"
        commit = _commit(api, replace(to, commit_message=message), found, {CARD: card}, [])
    return _pushed(to, commit, (CARD,), (), notes)


def _commit(
    api: HfApi, to: Destination, found: Found, sent: Mapping[str, Path], gone: Sequence[str]
) -> CommitInfo:
    """Make what is missing, commit once, tag."""
    doing = f"push to '{to.repo_id}'"
    try:
        make_place(api, to, found)
        commit = patiently(lambda: _commit_once(api, to, found, sent, gone))
    except FAILURES as error:
        raise explain(error, doing=doing) from error
    if to.tag:
        try:
            api.create_tag(to.repo_id, tag=to.tag, revision=commit.oid, repo_type=to.repo_type)
        except FAILURES as error:
            pushed = f"tag '{to.repo_id}' as '{to.tag}' (the push itself, {commit.oid}, is there)"
            raise explain(error, doing=pushed) from error
    return commit


def _commit_once(
    api: HfApi, to: Destination, found: Found, sent: Mapping[str, Path], gone: Sequence[str]
) -> CommitInfo:
    # Anew at every try: the client notes in them what it has sent.
    operations: list[Operation] = [
        *(CommitOperationAdd(name, path) for name, path in sent.items()),
        *(CommitOperationDelete(name) for name in gone),
    ]
    return api.create_commit(
        to.repo_id,
        operations,
        commit_message=to.commit_message or "Push with nlp-meta",
        repo_type=to.repo_type,
        revision=to.revision,
        create_pr=to.create_pr,
        # Refused if somebody pushed since we looked.
        parent_commit=None if to.create_pr else found.commit,
    )


def _pushed(
    to: Destination,
    commit: CommitInfo,
    files: tuple[str, ...],
    left_out: tuple[str, ...],
    notes: Sequence[Any],
) -> Pushed:
    return Pushed(
        to.repo_id, commit.oid, str(commit.commit_url), commit.pr_url, files, left_out, tuple(notes)
    )


_SIZES = "n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B n>1B other unknown"
_CREATORS = ("found", "crowdsourced", "expert-generated", "machine-generated", "other")
# The values that the Hub's own class names in its description.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "annotations_creators": (*_CREATORS, "no-annotation"),
    "language_creators": _CREATORS,
    "multilinguality": ("monolingual", "multilingual", "translation", "other"),
    "size_categories": tuple(_SIZES.split()),
}
_SOURCES = re.compile(r"original|extended(\|.+)?")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9-]+)?|code|multilingual")


def check_data_card(name_or_path: str) -> Path:
    """Check a card against our block and against the Hub's `DatasetCardData`; its path.

    Raises:
        CardError: One of the two would not understand it.
    """
    path = find_card(name_or_path)
    load_card(path)
    values = read_front_matter(path)
    try:
        kept = DatasetCardData(**values).to_dict()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError) as error:
        raise CardError(
            f"cannot use card '{path}': the Hub's DatasetCardData refuses a key ({error}); a card "
            "that it reads is needed; correct that key"
        ) from error
    _check_kept(path, values, kept)
    for key, choices in CHOICES.items():
        _check_values(
            path, values, key, re.compile("|".join(map(re.escape, choices))), ", ".join(choices)
        )
    _check_values(path, values, "source_datasets", _SOURCES, "original, or extended")
    _check_values(path, values, "language", _LANGUAGE, "ISO 639 codes of two or three letters")
    return path


def push_card(name_or_path: str, to: Destination) -> "Pushed":
    """Check a data card and push it as the card of a dataset repository.

    Raises:
        CardError: The card is wrong.
        HubError: The Hub refuses, or the repository has a card.
    """
    path = check_data_card(name_or_path)
    card = load_card(path)
    notes = ["The card is pushed, not the rows."]
    if is_non_commercial(card.license):
        notes.append(f"Its licence, {card.license}, forbids commercial use.")
    if is_unknown(card.license):
        notes.append("It states no licence, so nothing is granted: ask the owners of the data.")
    return push_data_card(path, to, notes=notes)


def _check_kept(path: Path, values: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
    """What the Hub's class reads must be what is written, key by key."""
    for key, value in values.items():
        if value is not None and kept.get(key) != value:
            raise CardError(
                f"cannot use card '{path}': key `{key}` becomes {kept.get(key)!r} in the Hub's "
                "DatasetCardData; a value that it keeps is needed; write it as the Hub's "
                "documentation of dataset cards has it"
            )


def _check_values(
    path: Path, values: Mapping[str, Any], key: str, pattern: re.Pattern[str], shown: str
) -> None:
    written = values.get(key)
    for value in [written] if isinstance(written, str) else written or []:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise CardError(
                f"cannot use card '{path}': key `{key}` has '{value}'; the Hub knows {shown}; "
                "write one of these"
            )
