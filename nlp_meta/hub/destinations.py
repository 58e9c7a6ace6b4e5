"""Where a push goes: everything that can be refused is refused before anything is sent."""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import httpx2
from huggingface_hub import HfApi, get_token, hf_hub_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from nlp_meta.errors import HubError
from nlp_meta.hub.pulling import RECORD
from nlp_meta.hub.refusals import FAILURES, TOKEN, explain

MODEL, DATASET = "model", "dataset"
_EMPTY = {".gitattributes", "README.md"}
"""What a repository made on the Hub's pages holds from the start."""


class PushOptions(TypedDict, total=False):
    """The options of a push; see `Destination`."""

    token: str | None
    private: bool | None
    revision: str | None
    create_pr: bool
    tag: str | None
    exist_ok: bool
    commit_message: str | None


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
    """

    repo_id: str
    token: str | None = None
    private: bool | None = None
    revision: str | None = None
    create_pr: bool = False
    tag: str | None = None
    exist_ok: bool = False
    commit_message: str | None = None
    repo_type: str = MODEL


@dataclass(frozen=True, slots=True)
class Found:
    """What is at a destination already.

    Attributes:
        exists: The repository is there.
        commit: Newest one of the branch; None where there is none yet.
        files: Paths there.
    """

    exists: bool
    commit: str | None
    files: frozenset[str]


def check_destination(to: Destination) -> HfApi:
    """Check the name, the token and that the options agree; a client that has the token.

    Raises:
        HubError: The push would be refused.
    """
    try:
        validate_repo_id(to.repo_id)
        if to.repo_id.count("/") != 1:
            raise HFValidationError("it has no namespace")
    except HFValidationError as error:
        raise explain(error, doing=f"push to '{to.repo_id}'") from error
    if to.create_pr and (to.tag or to.revision):
        raise HubError(
            f"cannot push to '{to.repo_id}': a pull request has no branch or tag of its own, and "
            "one of these is needed; leave out `--create-pr`, or `--revision` and `--tag`"
        )
    token = to.token or get_token()
    if token is None:
        raise HubError(
            f"cannot push to '{to.repo_id}': there is no token and one that may write is needed; "
            f"{TOKEN}"
        )
    api = HfApi(token=token)
    if _role(api, to) == "read":
        raise HubError(
            f"cannot push to '{to.repo_id}': the token is read-only and one that may write is "
            "needed; make one in the Hub's settings under Access Tokens, and give it by HF_TOKEN "
            "or `--token`"
        )
    return api


def look(api: HfApi, to: Destination) -> Found:
    """Look at what a destination holds, and whether its tag is free.

    Raises:
        HubError: The tag exists, or the Hub does not answer.
    """
    try:
        if to.tag and to.tag in _tags(api, to):
            raise HubError(
                f"cannot tag the push to '{to.repo_id}' as '{to.tag}': that tag exists and a new "
                "name is needed; change `--tag`"
            )
        info = _info(api, to)
    except FAILURES as error:
        raise explain(error, doing=f"push to '{to.repo_id}'") from error
    if info is None:
        return Found(False, None, frozenset())
    return Found(True, info.sha, frozenset(one.rfilename for one in info.siblings or []))


def check_replaceable(to: Destination, found: Found, record: dict[str, Any] | None) -> None:
    """Refuse to push a model over anything but an earlier version of it.

    Args:
        record: Of the model; None where it is still to be made, any model passes then.

    Raises:
        HubError: The repository holds something else and `exist_ok` is not given.
    """
    if to.exist_ok or to.create_pr or not found.exists or found.files <= _EMPTY:
        return
    if RECORD not in found.files:
        shown = ", ".join(sorted(found.files - _EMPTY)[:3])
        raise _taken(to, f"it holds other things ({shown})")
    if record is None:
        return
    there = _read_record(to, found)
    for key, said in (("kind", "a model of the kind"), ("labels", "a model of the labels")):
        if there.get(key) != record[key]:
            value = there.get(key)
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            raise _taken(to, f"it holds {said} {shown}")
    base = (there.get("model") or {}).get("model_name_or_path")
    if base != record["model"]["model_name_or_path"]:
        raise _taken(to, f"it holds a model for the base '{base}'")


def make_place(api: HfApi, to: Destination, found: Found) -> Found:
    """Make the repository and the branch where they are missing.

    Returns:
        What is there now.
    """
    if not found.exists:
        api.create_repo(to.repo_id, repo_type=to.repo_type, private=to.private)
    if to.revision and (not found.exists or found.commit is None):
        api.create_branch(to.repo_id, branch=to.revision, repo_type=to.repo_type, exist_ok=True)
    return found


def url_prefix(to: Destination) -> str:
    """What stands before the name in an address."""
    return "datasets/" if to.repo_type == DATASET else ""


def _role(api: HfApi, to: Destination) -> str | None:
    """What the token may do; None where the Hub does not say."""
    try:
        found = api.whoami()
    except HfHubHTTPError as error:
        if error.response.status_code == 401:
            raise explain(error, doing=f"push to '{to.repo_id}'") from error
        return None
    except (httpx2.HTTPError, OSError) as error:
        raise explain(error, doing=f"push to '{to.repo_id}'") from error
    access = (found.get("auth") or {}).get("accessToken") or {}
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
        return [one.name for one in refs.tags]
    return []


def _read_record(to: Destination, found: Found) -> dict[str, Any]:
    try:
        revision = found.commit or to.revision
        path = hf_hub_download(to.repo_id, RECORD, revision=revision, token=to.token)
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except FAILURES as error:
        raise _taken(to, f"its {RECORD} cannot be read") from error
    return record if isinstance(record, dict) else {}


def _taken(to: Destination, reason: str) -> HubError:
    return HubError(
        f"cannot push to '{to.repo_id}': {reason}, and a new repository, or one with an earlier "
        "version of this model, is needed; change the name, or push over it with `--exist-ok`"
    )
