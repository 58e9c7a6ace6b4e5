"""A small Hub on the loopback address: git-like repositories in memory, and every bad day of one.

It answers the real client, `huggingface_hub`, on the routes that pushes and pulls take.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

WRITE, READ = "hf_write", "hf_read"
NAMESPACE = "me"


@dataclass
class Commit:
    """A commit: every file of the repository at that point."""

    oid: str
    files: dict[str, bytes]
    message: str


@dataclass
class Repository:
    """Branches and tags by name, commits by hash."""

    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: list[str] = field(default_factory=list)

    def at(self, revision: str) -> Commit | None:
        return self.commits.get(self.branches.get(revision) or self.tags.get(revision) or revision)

    def commit(self, files: dict[str, bytes], message: str) -> Commit:
        text = json.dumps([message, len(self.commits), sorted(files)])
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid] = Commit(oid, files, message)
        return self.commits[oid]


@dataclass(frozen=True)
class Reply:
    """An answer; `cut` ends the connection in the middle of it, or before it.

    Attributes:
        chunk: Sent again and again, a chunk every `every` seconds, without end; None sends the
            body. An empty one sends nothing, not even a status.
        is_header: The chunk is of a header.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    chunk: bytes | None = None
    every: float = 0.0
    is_header: bool = False


@dataclass(frozen=True)
class Asked:
    """One request that the Hub has had."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    body: bytes
    token: str | None


Fault = Callable[[Asked], Reply | None]


class Hub:
    """Repositories by kind and name, uploads by hash, and the faults that a test asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.lock = threading.RLock()
        self.ending = threading.Event()
        self.reset()

    def reset(self) -> None:
        self.ending.set()
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytes] = {}
        self.asked: list[Asked] = []
        self.faults: list[Fault] = []
        self.ending = threading.Event()

    def make(self, name: str, files: Mapping[str, bytes], *, private: bool = False) -> Repository:
        """Make a repository, `models/me/x` or `datasets/me/x`, with one commit."""
        repository = self.repositories[name] = Repository(private)
        repository.branches["main"] = repository.commit(dict(files), "initial commit").oid
        return repository

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        commit = self.repositories[name].at(revision)
        assert commit is not None
        return commit.files

    def fail(
        self, method: str, pattern: str, status: int = 500, *, times: int = 1000, **values: Any
    ) -> list[str]:
        """Answer requests that match with a fault, so many times; the paths that met it."""
        met: list[str] = []
        reply = Reply(status, **{"body": {"error": "as the test wants it"}, **values})

        def fault(asked: Asked) -> Reply | None:
            if asked.method != method or not re.search(pattern, asked.path) or len(met) >= times:
                return None
            met.append(asked.path)
            return reply

        self.faults.append(fault)
        return met

    def count(self, method: str, pattern: str) -> int:
        return sum(a.method == method and bool(re.search(pattern, a.path)) for a in self.asked)

    def answer(self, asked: Asked) -> Reply:
        with self.lock:
            self.asked.append(asked)
            for fault in self.faults:
                reply = fault(asked)
                if reply is not None:
                    return reply
            for method, pattern, handler in ROUTES:
                found = re.fullmatch(pattern, asked.path)
                if found and method == asked.method:
                    return handler(self, asked, **found.groupdict())
            return Reply(404, {"error": f"no route {asked.method} {asked.path}"})

    def find(self, kind: str, name: str, asked: Asked) -> Repository | None:
        repository = self.repositories.get(f"{kind}/{name}")
        hidden = repository is not None and repository.private and asked.token is None
        return None if hidden else repository


NOT_FOUND = Reply(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
NO_REVISION = Reply(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
NO_ENTRY = Reply(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
UNAUTHORIZED = Reply(401, {"error": "Invalid credentials in Authorization header"})
FORBIDDEN = Reply(403, {"error": "You don't have the rights"}, {"X-Error-Message": "no rights"})


def refuse_writer(asked: Asked, name: str | None) -> Reply | None:
    if asked.token is None or asked.token not in (WRITE, READ):
        return UNAUTHORIZED
    allowed = asked.token == WRITE and (name or "").startswith(f"{NAMESPACE}/")
    return None if allowed else FORBIDDEN


def whoami(hub: Hub, asked: Asked) -> Reply:
    roles = {WRITE: "write", READ: "read"}
    if asked.token not in roles:
        return UNAUTHORIZED
    auth = {"accessToken": {"role": roles[asked.token]}}
    return Reply(body={"name": NAMESPACE, "type": "user", "auth": auth})


def create(hub: Hub, asked: Asked) -> Reply:
    wanted = json.loads(asked.body)
    name = f"{wanted['organization'] or NAMESPACE}/{wanted['name']}"
    kind = f"{wanted.get('type') or 'model'}s"
    refused = refuse_writer(asked, name)
    if refused:
        return refused
    if f"{kind}/{name}" in hub.repositories:
        return Reply(409, {"error": "You already created this repository"})
    private = wanted.get("visibility") == "private"
    hub.make(f"{kind}/{name}", {".gitattributes": b"*.safetensors filter=lfs\n"}, private=private)
    return Reply(body={"url": f"{hub.url}/{name}", "name": name, "id": name})


def validate_yaml(hub: Hub, asked: Asked) -> Reply:
    content = json.loads(asked.body)["content"]
    found = re.match(r"---\n(.*?)\n---\n", content, flags=re.DOTALL)
    try:
        values = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError as error:
        return Reply(400, {"errors": [{"message": str(error)}], "warnings": []})
    if "license" in values and not isinstance(values["license"], str):
        return Reply(400, {"errors": [{"message": '"license" must be a string'}], "warnings": []})
    return Reply(body={"errors": [], "warnings": []})


def blob_id(content: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(path: str) -> bool:
    return path.endswith(".safetensors")


def preupload(hub: Hub, asked: Asked, kind: str, name: str, revision: str) -> Reply:
    repository = hub.find(kind, name, asked)
    refused = refuse_writer(asked, name)
    if repository is None or refused:
        return refused or NOT_FOUND
    commit = repository.at(unquote(revision))
    there = commit.files if commit else {}
    return Reply(
        body={
            "files": [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if is_large(one["path"]) else "regular",
                    "shouldIgnore": False,
                    "oid": oid_of(one["path"], there),
                }
                for one in json.loads(asked.body)["files"]
            ]
        }
    )


def oid_of(path: str, files: Mapping[str, bytes]) -> str | None:
    if path not in files:
        return None
    content = files[path]
    return hashlib.sha256(content).hexdigest() if is_large(path) else blob_id(content)


def lfs_batch(hub: Hub, asked: Asked, name: str) -> Reply:
    objects = []
    for one in json.loads(asked.body)["objects"]:
        actions = {"upload": {"href": f"{hub.url}/upload/{one['oid']}", "header": {}}}
        actions["verify"] = {"href": f"{hub.url}/verify/{one['oid']}", "header": {}}
        known = one["oid"] in hub.uploads
        objects.append({**one} if known else {**one, "actions": actions})
    return Reply(body={"transfer": "basic", "objects": objects})


def upload(hub: Hub, asked: Asked, oid: str) -> Reply:
    if hashlib.sha256(asked.body).hexdigest() != oid:
        return Reply(400, {"error": "content does not have that hash"})
    hub.uploads[oid] = asked.body
    return Reply(body={})


def verify(hub: Hub, asked: Asked, oid: str) -> Reply:
    return Reply(body={}) if oid in hub.uploads else Reply(404, {"error": "no such object"})


def commit(hub: Hub, asked: Asked, kind: str, name: str, revision: str) -> Reply:
    repository = hub.find(kind, name, asked)
    refused = refuse_writer(asked, name)
    if repository is None or refused:
        return refused or NOT_FOUND
    branch = unquote(revision)
    before = repository.at(branch)
    if before is None:
        return NO_REVISION
    lines = [json.loads(line) for line in asked.body.splitlines()]
    files, header = dict(before.files), lines[0]["value"]
    if header.get("parentCommit") not in (None, before.oid):
        return Reply(412, {"error": "A commit has happened since"})
    for line in lines[1:]:
        value = line["value"]
        match line["key"]:
            case "file":
                files[value["path"]] = base64.b64decode(value["content"])
            case "lfsFile":
                if value["oid"] not in hub.uploads:
                    return Reply(400, {"error": "LFS pointer to an object that does not exist"})
                files[value["path"]] = hub.uploads[value["oid"]]
            case "deletedFile":
                del files[value["path"]]
    made = repository.commit(files, header["summary"])
    url = {"commitUrl": f"{hub.url}/{name}/commit/{made.oid}", "commitOid": made.oid}
    if "create_pr" in asked.query:
        repository.pulls.append(made.oid)
        number = len(repository.pulls)
        repository.branches[f"refs/pr/{number}"] = made.oid
        return Reply(body={**url, "pullRequestUrl": f"{hub.url}/{name}/discussions/{number}"})
    repository.branches[branch] = made.oid
    return Reply(body=url)


def info(hub: Hub, asked: Asked, kind: str, name: str, revision: str = "main") -> Reply:
    repository = hub.find(kind, name, asked)
    if repository is None:
        return NOT_FOUND
    found = repository.at(unquote(revision))
    if found is None:
        return NO_REVISION
    siblings = []
    for path, content in found.files.items():
        one: dict[str, Any] = {"rfilename": path}
        if "blobs" in asked.query:
            one |= {"size": len(content), "blobId": blob_id(content)}
            if is_large(path):
                sha = hashlib.sha256(content).hexdigest()
                one["lfs"] = {"sha256": sha, "size": len(content), "pointerSize": 130}
        siblings.append(one)
    body = {"id": name, "sha": found.oid, "private": repository.private, "siblings": siblings}
    card = re.match(rb"---\n(.*?)\n---\n", found.files.get("README.md", b""), flags=re.DOTALL)
    if card:
        body["cardData"] = yaml.safe_load(card[1])
        body["library_name"] = (body["cardData"] or {}).get("library_name")
    return Reply(body={**body, "tags": [], "downloads": 0, "likes": 0})


def refs(hub: Hub, asked: Asked, kind: str, name: str) -> Reply:
    repository = hub.find(kind, name, asked)
    if repository is None:
        return NOT_FOUND
    named = {"branches": repository.branches, "tags": repository.tags}
    body: dict[str, Any] = {
        key: [{"name": n, "ref": n, "targetCommit": oid} for n, oid in values.items()]
        for key, values in named.items()
    }
    return Reply(body={**body, "converts": []})


def branch(hub: Hub, asked: Asked, kind: str, name: str, revision: str) -> Reply:
    repository = hub.find(kind, name, asked)
    refused = refuse_writer(asked, name)
    if repository is None or refused:
        return refused or NOT_FOUND
    repository.branches.setdefault(unquote(revision), repository.branches["main"])
    return Reply(body={})


def tag(hub: Hub, asked: Asked, kind: str, name: str, revision: str) -> Reply:
    repository = hub.find(kind, name, asked)
    wanted = json.loads(asked.body)["tag"]
    if repository is None:
        return NOT_FOUND
    if wanted in repository.tags:
        return Reply(409, {"error": "Tag reference exists already"})
    repository.tags[wanted] = unquote(revision)
    return Reply(body={})


def resolve(hub: Hub, asked: Asked, name: str, revision: str, path: str) -> Reply:
    repository = hub.find("models", name, asked)
    if repository is None:
        return NOT_FOUND
    found = repository.at(unquote(revision))
    if found is None:
        return NO_REVISION
    path = unquote(path)
    if path not in found.files:
        missing = {**NO_ENTRY.headers, "X-Repo-Commit": found.oid}
        return Reply(404, NO_ENTRY.body, missing)
    content = found.files[path]
    headers = {"X-Repo-Commit": found.oid, "ETag": f'"{oid_of(path, found.files)}"'}
    return Reply(body=content, headers=headers)


_KIND, _NAME = "(?P<kind>models|datasets)", "(?P<name>[^/]+/[^/]+)"
_REVISION = "(?P<revision>[^/]+)"
_REPOSITORY = f"/api/{_KIND}/{_NAME}"
ROUTES: list[tuple[str, str, Callable[..., Reply]]] = [
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/repos/create", create),
    ("POST", "/api/validate-yaml", validate_yaml),
    ("POST", f"{_REPOSITORY}/preupload/{_REVISION}", preupload),
    ("POST", f"{_REPOSITORY}/commit/{_REVISION}", commit),
    ("POST", f"{_REPOSITORY}/branch/{_REVISION}", branch),
    ("POST", f"{_REPOSITORY}/tag/{_REVISION}", tag),
    ("GET", _REPOSITORY, info),
    ("GET", f"{_REPOSITORY}/revision/{_REVISION}", info),
    ("GET", f"{_REPOSITORY}/refs", refs),
    ("POST", f"/(datasets/)?{_NAME}.git/info/lfs/objects/batch", lfs_batch),
    ("PUT", "/upload/(?P<oid>[0-9a-f]{64})", upload),
    ("POST", "/verify/(?P<oid>[0-9a-f]{64})", verify),
    ("GET", f"/{_NAME}/resolve/{_REVISION}/(?P<path>.+)", resolve),
    ("HEAD", f"/{_NAME}/resolve/{_REVISION}/(?P<path>.+)", resolve),
]


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a Hub until the block ends."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            parts = urlsplit(self.path)
            bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
            query = parse_qs(parts.query, keep_blank_values=True)
            asked = Asked(self.command, parts.path, query, self.read_body(), bearer or None)
            self.send(hub.answer(asked))

        do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815  names of http.server

        def read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline().strip() or b"0", 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def send(self, reply: Reply) -> None:
            if reply.cut and reply.body is None:
                self.close_connection = True
                return
            if reply.chunk is not None:
                self.send_endlessly(reply)
                return
            body = reply.body
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if reply.cut else content)
            self.close_connection = self.close_connection or reply.cut

        def send_endlessly(self, reply: Reply) -> None:
            self.close_connection = True
            if reply.chunk:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Transfer-Encoding", "chunked")
                self.flush_headers() if reply.is_header else self.end_headers()
            with contextlib.suppress(OSError):
                while not hub.ending.wait(reply.every):
                    if reply.is_header:
                        self.wfile.write(b"X-More: %s\r\n" % reply.chunk)
                    elif reply.chunk:
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(reply.chunk), reply.chunk))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.ending.set()
        server.shutdown()
        server.server_close()
        thread.join()
