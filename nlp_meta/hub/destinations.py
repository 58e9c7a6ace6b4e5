"""A place on the Hub that is pushed to, looked at before anything is sent, and the push itself.

One push is one commit, so that no repository is ever half pushed. Large files go ahead of the
commit, and the Hub keeps them under their hashes: a push that was cut off goes on where it
stopped when it is repeated, and one that repeats a finished push changes nothing.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import httpx2
from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    get_token,
    hf_hub_download,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from nlp_meta.data.inputs import check_switch, check_word
from nlp_meta.data.session import bound_session
from nlp_meta.errors import HubError
from nlp_meta.hub.pull import RECORD, VOCABULARIES
from nlp_meta.hub.refusals import FAILURES, LOG_IN, explain, patiently

MODEL, DATASET = "model", "dataset"
_EMPTY = {".gitattributes", "README.md"}
"""What a repository made on the Hub's pages holds from the start."""
_PATH = re.compile(r"(/[^/\s]+/|~/|[A-Za-z]:\\|\\\\|file:).*")


class PushOptions(TypedDict, total=False):
    """The options of a push; see `Destination`."""

    token: str | None
    private: bool | None
    revision: str | None
    create_pr: bool
    tag: str | None
    exist_ok: bool
    commit_message: str | None
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Destination:
    """A repository on the Hub and how to push there, by the Hub's own names.

    Attributes:
        token: None takes HF_TOKEN, or the login.
        private: Of a repository that has to be made; None takes the namespace's default.
        revision: Branch to push to, made where there is none; None is `main`.
        create_pr: Propose the push as a pull request.
        tag: Name given to the commit, such as a version.
        exist_ok: Push to a repository that holds something else.
        dry_run: Check all of it and send nothing.
    """

    repo_id: str
    token: str | None = None
    private: bool | None = None
    revision: str | None = None
    create_pr: bool = False
    tag: str | None = None
    exist_ok: bool = False
    commit_message: str | None = None
    dry_run: bool = False
    repo_type: str = MODEL

    def __post_init__(self) -> None:
        check_word(self.repo_id, "repo_id", needed="a name such as you/model")
        for argument in ("token", "revision", "tag", "commit_message"):
            if getattr(self, argument) is not None:
                check_word(getattr(self, argument), argument, needed="text")
        for argument in ("create_pr", "exist_ok", "dry_run", "private"):
            if argument != "private" or self.private is not None:
                check_switch(getattr(self, argument), argument)


@dataclass(frozen=True, slots=True)
class Contents:
    """What is at a destination already.

    Attributes:
        exists: The repository is there.
        commit: Newest one of the branch; None where there is none yet.
        files: Paths there.
    """

    exists: bool
    commit: str | None
    files: frozenset[str]


@dataclass(frozen=True, slots=True)
class Pushed:
    """The end of a push.

    Attributes:
        commit: Its hash; that of the newest commit where nothing had changed; empty of a dry run.
        pr_url: Address of the pull request, where one was asked for.
        left_out: What the folder holds besides the model, which stayed here.
        notes: What whoever shares this has to know; licenses above all.
    """

    repo_id: str
    commit: str
    url: str
    pr_url: str | None
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def check_destination(to: Destination) -> HfApi:
    """Check the name, the token and that the options agree; a client that has the token.

    Raises:
        HubError: The push would be refused.
    """
    bound_session()
    try:
        validate_repo_id(to.repo_id)
        if to.repo_id.count("/") != 1:
            raise HFValidationError("it has no namespace")
    except HFValidationError as error:
        raise explain(error, doing=f"push to '{to.repo_id}'") from error
    if to.create_pr and (to.tag or to.revision):
        raise HubError(
            f"cannot push to '{to.repo_id}': a pull request has no branch or tag of its own, and "
            "one of these is needed; leave out `create_pr`, or `revision` and `tag`"
        )
    token = to.token or get_token()
    if token is None:
        raise HubError(
            f"cannot push to '{to.repo_id}': there is no token and one that may write is needed; "
            f"{LOG_IN}"
        )
    api = HfApi(token=token)
    if _role(api, to) == "read":
        raise HubError(
            f"cannot push to '{to.repo_id}': the token is read-only and one that may write is "
            "needed; make one in the Hub's settings under Access Tokens, and give it by HF_TOKEN "
            "or `token`"
        )
    return api


def look(api: HfApi, to: Destination) -> Contents:
    """Look at what a destination holds, and whether its tag is free.

    Raises:
        HubError: The tag exists, or the Hub does not answer.
    """
    try:
        if to.tag and to.tag in _tags(api, to):
            raise HubError(
                f"cannot tag the push to '{to.repo_id}' as '{to.tag}': that tag exists and a new "
                "name is needed; change `tag`"
            )
        info = _info(api, to)
    except FAILURES as error:
        raise explain(error, doing=f"push to '{to.repo_id}'") from error
    if info is None:
        return Contents(False, None, frozenset())
    return Contents(True, info.sha, frozenset(file.rfilename for file in info.siblings or []))


def check_replaceable(to: Destination, there: Contents, record: Mapping[str, Any] | None) -> None:
    """Refuse to push a model over anything but an earlier version of it.

    Args:
        record: Of the model; None where it is still to be made, any model passes then.

    Raises:
        HubError: The repository holds something else and `exist_ok` is not given.
    """
    if to.exist_ok or to.create_pr or not there.exists or there.files <= _EMPTY:
        return
    if RECORD not in there.files:
        shown = ", ".join(sorted(there.files - _EMPTY)[:3])
        raise _taken(to, f"it holds other things ({shown})")
    if record is None:
        return
    earlier = _read_record(to, there)
    for key in ("role", "skills", "labels"):
        words = f"a model of the {key}"
        value = earlier.get(key)
        if value != record[key]:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            raise _taken(to, f"it holds {words} {shown}")
    base = (earlier.get("model") or {}).get("model_name_or_path")
    if base != record["model"]["model_name_or_path"]:
        raise _taken(to, f"it holds a model for the base '{base}'")


def check_portable(files: Mapping[str, Path], *places: Path) -> None:
    """Refuse files that name a folder of this machine.

    Args:
        files: By their paths in the repository.
        places: Folders that must not be named anywhere, not even in a vocabulary.
    """
    known = [str(place.resolve()) for place in places if len(place.resolve().parts) > 2]
    for name, path in sorted(files.items()):
        if path.suffix == ".safetensors":
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        named = next((place for place in known if place in text), None)
        if named is None and path.suffix == ".json" and name not in VOCABULARIES:
            named = next(_paths_in(json.loads(text)), None)
        if named is not None:
            raise HubError(
                f"cannot push: '{name}' names '{named}', a place on this machine, and names "
                "that others can use are needed; take it out of that file"
            )


def commit(
    api: HfApi,
    to: Destination,
    there: Contents,
    sent: Mapping[str, Path],
    *,
    message: str,
    gone: Sequence[str] = (),
    left_out: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Pushed:
    """Make the repository and the branch where they are missing, commit once, tag.

    Args:
        sent: Files by their paths in the repository.
        message: Summary of the commit, where the destination has none.
        gone: Paths to delete.
        left_out, notes: Told with the push.

    Raises:
        HubError: The Hub refuses; it kept nothing then that anybody sees.
    """
    told = {"files": tuple(sent), "left_out": tuple(left_out), "notes": tuple(notes)}
    if to.dry_run:
        return Pushed(to.repo_id, "", "", None, **told)
    try:
        if not there.exists:
            api.create_repo(to.repo_id, repo_type=to.repo_type, private=to.private)
        if to.revision and there.commit is None:
            api.create_branch(to.repo_id, branch=to.revision, repo_type=to.repo_type, exist_ok=True)
        done = patiently(lambda: _commit_once(api, to, there, sent, message=message, gone=gone))
    except FAILURES as error:
        raise explain(error, doing=f"push to '{to.repo_id}'") from error
    if to.tag:
        try:
            api.create_tag(to.repo_id, tag=to.tag, revision=done.oid, repo_type=to.repo_type)
        except FAILURES as error:
            tagging = f"tag '{to.repo_id}' as '{to.tag}' (the push itself, {done.oid}, is there)"
            raise explain(error, doing=tagging) from error
    return Pushed(to.repo_id, done.oid, str(done.commit_url), done.pr_url, **told)


def _commit_once(
    api: HfApi,
    to: Destination,
    there: Contents,
    sent: Mapping[str, Path],
    *,
    message: str,
    gone: Sequence[str],
) -> CommitInfo:
    # Anew at every try: the client notes in them what it has sent.
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *(CommitOperationAdd(name, path) for name, path in sent.items()),
        *(CommitOperationDelete(name) for name in gone),
    ]
    return api.create_commit(
        to.repo_id,
        operations,
        commit_message=to.commit_message or message,
        repo_type=to.repo_type,
        revision=to.revision,
        create_pr=to.create_pr,
        # Refused if somebody pushed since we looked.
        parent_commit=None if to.create_pr else there.commit,
    )


def _paths_in(value: object) -> Iterator[str]:
    if isinstance(value, str) and _PATH.fullmatch(value):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _paths_in(part)


def _role(api: HfApi, to: Destination) -> str | None:
    """What the token may do; None where the Hub does not say."""
    try:
        account = api.whoami()
    except HfHubHTTPError as error:
        if error.response.status_code == 401:
            raise explain(error, doing=f"push to '{to.repo_id}'") from error
        return None
    except (httpx2.HTTPError, OSError) as error:
        raise explain(error, doing=f"push to '{to.repo_id}'") from error
    access = (account.get("auth") or {}).get("accessToken") or {}
    return access.get("role")


def _info(api: HfApi, to: Destination) -> Any:
    """None where the repository is missing; of a missing branch, an answer without a commit."""
    try:
        return api.repo_info(to.repo_id, repo_type=to.repo_type, revision=to.revision)
    except RevisionNotFoundError:
        info = api.repo_info(to.repo_id, repo_type=to.repo_type)
        info.sha = None
        return info
    except RepositoryNotFoundError:
        return None
    except HfHubHTTPError as error:
        # Some endpoints answer so for what they do not have.
        if error.response.status_code == 404:
            return None
        raise


def _tags(api: HfApi, to: Destination) -> Iterable[str]:
    with suppress(RepositoryNotFoundError):
        refs = api.list_repo_refs(to.repo_id, repo_type=to.repo_type)
        return [tag.name for tag in refs.tags]
    return []


def _read_record(to: Destination, there: Contents) -> dict[str, Any]:
    try:
        revision = there.commit or to.revision
        path = hf_hub_download(to.repo_id, RECORD, revision=revision, token=to.token)
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except FAILURES as error:
        raise _taken(to, f"its {RECORD} cannot be read") from error
    return record if isinstance(record, dict) else {}


def _taken(to: Destination, reason: str) -> HubError:
    return HubError(
        f"cannot push to '{to.repo_id}': {reason}, and a new repository, or one with an earlier "
        "version of this model, is needed; change the name, or push over it with `exist_ok`"
    )
