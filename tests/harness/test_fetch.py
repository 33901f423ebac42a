"""`fetch` for datasets: from a server on this machine, checked, kept, and never half-written."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import Result

from harness.data import download
from harness.data.fetch import CHECKSUMS, fetch, fetched, folder_of
from harness.dataset import RemoteFile
from harness.errors import UserError

BODY = b'{"id": "a", "turns": ["hello"]}\n' * 5000
SHA = hashlib.sha256(BODY).hexdigest()

TASK = '''"""A dataset of a user."""
from harness.dataset import Dataset, RemoteFile
from harness.session import Session
from harness.task import TaskCard

class Mine(Dataset):
    """Lines of a file."""
    card = TaskCard("Mine", "MIT", "en", "here", "none", 2, 2, 3)
    scorers = ("similarity",)
    patterns = ("*.txt",)
    remote = ({remote})

    def read(self, files):
        for number, line in enumerate(files[0].read_text("utf-8").splitlines()):
            yield Session(f"s{{number}}", "mine", (line,), source={{"file": files[0].name}})
'''


class Server:
    """Files by path, and per path a list of faults that the next requests meet."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[int | str]] = {}
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path
        self.requests.append(path)
        assert handler.headers.get("Accept-Encoding") == "identity"
        fault = self.faults.get(path, []).pop(0) if self.faults.get(path) else None
        if isinstance(fault, int) or path not in self.files:
            handler.send_error(fault if isinstance(fault, int) else 404)
            return
        body = self.files[path]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2] if fault == "broken" else body)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with `/data.txt`, an empty cache, and no waiting between tries."""
    monkeypatch.setenv("SOMA_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    found = Server()
    found.files["/data.txt"] = BODY
    yield found
    found.close()


def remote(server: Server, sha256: str | None = None, name: str = "data.txt") -> list[RemoteFile]:
    return [RemoteFile(name, f"{server.url}/data.txt", sha256)]


def here(name: str = "t") -> list[str]:
    """What lies in the dataset's folder, but for its lock."""
    folder = folder_of(name)
    return sorted(p.name for p in folder.iterdir() if p.name != ".lock") if folder.exists() else []


@pytest.mark.parametrize("sha256", [SHA, None])
def test_a_file_is_brought_once(server: Server, sha256: str | None) -> None:
    files = remote(server, sha256)
    assert fetched("t", files) is None
    (first,) = fetch("t", files, progress=False)
    assert first.path.read_bytes() == BODY
    assert (first.sha256, first.pinned) == (SHA, sha256 is not None)
    assert fetched("t", files) == [first.path]
    server.close()
    assert fetch("t", files, progress=False) == [first]
    assert len(server.requests) == 1
    assert here() == [CHECKSUMS, "data.txt"]


def test_a_wrong_checksum_is_refused(server: Server) -> None:
    files = remote(server, "0" * 64)
    with pytest.raises(UserError, match=rf"SHA-256 is {SHA}, not the task's pinned one, 0000"):
        fetch("t", files, progress=False)
    assert here() == []
    assert fetched("t", files) is None


def test_a_file_that_changed_at_its_source_is_refused(server: Server) -> None:
    (first,) = fetch("t", remote(server), progress=False)
    first.path.unlink()
    server.files["/data.txt"] = BODY + b"more\n"
    with pytest.raises(UserError, match=f"not the one it had when fetched first, {SHA}"):
        fetch("t", remote(server), progress=False)
    assert here() == [CHECKSUMS]
    assert fetched("t", remote(server)) is None


def test_a_file_that_changed_here_is_brought_again(server: Server) -> None:
    (first,) = fetch("t", remote(server), progress=False)
    first.path.write_bytes(b"edited")
    assert fetch("t", remote(server), progress=False) == [first]
    assert first.path.read_bytes() == BODY


def test_another_revision_under_the_same_name_is_another_file(server: Server) -> None:
    fetch("t", remote(server), progress=False)
    server.files["/v2/data.txt"] = b"second revision"
    newer = [RemoteFile("data.txt", f"{server.url}/v2/data.txt", None)]
    assert fetched("t", newer) is None
    (second,) = fetch("t", newer, progress=False)
    assert second.path.read_bytes() == b"second revision"
    assert fetched("t", remote(server)) is None
    assert fetched("t", newer) == [second.path]


def test_a_checksum_pinned_later_is_held_against_what_is_here(server: Server) -> None:
    (first,) = fetch("t", remote(server), progress=False)
    assert fetched("t", remote(server, SHA)) == [first.path]
    assert fetched("t", remote(server, "0" * 64)) is None


def test_a_file_laid_there_by_hand_counts_only_with_a_pinned_checksum(server: Server) -> None:
    folder_of("t").mkdir(parents=True)
    (folder_of("t") / "data.txt").write_bytes(BODY)
    assert fetched("t", remote(server, SHA)) is None
    fetch("t", remote(server, SHA), progress=False)
    assert server.requests == []
    assert fetched("t", remote(server, SHA)) is not None
    (folder_of("u")).mkdir()
    (folder_of("u") / "data.txt").write_bytes(b"of who knows where")
    (brought,) = fetch("u", remote(server), progress=False)
    assert brought.path.read_bytes() == BODY


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server: Server, status: int) -> None:
    server.faults["/data.txt"] = [status, status]
    (file,) = fetch("t", remote(server), progress=False)
    assert file.sha256 == SHA
    assert len(server.requests) == 3


def test_a_server_that_stays_busy_is_an_error(server: Server) -> None:
    server.faults["/data.txt"] = [503] * 9
    with pytest.raises(UserError, match=r"data\.txt: cannot be downloaded, tried 4 times: 503"):
        fetch("t", remote(server), progress=False)
    assert len(server.requests) == 4
    assert here() == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_final(server: Server, status: int) -> None:
    server.faults["/data.txt"] = [status]
    with pytest.raises(UserError, match=f"cannot be downloaded: {status}"):
        fetch("t", remote(server), progress=False)
    assert len(server.requests) == 1
    assert here() == []


def test_a_broken_connection_is_tried_again(server: Server) -> None:
    """Also without a checksum to hold the file to: half of it is never taken for all of it."""
    server.faults["/data.txt"] = ["broken", "broken"]
    (file,) = fetch("t", remote(server), progress=False)
    assert file.path.read_bytes() == BODY
    assert server.requests == ["/data.txt"] * 3


def test_nobody_there_is_one_error(server: Server) -> None:
    files = remote(server)
    server.close()
    with pytest.raises(UserError) as caught:
        fetch("t", files, progress=False)
    assert "tried 4 times" in str(caught.value)
    assert "refused" in str(caught.value)
    assert "HTTPConnection" not in str(caught.value)
    assert here() == []


def test_what_a_killed_download_left_goes_away(server: Server) -> None:
    folder_of("t").mkdir(parents=True)
    (folder_of("t") / ".part-data.txt").write_bytes(b"torn")
    (folder_of("t") / ".part-other").write_bytes(b"torn")
    fetch("t", remote(server), progress=False)
    assert here() == [CHECKSUMS, "data.txt"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc/x", "a\\b", ".lock", CHECKSUMS, "C:x", "a\0b"]
)
def test_a_name_that_is_no_file_name_is_refused(server: Server, name: str) -> None:
    files = remote(server, name=name)
    with pytest.raises(UserError, match="no plain file name"):
        fetch("t", files, progress=False)
    with pytest.raises(UserError, match="no plain file name"):
        fetched("t", files)
    assert server.requests == []


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "nonsense"])
def test_only_http(server: Server, url: str) -> None:
    with pytest.raises(UserError, match="cannot be downloaded"):
        fetch("t", [RemoteFile("x", url, None)], progress=False)
    assert here() == []


def test_a_damaged_list_of_checksums_is_one_error(server: Server) -> None:
    fetch("t", remote(server), progress=False)
    for text in ("{", "[]", '{"files": 3, "sha256": {}}'):
        (folder_of("t") / CHECKSUMS).write_text(text)
        with pytest.raises(UserError, match=r"checksums.json: is damaged; delete it"):
            fetch("t", remote(server), progress=False)


def test_a_cache_that_cannot_be_written_is_one_error(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SOMA_BENCH_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match="set SOMA_BENCH_CACHE to another folder"):
        fetch("t", remote(server), progress=False)


def test_a_mirror_of_the_hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/hub/")
    server.files["/hub/datasets/a/b/resolve/c/data.txt"] = BODY
    url = "https://huggingface.co/datasets/a/b/resolve/c/data.txt"
    (file,) = fetch("t", [RemoteFile("data.txt", url, SHA)], progress=False)
    assert file.path.read_bytes() == BODY
    elsewhere = f"{server.url}/data.txt"
    assert download.mirrored(elsewhere) == elsewhere
    monkeypatch.delenv("HF_ENDPOINT")
    assert download.mirrored(url) == url


# The command.


def write_task(server: Server, sha256: str | None) -> str:
    entry = f'RemoteFile("data.txt", "{server.url}/data.txt", {sha256!r}),'
    Path("mine.py").write_text(TASK.format(remote=entry))
    return "mine.py:Mine"


def test_the_command_brings_what_the_task_reads(
    server: Server, bench: Callable[..., Result]
) -> None:
    name = write_task(server, None)
    missing = bench("tasks", "stats", name, "--json")
    assert missing.exit_code == 2
    assert "the data are not here" in missing.stderr
    result = bench("fetch", name)
    assert result.exit_code == 0, result.output
    assert f"sha256 {SHA}, checksum taken at the first download" in result.stdout
    stats = json.loads(bench("tasks", "stats", name, "--json").stdout)
    assert stats["sessions"] == 5000
    assert stats["files"] == {"data.txt": SHA}


def test_the_command_as_json(server: Server, bench: Callable[..., Result]) -> None:
    result = bench("fetch", write_task(server, SHA), "--json")
    ((file,),) = json.loads(result.stdout).values()
    assert Path(file.pop("path")).read_bytes() == BODY
    assert file == {"sha256": SHA, "pinned": True}


def test_the_command_says_what_is_wrong(server: Server, bench: Callable[..., Result]) -> None:
    wrong = bench("fetch", write_task(server, "0" * 64))
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith(f"error: {server.url}/data.txt: is not the file it was")
    for name, hint in (
        ("planning", "nothing to fetch"),
        ("embeded", "did you mean 'embedded'"),
        ("planing", "did you mean 'planning'"),
        ("./nothing.toml", "nothing.toml"),
        ("nothing.py:Task", "no such file"),
    ):
        result = bench("fetch", name)
        assert result.exit_code == 2, result.output
        assert hint in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_the_command_still_gets_pairs_ready(bench: Callable[..., Result]) -> None:
    result = bench("fetch", "embedded", "--json")
    assert set(json.loads(result.stdout)) == {"F", "G", "encoder"}
