"""Downloads of image sets: resumable, checked, and in place only when they are right."""

import gzip
import http.client
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from common.data.catalogue import DATA_SETS, DataSet, RemoteFile, data_set
from common.data.formats import SUMS_FILE, read_sums, reading
from common.data.images import fetched_folder, find
from common.errors import DataError, UserError
from common.files.storage import digest, lock, publish, storage_errors, stream_digest

Opener = Callable[..., Any]  # as urllib.request.urlopen

ATTEMPTS = 5
PAUSE_SECONDS = 2.0  # before the second attempt; doubles
_TIMEOUT_SECONDS = 60.0
_LOG_SECONDS = 10.0
_BLOCK = 1 << 18
_MAX_MEMBERS = 1_000  # of an archive


class FileCheck(NamedTuple):
    """Whether the set in one place reads right; `problem` is None if it does."""

    name: str
    source: str
    path: Path
    problem: str | None

    def __str__(self) -> str:
        """One line for a terminal."""
        return f"{self.name}, {self.source}: {self.problem or f'{self.path}: good'}"


def catalogue() -> dict[str, DataSet]:
    """Returns the sets that can be fetched, by name."""
    return {name: entry for name, entry in DATA_SETS.items() if entry.downloads}


def fetch(
    name: str, directory: Path | None = None, opener: Opener = urllib.request.urlopen
) -> Path:
    """Downloads what is missing of a set and returns its folder.

    An interrupted download goes on where it stopped, in this call or the next one. A file gets
    its name once its checksum is right; otherwise it is deleted.

    Args:
        name: One of `catalogue()`.
        directory: Folder for all sets; `fetched_folder()` if None.
        opener: Answers a `urllib.request.Request`.

    Raises:
        UserError: If `name` is unknown or cannot be fetched.
        DataError: If the server does not answer, what it sends is refused, or the disk is full.
    """
    entry = data_set(name)
    if not entry.downloads:
        raise UserError(f"{name} cannot be fetched; these can: {', '.join(catalogue())}")
    folder = (directory or fetched_folder()) / entry.key
    with lock(folder / ".lock"):
        if entry.members and _is_unpacked(entry, folder):
            logging.info("%s is complete", folder)
            return folder
        for remote in entry.downloads:
            _fetch_file(remote, folder / remote.file, opener)
        if entry.members:
            archive = folder / entry.downloads[0].file
            with storage_errors(folder):
                _unpack(archive, folder, entry)
                archive.unlink()
    return folder


def verify(directory: Path | None = None) -> list[FileCheck]:
    """Reads every set in every place on this machine and compares all known checksums.

    Args:
        directory: Look at the fetched files there, and nowhere else.
    """
    checks = []
    for name in DATA_SETS:
        for place in find(name, directory):
            if directory is not None and place.source != "fetched":
                continue
            problem = None
            try:
                place.read()
            except DataError as error:
                problem = str(error)
            checks.append(FileCheck(name, place.source, place.path, problem))
    return checks


def list_text() -> str:
    """Returns the table of all sets: name, size, licence, and where this machine has them."""
    rows = [("name", "size", "found", "licence")]
    for name, entry in DATA_SETS.items():
        places = [
            f"{place.source} ({place.path})"
            + (f" as {place.title}" if place.title != entry.title else "")
            for place in find(name)
        ]
        missing = f"no: lab data fetch {name}" if entry.downloads else "no, and cannot be fetched"
        for i, place in enumerate(places or [missing]):
            rows.append(("", "", place, "") if i else (name, entry.size, place, entry.licence))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ("  ".join((*map(str.ljust, row[:3], widths), row[3])).rstrip() for row in rows)
    return "\n".join(lines)


def _fetch_file(remote: RemoteFile, target: Path, opener: Opener) -> None:
    if target.exists():
        problem = _problem(remote, target)
        if problem is None:
            logging.info("%s is there and right", target)
            return
        logging.warning("%s: %s; fetching it again", target, problem)
    part = target.with_name(f"{target.name}.part")
    if not (part.exists() and _problem(remote, part) is None):  # complete, only not renamed yet
        _download(remote, part, opener)
        problem = _problem(remote, part)
        if problem is not None:
            part.unlink()
            raise DataError(f"{remote.url}: refused, and {part} deleted: {problem}")
    with storage_errors(target):
        publish(part, target)


def _download(remote: RemoteFile, part: Path, opener: Opener) -> None:
    """Fills `part` until the server has sent everything, over several connections if need be."""
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            logging.warning("%s: %s; trying again", remote.url, reason)
            time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            reason = _receive(remote, part, opener)
        except urllib.error.HTTPError as error:
            reason = f"the server answered {error.code} {error.reason}"
            if error.code == 416:  # nothing at that position: start from the beginning
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                raise DataError(f"{remote.url}: {reason}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = f"connection failed: {getattr(error, 'reason', None) or error}"
        if not reason:
            return
    received = part.stat().st_size if part.exists() else 0
    raise DataError(
        f"{remote.url}: {reason} ({received:,} bytes received, {ATTEMPTS} attempts); "
        "the same command goes on from there"
    )


def _receive(remote: RemoteFile, part: Path, opener: Opener) -> str:
    """Appends one answer to `part`; returns "" if it was complete, else what happened."""
    if not remote.url.startswith(("http://", "https://")):
        raise DataError(f"{remote.url}: only http and https are fetched")
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "jax-paper-lab"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(remote.url, headers=headers)  # noqa: S310 (checked above)
    with opener(request, timeout=_TIMEOUT_SECONDS) as response:
        if response.status == 206:
            given = response.headers.get("Content-Range", "")
            if not given.startswith(f"bytes {start}-"):
                raise DataError(f"{remote.url}: asked for bytes {start}-, got {given!r}")
        else:
            start = 0  # the server sends everything again
        length = response.headers.get("Content-Length")
        wanted = start + int(length) if length and length.isdigit() else None
        received = _copy(remote, response, part, start)
    if wanted is not None and received < wanted:
        return f"connection cut at {received:,} of {wanted:,} bytes"
    return ""


def _copy(remote: RemoteFile, response: Any, part: Path, received: int) -> int:
    """Writes the answer to `part` from position `received` on; returns where it ends."""
    logged = time.monotonic()
    with storage_errors(part):
        stream = part.open("ab" if received else "wb", buffering=0)
    with stream:
        while block := response.read(_BLOCK):
            received += len(block)
            if received > remote.max_bytes:
                part.unlink()
                raise DataError(
                    f"{remote.url}: refused, and {part} deleted: "
                    f"longer than {remote.max_bytes:,} bytes"
                )
            with storage_errors(part):
                rest = memoryview(block)
                while rest:
                    rest = rest[stream.write(rest) :]
            if time.monotonic() - logged > _LOG_SECONDS:
                logged = time.monotonic()
                logging.info("%s: %.1f MB", part, received / 1e6)
    return received


def _problem(remote: RemoteFile, path: Path) -> str | None:
    """Returns what is wrong with a downloaded file; None if its checksums are right."""
    with storage_errors(path):
        algorithm, _, wanted = remote.digest.partition(":")
        got = digest(path, algorithm)
    if got != wanted:
        return f"its {algorithm} is {got}, wanted {wanted}"
    if remote.content_sha256:
        try:
            with reading(path), gzip.open(path) as stream:
                got = stream_digest(stream)
        except DataError as error:
            return str(error)
        if got != remote.content_sha256:
            return f"the sha256 of its content is {got}, wanted {remote.content_sha256}"
    return None


def _is_unpacked(entry: DataSet, folder: Path) -> bool:
    """Returns whether all members are there as unpacked; warns of a damaged one."""
    sums = read_sums(folder / Path(entry.members[0]).parent)
    for member in entry.members if sums else ():
        path = folder / member
        with storage_errors(path):
            if not path.exists() or digest(path) != sums.get(path.name):
                logging.warning("%s is missing or corrupt; fetching the archive again", path)
                return False
    return bool(sums)


def _unpack(archive: Path, folder: Path, entry: DataSet) -> None:
    """Unpacks the wanted members of a tar.gz and nothing else, all of them or none."""
    try:
        _check_archive(archive, entry)
    except DataError as error:
        archive.unlink()
        raise DataError(f"{error}; refused and deleted") from error
    top = Path(entry.members[0]).parts[0]
    temporary = folder / f".unpack-{os.getpid()}"
    for leftover in folder.glob(".unpack-*"):  # of processes that were killed
        shutil.rmtree(leftover)
    temporary.mkdir()
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for name in entry.members:
                tar.extract(name, temporary, set_attrs=False, filter="data")
        lines = [f"{digest(temporary / name)}  {Path(name).name}\n" for name in entry.members]
        (temporary / top / SUMS_FILE).write_text("".join(lines))
        if (folder / top).exists():
            shutil.rmtree(folder / top)
        publish(temporary / top, folder / top)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_archive(archive: Path, entry: DataSet) -> None:
    """Raises DataError unless the archive holds the members wanted and nothing suspicious."""
    sizes: dict[str, list[int]] = {}
    with reading(archive), tarfile.open(archive, "r:gz") as tar:
        for number, member in enumerate(tar):
            _check_member(archive, member, number, entry)
            sizes.setdefault(member.name, []).append(member.size)
    for name in entry.members:
        if sizes.get(name) != [entry.member_bytes]:
            raise DataError(f"{archive}: lacks {name}, once and of {entry.member_bytes:,} bytes")


def _check_member(archive: Path, member: tarfile.TarInfo, number: int, entry: DataSet) -> None:
    """Raises DataError for a member that has no business in an archive of plain files."""
    parts = Path(member.name).parts
    reason = None
    if member.name.startswith("/") or ".." in parts or "\\" in member.name:
        reason = "leads out of its folder"
    elif not (member.isreg() or member.isdir()):
        reason = "is a link or a device"
    elif member.size > max(entry.member_bytes, _BLOCK):
        reason = f"has {member.size:,} bytes, at most {entry.member_bytes:,} wanted"
    elif number >= _MAX_MEMBERS:
        reason = f"is one of more than {_MAX_MEMBERS} members"
    if reason:
        raise DataError(f"{archive}: member {member.name!r} {reason}")
