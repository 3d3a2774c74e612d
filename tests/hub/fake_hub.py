"""A small Hugging Face Hub on this machine: the routes that huggingface_hub uses to push and to load a model.

Files ending in .safetensors are kept as large ones (by SHA-256, uploaded before the commit), others in the
commit itself. `log` has a line for each request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_test_only"


@dataclass
class Repo:
    """`commits`: commit → path → content. `refs`: branch or tag → commit."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def add(self, branch: str, files: dict[str, bytes], message: str) -> str:
        parent = self.branches.get(branch, "")
        text = json.dumps([parent, message, {k: _sha256(v) for k, v in files.items()}])
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = files
        self.branches[branch] = commit
        self.messages.append(message)
        return commit

    def find(self, revision: str) -> str | None:
        return (
            self.branches.get(revision)
            or self.tags.get(revision)
            or (revision if revision in self.commits else None)
        )


@dataclass
class Hub:
    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    refuse: Callable[[str], int] = lambda line: 0  # a status for `METHOD path`; 0: answer it

    def make(self, name: str, files: dict[str, bytes] | None = None, **options: Any) -> Repo:
        repo = self.repos[name] = Repo(**options)
        repo.add("main", {".gitattributes": b"* lfs\n", **(files or {})}, "initial commit")
        return repo


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _is_large(path: str) -> bool:
    return path.endswith(".safetensors")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are sent apart, and would wait for each other
    hub: Hub
    routes = (
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("POST", r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)", "preupload"),
        ("POST", r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", "commit"),
        ("POST", r"/api/models/([^/]+/[^/]+)/branch/([^/]+)", "branch"),
        ("POST", r"/api/models/([^/]+/[^/]+)/tag/([^/]+)", "tag"),
        ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
        ("PUT", r"/large/([0-9a-f]{64})", "store"),
        ("GET", r"/api/models/([^/]+/[^/]+)", "info"),
        ("GET", r"/api/models/([^/]+/[^/]+)/revision/([^/]+)", "info"),
        ("GET", r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", "tree"),
        ("GET", r"/api/models/([^/]+/[^/]+)/refs", "refs"),
        ("(?:HEAD|GET)", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "resolve"),
    )

    def log_message(self, format: str, *arguments: Any) -> None: ...

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _route(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self._chunks() if self._is_chunked() else self.rfile.read(length)
        path = urlsplit(self.path).path
        line = f"{self.command} {path}"
        self.hub.log.append(line)
        if status := self.hub.refuse(line):
            self._send(status, {"error": "refused by the test"})
            return
        for method, pattern, name in self.routes:
            found = re.fullmatch(pattern, path)
            if found and re.fullmatch(method, self.command):
                getattr(self, f"_{name}")(*(unquote(part) for part in found.groups()))
                return
        self._send(404, {"error": f"no route {line}"})

    do_GET = do_HEAD = do_POST = do_PUT = _route

    def _is_chunked(self) -> bool:
        return self.headers.get("Transfer-Encoding", "").lower() == "chunked"

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self) -> Any:
        return json.loads(self.body or b"{}")

    @property
    def _may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repo(self, name: str) -> Repo | None:
        """A repository that the asker may see; None after the answer that there is none."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self._may_write):
            self._send(401 if repo is None else 404, {}, {"X-Error-Code": "RepoNotFound"})
            return None
        return repo

    def _commit_of(self, repo: Repo, revision: str) -> str | None:
        commit = repo.find(revision)
        if commit is None:
            self._send(404, {}, {"X-Error-Code": "RevisionNotFound"})
        return commit

    def _writable(self, name: str) -> Repo | None:
        repo = self._repo(name)
        if repo is not None and not self._may_write:
            self._send(403, {"error": "forbidden"})
            return None
        return repo

    # -- writing --

    def _create(self) -> None:
        asked = self._json()
        name = f"{asked['organization']}/{asked['name']}"
        if not self._may_write:
            self._send(401, {"error": "Invalid username or password."})
        elif name in self.hub.repos:
            self._send(409, {"error": "it exists", "url": f"{self.hub.url}/{name}"})
        else:
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            self.hub.make(name, private=private)
            self._send(200, {"url": f"{self.hub.url}/{name}", "name": name})

    def _validate(self) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def _preupload(self, name: str, revision: str) -> None:
        if (repo := self._writable(name)) and (commit := self._commit_of(repo, revision)):
            there = repo.commits[commit]
            files = []
            for file in self._json()["files"]:
                path = file["path"]
                oid = None
                if path in there:
                    oid = (_sha256 if _is_large(path) else _git_sha1)(there[path])
                mode = "lfs" if _is_large(path) else "regular"
                files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
            self._send(200, {"files": files})

    def _batch(self, name: str) -> None:
        if self._writable(name):
            objects = []
            for one in self._json()["objects"]:
                href = f"{self.hub.url}/large/{one['oid']}"
                new = one["oid"] not in self.hub.large
                objects.append(one | ({"actions": {"upload": {"href": href}}} if new else {}))
            self._send(200, {"transfer": "basic", "objects": objects})

    def _store(self, oid: str) -> None:
        same = _sha256(self.body) == oid
        if same:
            self.hub.large[oid] = self.body
        self._send(200 if same else 400, {})

    def _commit(self, name: str, branch: str) -> None:
        if not ((repo := self._writable(name)) and (parent := self._commit_of(repo, branch))):
            return
        lines = [json.loads(line) for line in self.body.splitlines() if line]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit") not in (None, parent):
            self._send(412, {"error": "A commit has happened since. Please refresh and try again."})
            return
        files = dict(repo.commits[parent])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = repo.add(branch, files, header["summary"])
        url = f"{self.hub.url}/{name}/commit/{commit}"
        self._send(200, {"success": True, "commitOid": commit, "commitUrl": url})

    def _branch(self, name: str, branch: str) -> None:
        if repo := self._writable(name):
            start = self._json().get("startingPoint") or "main"
            if branch in repo.branches:
                self._send(409, {"error": "it exists"})
            elif commit := self._commit_of(repo, start):
                repo.branches[branch] = commit
                self._send(200, {})

    def _tag(self, name: str, revision: str) -> None:
        if (repo := self._writable(name)) and (commit := self._commit_of(repo, revision)):
            tag = self._json()["tag"]
            if tag in repo.tags:
                self._send(409, {"error": "it exists"})
            else:
                repo.tags[tag] = commit
                self._send(200, {})

    # -- reading --

    def _info(self, name: str, revision: str = "main") -> None:
        if (repo := self._repo(name)) and (commit := self._commit_of(repo, revision)):
            files = [{"rfilename": path} for path in sorted(repo.commits[commit])]
            about = {"id": name, "modelId": name, "sha": commit, "private": repo.private}
            gated = {"gated": "auto" if repo.gated else False}
            self._send(200, about | gated | {"siblings": files, "tags": [], "downloads": 0})

    def _tree(self, name: str, revision: str) -> None:
        if (repo := self._repo(name)) and (commit := self._commit_of(repo, revision)):
            rows = []
            for path, content in sorted(repo.commits[commit].items()):
                row = {"type": "file", "path": path, "size": len(content)}
                row["oid"] = _git_sha1(content)
                if _is_large(path):
                    large = {"oid": _sha256(content), "size": len(content), "pointerSize": 134}
                    row["lfs"] = large
                rows.append(row)
            self._send(200, rows)

    def _refs(self, name: str) -> None:
        if repo := self._repo(name):
            lists = {
                kind: [
                    {"name": k, "ref": f"refs/{place}/{k}", "targetCommit": v}
                    for k, v in of.items()
                ]
                for kind, place, of in (
                    ("branches", "heads", repo.branches),
                    ("tags", "tags", repo.tags),
                )
            }
            self._send(200, {**lists, "converts": []})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        if not ((repo := self._repo(name)) and (commit := self._commit_of(repo, revision))):
            return
        about = {"X-Repo-Commit": commit}
        if repo.gated and not self._may_write:
            self._send(403, {}, about | {"X-Error-Code": "GatedRepo"})
        elif path not in repo.commits[commit]:
            self._send(404, {}, about | {"X-Error-Code": "EntryNotFound"})
        else:
            content = repo.commits[commit][path]
            etag = (_sha256 if _is_large(path) else _git_sha1)(content)
            linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            more = linked if _is_large(path) else {}
            self._send(200, content, about | {"ETag": f'"{etag}"'} | more)
