"""Downloads from a server on this machine: resumed, checked, and nothing outside their folder."""

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from common.data import catalogue, fetch, formats, images
from common.data.catalogue import CIFAR10, CIFAR_BINARY_FILES, MNIST, DataSet, RemoteFile
from common.errors import DataError, UserError
from tests.processes import REPOSITORY

CONTENT = np.random.default_rng(0).bytes(200_000)
RECORDS = 10  # of each batch of the small CIFAR-10
TOP = "cifar-10-batches-bin"


class Server(ThreadingHTTPServer):
    """Serves `files`; `cuts` are the bytes sent before each connection is dropped."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.ranges: list[str | None] = []
        self.honors_ranges = True
        self.errors: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = cast(Server, self.server)
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        if server.errors:
            return self.send_error(server.errors.pop(0))
        if self.path[1:] not in server.files:
            return self.send_error(404)
        content, start = server.files[self.path[1:]], 0
        if wanted and server.honors_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else len(content)
        self.wfile.write(content[start : start + cut])
        return None

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        del format, args


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch, "PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def offer(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    *,
    content: bytes = CONTENT,
    digest: str | None = None,
    content_sha256: str = "",
    max_bytes: int = 10**6,
) -> None:
    """Makes `fetch("mnist")` download one file from the server."""
    server.files["file.gz"] = content
    digest = digest or "sha256:" + hashlib.sha256(content).hexdigest()
    remote = RemoteFile("file.gz", server.url + "file.gz", max_bytes, digest, content_sha256)
    monkeypatch.setitem(catalogue.DATA_SETS, "mnist", MNIST._replace(downloads=(remote,)))


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {".lock"}


def test_a_file_arrives_under_its_name_and_is_not_fetched_twice(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer(server, monkeypatch)
    folder = fetch.fetch("mnist", tmp_path)
    assert folder == tmp_path / "mnist"
    assert (folder / "file.gz").read_bytes() == CONTENT
    assert names(folder) == {"file.gz"}

    fetch.fetch("mnist", tmp_path)
    assert len(server.ranges) == 1
    (folder / "file.gz").write_bytes(CONTENT[:-1])  # damaged later: fetched again
    fetch.fetch("mnist", tmp_path)
    assert (folder / "file.gz").read_bytes() == CONTENT


def test_a_cut_connection_is_resumed_where_it_stopped(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer(server, monkeypatch)
    server.cuts = [70_000, 50_000]
    fetch.fetch("mnist", tmp_path)
    assert (tmp_path / "mnist" / "file.gz").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=70000-", "bytes=120000-"]


def test_a_later_call_resumes_an_earlier_one(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer(server, monkeypatch)
    server.cuts = [10_000] * fetch.ATTEMPTS
    with pytest.raises(DataError, match=r"50,000 bytes received.*the same command goes on"):
        fetch.fetch("mnist", tmp_path)
    assert names(tmp_path / "mnist") == {"file.gz.part"}

    fetch.fetch("mnist", tmp_path)
    assert server.ranges[-1] == "bytes=50000-"
    assert (tmp_path / "mnist" / "file.gz").read_bytes() == CONTENT


@pytest.mark.parametrize("kept", [0, 1_000, len(CONTENT), len(CONTENT) + 5])
@pytest.mark.parametrize("honors_ranges", [True, False])
def test_any_remains_of_an_earlier_download_lead_to_the_right_file(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kept: int,
    honors_ranges: bool,
) -> None:
    offer(server, monkeypatch)
    server.honors_ranges = honors_ranges
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "file.gz.part").write_bytes((CONTENT + b"12345")[:kept])
    fetch.fetch("mnist", tmp_path)
    assert (tmp_path / "mnist" / "file.gz").read_bytes() == CONTENT
    assert names(tmp_path / "mnist") == {"file.gz"}


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        ({"digest": "sha256:" + "0" * 64}, "its sha256 is"),
        ({"digest": "md5:" + "0" * 32}, "its md5 is"),
        ({"content": gzip.compress(b"x"), "content_sha256": "0" * 64}, "sha256 of its content"),
        ({"content_sha256": "0" * 64}, "cannot be read"),  # is no gz at all
        ({"max_bytes": 100_000}, "longer than 100,000 bytes"),
    ],
)
def test_what_does_not_match_is_refused_and_deleted(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    offered: dict[str, Any],
    reason: str,
) -> None:
    offer(server, monkeypatch, **offered)
    with pytest.raises(DataError, match=r"refused, and .*file\.gz\.part deleted") as info:
        fetch.fetch("mnist", tmp_path)
    assert reason in str(info.value)
    assert "\n" not in str(info.value)
    assert names(tmp_path / "mnist") == set()


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer(server, monkeypatch)
    server.errors = [503, 429]
    fetch.fetch("mnist", tmp_path)
    assert len(server.ranges) == 3

    del server.files["file.gz"]
    (tmp_path / "mnist" / "file.gz").unlink()
    with pytest.raises(DataError, match="the server answered 404"):
        fetch.fetch("mnist", tmp_path)
    assert len(server.ranges) == 4


def test_no_server_and_no_storage_are_one_line_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Server
) -> None:
    offer(server, monkeypatch)

    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    with pytest.raises(DataError, match=r"connection failed: .*Connection refused"):
        fetch.fetch("mnist", tmp_path, opener=refuse)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be used as storage"):
        fetch.fetch("mnist", tmp_path / "file")


def test_a_full_disk_keeps_what_arrived_and_is_one_line(tmp_path: Path) -> None:
    code = (
        "import io, resource, sys\n"
        "from pathlib import Path\n"
        "from common.data import fetch\n"
        "from common.errors import DataError\n"
        "class Answer(io.BytesIO):\n"
        "  status, headers = 200, {}\n"
        "def opener(request, timeout):\n"
        "  return Answer(bytes(10**6))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "try:\n  fetch.fetch('mnist', Path(sys.argv[1]), opener)\n"
        "except DataError as error:\n  print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, text=True, stdout=subprocess.PIPE)
    assert done.stdout.count("\n") == 1
    assert (
        "train-images-idx3-ubyte.gz.part: cannot be used as storage: File too large" in done.stdout
    )
    assert (tmp_path / "mnist" / "train-images-idx3-ubyte.gz.part").stat().st_size == 300_000


def test_only_web_addresses_are_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    digest = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
    remote = RemoteFile("file.gz", secret.as_uri(), 10**6, digest)
    monkeypatch.setitem(catalogue.DATA_SETS, "mnist", MNIST._replace(downloads=(remote,)))
    with pytest.raises(DataError, match="only http and https"):
        fetch.fetch("mnist", tmp_path)


def test_names_that_cannot_be_fetched_are_the_users_mistake() -> None:
    with pytest.raises(UserError, match='did you mean "mnist"'):
        fetch.fetch("minst")
    with pytest.raises(UserError, match="these can: fashion_mnist, mnist, cifar10"):
        fetch.fetch("digits8x8")


def batches() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    labels = np.arange(RECORDS, dtype=np.uint8)[:, None]
    pixels = lambda: rng.integers(0, 256, (RECORDS, 3072), np.uint8)
    return {
        f"{TOP}/{name}": np.concatenate([labels, pixels()], axis=1).tobytes()
        for name in CIFAR_BINARY_FILES
    }


def member(name: str, content: bytes = b"evil", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def archive(*extra: tuple[tarfile.TarInfo, bytes], leave_out: str = "") -> bytes:
    stream = io.BytesIO()
    members = [member(name, content) for name, content in batches().items() if name != leave_out]
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for info, content in (*members, member(f"{TOP}/readme.html"), *extra):
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return stream.getvalue()


def offer_cifar(server: Server, monkeypatch: pytest.MonkeyPatch, content: bytes) -> DataSet:
    server.files["a.tar.gz"] = content
    digest = "md5:" + hashlib.md5(content).hexdigest()
    remote = CIFAR10.downloads[0]._replace(url=server.url + "a.tar.gz", digest=digest)
    entry = CIFAR10._replace(downloads=(remote,), member_bytes=RECORDS * 3073)
    monkeypatch.setitem(catalogue.DATA_SETS, "cifar10", entry)
    return entry


def test_an_archive_is_unpacked_checked_and_loaded(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer_cifar(server, monkeypatch, archive())
    monkeypatch.setenv("LAB_DATA", str(tmp_path))
    folder = fetch.fetch("cifar10")
    assert names(folder) == {*batches(), f"{TOP}/SHA256SUMS"}

    fetch.fetch("cifar10")
    assert len(server.ranges) == 1
    read = formats.read_cifar10_binary
    monkeypatch.setattr(
        formats, "read_cifar10_binary", lambda p, **k: read(p, records=RECORDS, **k)
    )
    loaded = images.load_images("cifar10")
    assert (loaded.name, loaded.source) == ("CIFAR-10", "fetched")
    assert [(c.name, c.problem) for c in fetch.verify(tmp_path)] == [("cifar10", None)]
    assert f"fetched ({folder / TOP})" in fetch.list_text()

    batch = folder / TOP / "data_batch_2.bin"
    damaged = bytearray(batch.read_bytes())
    damaged[-1] ^= 1
    batch.write_bytes(damaged)
    (check,) = fetch.verify(tmp_path)
    assert "data_batch_2.bin" in (check.problem or "")
    assert str(check) == f"cifar10, fetched: {check.problem}"
    fetch.fetch("cifar10")  # repairs it
    assert fetch.verify(tmp_path)[0].problem is None
    assert len(server.ranges) == 2


HOSTILE = {
    "leads out of its folder": (
        member("../evil"),
        member(f"{TOP}/../../evil"),
        member("/evil"),
        member("..\\evil"),
    ),
    "is a link or a device": (
        member(f"{TOP}/x", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member(f"{TOP}/x", b"", type=tarfile.SYMTYPE, linkname="test_batch.bin"),
        member(f"{TOP}/x", b"", type=tarfile.LNKTYPE, linkname="../../evil"),
        member(f"{TOP}/x", b"", type=tarfile.CHRTYPE),
    ),
    "has 1,000,000 bytes": (member(f"{TOP}/x", bytes(1_000_000)),),
    "once and of": (member(f"{TOP}/test_batch.bin", bytes(RECORDS * 3073)),),
}


@pytest.mark.parametrize(
    ("reason", "evil"), [(reason, evil) for reason, cases in HOSTILE.items() for evil in cases]
)
def test_a_hostile_archive_is_refused_whole(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    reason: str,
    evil: tuple[tarfile.TarInfo, bytes],
) -> None:
    offer_cifar(server, monkeypatch, archive(evil))
    with pytest.raises(DataError, match="refused and deleted") as info:
        fetch.fetch("cifar10", tmp_path / "inner" / "data")
    assert reason in str(info.value)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {".lock"}


def test_an_archive_that_lacks_a_batch_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer_cifar(server, monkeypatch, archive(leave_out=f"{TOP}/data_batch_5.bin"))
    with pytest.raises(DataError, match=r"lacks .*data_batch_5"):
        fetch.fetch("cifar10", tmp_path)
    assert names(tmp_path / "cifar10") == set()


def test_the_catalogue_names_web_addresses_and_checksums_of_every_download() -> None:
    entries = fetch.catalogue()
    assert set(entries) == {"fashion_mnist", "mnist", "cifar10"}
    for entry in entries.values():
        for remote in entry.downloads:
            assert remote.url.startswith(("http://", "https://"))
            assert remote.url.endswith("/" + remote.file)
            algorithm, _, checksum = remote.digest.partition(":")
            assert len(checksum) == {"md5": 32, "sha256": 64}[algorithm]
            # What is not safe by https and sha256 has at least its content checked by sha256.
            assert remote.url.startswith("https://") or len(remote.content_sha256) == 64


def test_the_list_has_every_set_and_where_it_is() -> None:
    text = fetch.list_text()
    for name in catalogue.DATA_SETS:
        assert sum(line.startswith(name + " ") for line in text.splitlines()) == 1
    assert f"embedded sample ({images.SAMPLE_FOLDER})" in text
