"""Weights on the Hugging Face Hub: fetches them into a cache, and pushes folders of ours.

The client, `huggingface_hub`, is optional and imported where it is needed; it reads HF_TOKEN, HF_ENDPOINT,
HF_HUB_OFFLINE and the like itself.
"""

import difflib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeVar

from r23d_jax.errors import UserError, one_line
from r23d_jax.runtime.files import cache_dir, files_below
from r23d_jax.weights import repository

SCHEME = "hf://"
FORM = f"{SCHEME}OWNER/REPO[/FILE][@REVISION]"
LOG_IN = "set HF_TOKEN, or log in with `hf auth login`"
_TIMEOUT = 10.0  # seconds without an answer
_MAIN = "main"  # the default branch of every repository
_SAFE = ".safetensors"
_OTHERS = (".pth", ".pt", ".pyth", ".ckpt", ".bin", ".pkl")
_REPO = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_ADDRESS = re.compile(rf"{SCHEME}({_REPO})(?:/([^@\\]+))?(?:@([^@\\\s]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")

_Result = TypeVar("_Result")


class Address(NamedTuple):
    """What an `hf://` address names; `file` is "" for the repository's only weights."""

    text: str
    repo: str
    file: str
    revision: str

    def with_file(self, name: str) -> str:
        """Returns the address of one file of the repository."""
        return f"{SCHEME}{self.repo}/{name}" + ("" if self.revision == _MAIN else f"@{self.revision}")


class _NoAnswerError(Exception):
    """No server, or none that can answer now: what is cached will do. The message is the reason."""

    def __init__(self, reason: str, advice: str = "try again with a network"):
        super().__init__(reason)
        self.advice = advice


def parse(text: str) -> Address:
    """Parses `hf://OWNER/REPO[/FILE][@REVISION]`.

    Raises:
      UserError: it is none.
    """
    found = _ADDRESS.fullmatch(text)
    parts = re.split("/", f"{found[2] or 'x'}/{found[3] or 'x'}") if found else ("",)
    if any(part in ("", ".", "..") for part in parts):
        raise UserError(f"{_masked(text)}: not an address of the Hugging Face Hub; write {FORM}")
    return Address(text, found[1], found[2] or "", found[3] or _MAIN)


def check_name(repo: str) -> str:
    """Returns the name of a repository; raises a `UserError` if it is not OWNER/REPO."""
    if not re.fullmatch(_REPO, repo, re.ASCII):
        raise UserError(f"{_masked(repo)}: not the name of a repository; write OWNER/REPO")
    return repo


def fetch(address: str) -> Path:
    """Returns the local path of what an address names, downloading what is not in the cache.

    Without a network, or with HF_HUB_OFFLINE=1, that is what was fetched last; a line on stderr says so. A commit
    (40 hex digits) never changes, so a cached one asks no server.

    Args:
      address: `hf://OWNER/REPO[/FILE][@REVISION]`.

    Returns:
      The file, or without FILE a folder for `repository.read`, or the repository's only file of weights.

    Raises:
      UserError: the address is malformed, there is nothing or no access there, it is not known which file is meant,
        there is no network and nothing cached, or the client is not installed.
    """
    wanted = parse(address)
    client = _client()
    cached, commit = _cached(client, wanted)
    if cached is not None and _COMMIT.fullmatch(wanted.revision):
        return cached
    try:
        return _download(client, wanted)
    except _NoAnswerError as error:
        if cached is None:
            raise UserError(f"{address}: {error}, and it is not in the cache; {error.advice}") from error
        print(f"note: {address}: {error}; using what is cached, commit {commit[:12]}", file=sys.stderr)
        return cached


def push(folder: Path, repo: str, *, private: bool, branch: str, message: str) -> str:
    """Uploads the three files of a folder in one commit, making the repository and the branch if needed.

    Args:
      folder: from `repository.write`.
      repo: OWNER/REPO.
      private: of a new repository.
      branch: to commit to, "" for the default one.
      message: of the commit.

    Returns:
      The address of the repository's page.

    Raises:
      UserError: there is no token, no network, or no permission.
    """
    client = require_token()
    api = client.HfApi()
    where = f"{SCHEME}{repo}" + (f"@{branch}" if branch else "")
    operations = [
        client.CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name))
        for name in (repository.TENSORS, repository.CONFIG, repository.README)
    ]

    def send() -> str:
        url = api.create_repo(repo, private=private or None, exist_ok=True)
        if branch:
            api.create_branch(repo, branch=branch, exist_ok=True)
        api.create_commit(repo, operations, commit_message=message, revision=branch or None)
        return str(url)

    try:
        return _ask(client, parse(where), send, writing=True)
    except _NoAnswerError as error:
        raise UserError(f"{where}: nothing was pushed: {error}; {error.advice}") from error


def require_token() -> ModuleType:
    """Returns the client; raises a `UserError` if it is not installed or has no token."""
    client = _client()
    if not client.get_token():
        raise UserError(f"no token for the Hugging Face Hub: {LOG_IN}")
    return client


def _client() -> ModuleType:
    try:
        import huggingface_hub.errors
    except ImportError:
        raise UserError(
            "the Hugging Face Hub needs its client: pip install huggingface_hub, or this project with '.[hub]'"
        ) from None
    return huggingface_hub


# --- which files ----------------------------------------------------------------------------------------


def _download(client: ModuleType, wanted: Address) -> Path:
    info = _ask(
        client, wanted, lambda: client.HfApi().model_info(wanted.repo, revision=wanted.revision, timeout=_TIMEOUT)
    )
    names = sorted(file.rfilename for file in info.siblings or ())

    def get(name: str, revision: str = wanted.revision) -> Path:
        where = {"revision": revision, "cache_dir": _cache(), "etag_timeout": _TIMEOUT}
        return Path(_ask(client, wanted, lambda: client.hf_hub_download(wanted.repo, name, **where)))

    if wanted.file:
        if wanted.file not in names:
            close = difflib.get_close_matches(wanted.file, names, n=1)
            raise UserError(f"{wanted.text}: no such file in it; " + _there(wanted, close or _weights(names)))
        return get(wanted.file)
    if {repository.CONFIG, repository.TENSORS} <= set(names):
        config = get(repository.CONFIG)
        if repository.is_card(config):
            get(repository.TENSORS, config.parent.name)  # of that commit: the branch may move meanwhile
            return config.parent
    return get(_only(wanted, _weights(names)))


def _cached(client: ModuleType, wanted: Address) -> tuple[Path | None, str]:
    """Returns what is cached of an address, None for nothing or only a part, and its commit."""
    if not _cache().is_dir():
        return None, ""
    for repo in client.scan_cache_dir(_cache()).repos:
        for found in repo.revisions if (repo.repo_type, repo.repo_id) == ("model", wanted.repo) else ():
            if wanted.revision in (found.commit_hash, *found.refs):
                return _of_snapshot(found.snapshot_path, wanted.file), found.commit_hash
    return None, ""


def _of_snapshot(folder: Path, file: str) -> Path | None:
    if file:
        return folder / file if (folder / file).is_file() else None
    if repository.is_repository(folder):
        return folder
    weights = _weights([path.relative_to(folder).as_posix() for path in files_below(folder)])
    return folder / weights[0] if len(weights) == 1 else None


def _weights(names: Sequence[str]) -> list[str]:
    """Returns the files of weights: the .safetensors, or where there is none those of other formats."""
    safe = [name for name in names if name.endswith(_SAFE)]
    return safe or [name for name in names if name.endswith(_OTHERS)]


def _only(wanted: Address, weights: Sequence[str]) -> str:
    if len(weights) != 1:
        kind = (
            "several files of weights in it" if weights else f"no file of weights in it ({_SAFE}, {', '.join(_OTHERS)})"
        )
        raise UserError(f"{wanted.text}: {kind}; {_there(wanted, weights)}")
    return weights[0]


def _there(wanted: Address, names: Sequence[str], most: int = 12) -> str:
    if not names:
        return f"name a file: {FORM}"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"name one: {', '.join(map(wanted.with_file, names[:most]))}{more}"


def _cache() -> Path:
    return cache_dir() / "hub"


# --- what the server says -------------------------------------------------------------------------------


def _ask(client: ModuleType, wanted: Address, call: Callable[[], _Result], writing: bool = False) -> _Result:
    """Returns what a call of the client returns.

    Raises:
      _NoAnswerError: there is no answer for now.
      UserError: the answer is no; the message says why and what to do.
    """
    try:
        return call()
    except (TypeError, AttributeError, LookupError, NameError):  # faults of a program
        raise
    except Exception as error:  # the client's, and those of its HTTP and storage libraries, which have no common class
        if isinstance(error, OSError) and error.filename is not None:  # a full disk, a missing permission
            raise
        raise _explained(client.errors, wanted, error, writing) from error


def _explained(errors: ModuleType, wanted: Address, error: Exception, writing: bool) -> Exception:
    # The client has this one from a failed look-up; what failed is its cause.
    cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ else error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return _NoAnswerError("HF_HUB_OFFLINE is set", "unset it")
    if status == 429 or status is not None and status >= 500:
        return _NoAnswerError(f"the server answers {status} for now", "try again later")
    if isinstance(cause, errors.GatedRepoError):
        why = f"its owner gives access on request: ask for it on the page of {wanted.repo}, then {LOG_IN}"
    elif isinstance(cause, errors.RevisionNotFoundError):
        why = f"no revision {wanted.revision!r} in it; name a branch, a tag or a commit: {FORM}"
    elif isinstance(cause, errors.EntryNotFoundError):
        why = f"a file that is listed is not there; try again, or name another one: {FORM}"
    elif writing and status in (401, 403, 404):
        owner = wanted.repo.partition("/")[0]
        why = (
            f"nothing was pushed: this token may not write there ({status}); {LOG_IN} as one who may write for {owner}"
        )
    elif isinstance(cause, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        why = f"no such repository, or a private one ({status}): check its name, or {LOG_IN}"
    elif status is not None or isinstance(cause, ValueError):  # what the client or the server refuses
        why = f"refused: {_masked(one_line(cause))[:200]}" + ("" if writing else f"; see {FORM}")
    else:
        return _NoAnswerError(f"no answer from the Hub ({_masked(one_line(cause))[:120]})")
    return UserError(f"{wanted.text}: {why}")


def _masked(text: str) -> str:
    """Returns the text without tokens that were pasted into it."""
    return re.sub(r"hf_\w{6,}", "hf_...", text)
