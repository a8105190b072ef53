"""Official data and templates from where they are published, at pinned commits, checked by sha256.

Files are plain JSON, JSON Lines and zip archives of them; loading scripts are never run.
"""

import hashlib
import logging
import os
import re
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from filelock import FileLock
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

from evaluation.processes import bar
from lit_longpo.errors import UserError, error_text
from lit_longpo.files.stored import read_stored, write_json

log = logging.getLogger(__name__)

CACHE_VARIABLE = "LIT_LONGPO_CACHE"
RECORD = "downloads.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIMEOUT = 60.0
_PART, _NOTHING_LEFT = 206, 416  # of HTTP


class DownloadError(UserError, OSError):
    """A file could not be fetched, or is not what was pinned."""


@dataclass(frozen=True)
class RemoteFile:
    """A file and where it comes from.

    Args:
        path: in the benchmark's folder; of an archive, its name while it is there.
        url: of a pinned commit.
        sha256: of its content; `None` if only the hub knows it, which then must say so.
        is_archive: unpack its `*.jsonl` members into `data`, and delete it.
    """

    path: str
    url: str
    sha256: str | None
    is_archive: bool = False


@dataclass(frozen=True)
class _Recorded:
    """A file that was fetched whole.

    Args:
        url: where it came from.
        sizes: bytes of what it became, by path in the folder.
        sha256: of its content.
        digests: sha256 of what it became, by path in the folder.
    """

    url: str
    sizes: dict[str, int]
    sha256: str
    digests: dict[str, str]

    def is_whole(self, folder: Path) -> bool:
        """Whether everything it became is there, as it was."""
        paths = {folder / name: size for name, size in self.sizes.items()}
        try:
            if not all(path.is_file() and path.stat().st_size == size for path, size in paths.items()):
                return False
            return all(_sha256(folder / name) == digest for name, digest in self.digests.items())
        except (OSError, ValueError):  # a name that no file can have
            return False


def github_file(repository: str, commit: str, source: str, path: str, sha256: str) -> RemoteFile:
    """A file of a GitHub repository; `source` is where it is there."""
    return RemoteFile(path, f"https://raw.githubusercontent.com/{repository}/{commit}/{source}", sha256)


def hub_file(repository: str, revision: str, path: str, sha256: str | None, *, is_archive: bool = False) -> RemoteFile:
    """A file of a data set on the hub, or on the host that HF_ENDPOINT names."""
    url = hf_hub_url(repository, path, repo_type="dataset", revision=revision)
    return RemoteFile(path, url, sha256, is_archive)


def cache_folder() -> Path:
    """Where downloads go: LIT_LONGPO_CACHE, or beside the hub's own cache (HF_HOME)."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path(constants.HF_HOME) / "lit_longpo").expanduser()


def prepare_data(name: str, files: Iterable[RemoteFile], folder: Path | None = None) -> Path:
    """A benchmark's folder in the official layout, downloaded as far as it is not there.

    Several processes may call it at the same time: one downloads, the others wait.

    Args:
        name: of the benchmark.
        files: what has to be there.
        folder: where to; `None` means the benchmark's own in `cache_folder`.

    Raises:
        DownloadError: no network, or a file that is not the pinned one; nothing of it stays.
    """
    target = folder or cache_folder() / "benchmarks" / name
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(target / ".lock"):
        for file in files:
            if not _is_there(file, target):
                digest = fetch(file, target)
                log.info("%s: %s (sha256 %s)", name, file.path, digest)
    return target


def fetch(file: RemoteFile, folder: Path) -> str:
    """Download one file, check it, unpack it, and write it down in `downloads.json`.

    What an interrupted download left is continued. A file under its own name is always whole.

    Returns:
        Sha256 of its content.

    Raises:
        DownloadError: no network, or not the pinned content.
    """
    path = folder / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with _explained(file, folder):
        expected = file.sha256 or _sha256_of_hub(file.url)
        _check_unchanged(file, folder, expected)
        _transfer(file.url, partial)
    digest = _sha256(partial)
    if digest != expected:
        partial.unlink()
        raise DownloadError(
            f"expected {file.url} to have sha256 {expected}, got {digest}; it was deleted: try again, and if it stays "
            "so the file was changed where it is published"
        )
    partial.replace(path)
    files = [path]
    if file.is_archive:
        files = _unpack(path, folder / "data")
        path.unlink()
    _record(folder, file, files, digest)
    return digest


def _check_unchanged(file: RemoteFile, folder: Path, expected: str) -> None:
    """A file that nobody pinned is what it was when it was fetched first."""
    known = _recorded(folder).get(file.path)
    if known is not None and known.url == file.url and known.sha256 != expected:
        raise DownloadError(
            f"expected {file.url} to have sha256 {known.sha256} as when it was fetched before, got {expected}; it was "
            f"changed where it is published: delete {folder} to take the new one, whose scores are not to be compared"
        )


def _transfer(url: str, partial: Path) -> None:
    """Add what is missing to a file that may have its beginning already."""
    start = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == _NOTHING_LEFT:
            return
        raise
    with response, open(partial, "ab" if response.status == _PART else "wb") as out:
        length = int(response.headers.get("Content-Length") or 0)
        with bar(partial.name.removesuffix(".partial"), length) as advance:
            done = 0
            while block := response.read(1 << 20):
                out.write(block)
                done += len(block)
                advance(len(block))
    if done < length:
        raise ConnectionError(f"the connection ended after {done:,} of {length:,} bytes")


def _unpack(archive: Path, folder: Path) -> list[Path]:
    """Members by their last name only, so that none can leave the folder."""
    folder.mkdir(exist_ok=True)
    unpacked = list[Path]()
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            name = PurePosixPath(member.filename).name
            if not name.endswith(".jsonl") or "__MACOSX" in member.filename:
                continue
            draft = folder / f"{name}.partial"
            with packed.open(member) as source, open(draft, "wb") as out:
                while block := source.read(1 << 20):
                    out.write(block)
            draft.replace(folder / name)
            unpacked.append(folder / name)
    return unpacked


def _sha256_of_hub(url: str) -> str:
    """What the hub says about a large file; a data set is followed to its new name, not to where the content is."""
    try:
        tag = get_hf_file_metadata(url, timeout=_TIMEOUT).etag or ""
    except Exception as error:  # of whichever transport the hub's client has
        raise ConnectionError(error_text(error)) from error
    if not _SHA256.fullmatch(tag):
        raise DownloadError(
            f"expected a sha256 as the tag of {url}, got {tag!r}; download it yourself and set `folder`"
        )
    return tag


@contextmanager
def _explained(file: RemoteFile, folder: Path) -> Iterator[None]:
    """Errors of the network say what to do."""
    try:
        if constants.HF_HUB_OFFLINE:
            raise ConnectionError("HF_HUB_OFFLINE is set")
        yield
    except DownloadError:
        raise
    except (OSError, HTTPException) as error:
        raise DownloadError(
            f"could not download {file.url} ({type(error).__name__}: {error}); run the same command again to go on. "
            f"Without network: fill {folder} on another machine, or set `folder` to a copy in the official layout"
        ) from error


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_there(file: RemoteFile, folder: Path) -> bool:
    """Downloaded from this url, and everything it became is still what it was."""
    known = _recorded(folder).get(file.path)
    if known is None or known.url != file.url:
        return False
    if not (whole := known.is_whole(folder)):
        log.warning("%s in %s is not what was downloaded: it is fetched again", file.path, folder)
    return whole


def _recorded(folder: Path) -> dict[str, _Recorded]:
    """What is known of each whole file, by its path."""
    path = folder / RECORD
    advice = f"delete {path}: the same command fetches the files again"
    return read_stored(path, dict[str, _Recorded], advice) if path.is_file() else {}


def _record(folder: Path, file: RemoteFile, paths: Iterable[Path], sha256: str) -> None:
    names = {str(path.relative_to(folder)): path for path in paths}
    sizes = {name: path.stat().st_size for name, path in names.items()}
    digests = {name: _sha256(path) for name, path in names.items()}
    known = {**_recorded(folder), file.path: _Recorded(file.url, sizes, sha256, digests)}
    write_json(folder / RECORD, {path: asdict(value) for path, value in known.items()}, indent=1)
