"""A small Hugging Face Hub on loopback, for the real client: repositories, commits, branches, access and failures."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_0123456789abcdefghij"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Repository:
    """Commits of files; `private` and `gated` ones want the token."""

    def __init__(self, private=False, gated=False):
        self.private, self.gated = private, gated
        self.commits, self.branches = {}, {}

    def commit(self, files, branch="main"):
        """Adds files to a branch, a new one from main, and returns the commit's hash."""
        before = self.branches.get(branch) or self.branches.get("main")
        files = {**self.commits.get(before, {}), **files}
        content = repr((len(self.commits), sorted(files.items()))).encode()
        self.branches[branch] = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self.commits[self.branches[branch]] = files
        return self.branches[branch]

    def resolve(self, revision):
        """The commit's hash of a branch or commit, None for neither."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)


class Hub:
    """The server; `requests` has the method and path of every request, `failing` a status for all answers."""

    def __init__(self):
        self.repositories, self.requests, self.failing = {}, [], None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def add(self, name, files, **access):
        self.repositories[name] = Repository(**access)
        return self.repositories[name].commit(files)

    def stop(self):
        """Ends the server: its port refuses connections from now on. May be called twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def environment(self, home, token=TOKEN, **more):
        """Environment variables for a subprocess, of which those that are None are to be unset."""
        return {
            **dict.fromkeys(_PROXIES),
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": token,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_OFFLINE": None,
            **more,
        }


@contextlib.contextmanager
def serving():
    hub = Hub()
    try:
        yield hub
    finally:
        hub.stop()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._get()

    def do_GET(self):
        self._get()

    def _get(self):
        path = self._begin()
        if path is None:
            return
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            repository = self._open(found[1])
            commit = repository and self._commit(repository, found[2] or "main")
            if commit:
                files = [{"rfilename": name} for name in repository.commits[commit]]
                self._json({"id": found[1], "modelId": found[1], "sha": commit, "siblings": files, "tags": []})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repository = self._open(found[1])
            commit = repository and self._commit(repository, found[2])
            if commit and repository.gated and not self._known():
                self._refuse(403, "GatedRepo")
            elif commit and found[3] not in repository.commits[commit]:
                self._refuse(404, "EntryNotFound", commit)
            elif commit:
                self._answer(200, repository.commits[commit][found[3]], commit=commit)
        else:
            self._refuse(404, "")

    def do_POST(self):
        path, body = self._begin(), self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path is None:
            return
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif not self._known():
            self._refuse(401, "")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit|branch)/(.+)", path):
            repository = self._open(found[1])
            if repository:
                getattr(self, f"_{found[2]}")(repository, unquote(found[3]), body)
        else:
            self._refuse(404, "")

    def _create(self, asked):
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] == "someone-else":
            return self._refuse(403, "")
        there = name in self.hub.repositories
        if not there:
            private = asked.get("visibility") == "private" or asked.get("private") is True
            self.hub.repositories[name] = Repository(private=private)
        self._json({"url": f"{self.hub.url}/{name}", "name": name}, 409 if there else 200)

    def _preupload(self, repository, branch, body):
        files = json.loads(body)["files"]
        self._json({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]})

    def _branch(self, repository, branch, body):
        there = branch in repository.branches
        if not there:
            repository.branches[branch] = repository.branches.get("main") or repository.commit({})
        self._json({}, 409 if there else 200)

    def _commit(self, repository, branch, body=None):
        if body is None:  # look one up
            commit = repository.resolve(unquote(branch))
            if commit is None:
                self._refuse(404, "RevisionNotFound")
            return commit
        lines = [json.loads(line) for line in body.splitlines()]
        files = {x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in lines if x["key"] == "file"}
        commit, name = repository.commit(files, branch), self.path.removeprefix("/api/models").split("/commit/")[0]
        self._json({"success": True, "commitOid": commit, "commitUrl": self.hub.url + name + "/commit/" + commit})

    def _begin(self):
        """The path asked for, None if it was answered with a failure."""
        path = urlsplit(self.path).path
        self.hub.requests.append((self.command, path))
        if self.hub.failing:
            return self._refuse(self.hub.failing, "")
        return path

    def _open(self, name):
        repository = self.hub.repositories.get(name)
        if repository is None or repository.private and not self._known():
            return self._refuse(404 if self._known() else 401, "RepoNotFound")
        return repository

    def _known(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _json(self, value, status=200):
        self._answer(status, json.dumps(value).encode(), "application/json")

    def _refuse(self, status, code, commit=None):
        self._answer(status, b"{}", "application/json", commit, code)

    def _answer(self, status, content, kind="application/octet-stream", commit=None, code=""):
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), "X-Error-Code": code}
        headers["Connection"] = "close"  # so that a stopped server has no connection left
        if commit:
            tag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
            headers |= {"X-Repo-Commit": commit, "ETag": f'"{tag}"'}
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
