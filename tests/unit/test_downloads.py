"""Downloads from a real server on this machine, and every way in which it can misbehave."""

import contextlib
import hashlib
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from i2i import DownloadError, UsageError
from i2i.downloads import Remote, Watcher, cache_folder, fetch
from i2i.nn import pretrained

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Manners:
    """How the server behaves; ``seen`` are the Range headers that it got."""

    content: bytes = CONTENT
    status: int = 200
    breaks_after: list[int] = field(default_factory=list)  # bytes, an answer each
    claims: int | None = None  # as the Content-Length of a whole answer
    knows_ranges: bool = True
    tag: str = '"v1"'
    says_length: bool = True
    seen: list[str | None] = field(default_factory=list)
    slow: bool = False


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    @property
    def manners(self) -> Manners:
        return self.server.manners

    def do_GET(self) -> None:
        manners, content = self.manners, self.manners.content
        asked = self.headers.get("Range")
        manners.seen.append(asked)
        if manners.status != 200:
            self.send_error(manners.status)
            return
        first = self.first_byte(asked)
        if first >= len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if first else 200)
        if first:
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        if manners.says_length:
            self.send_header("Content-Length", str(manners.claims or len(content) - first))
        if manners.tag:
            self.send_header("ETag", manners.tag)
        self.end_headers()
        length = manners.breaks_after.pop(0) if manners.breaks_after else len(content)
        self.write(content[first : first + length])

    def first_byte(self, asked: str | None) -> int:
        is_same = self.headers.get("If-Range") in (None, self.manners.tag)
        found = re.fullmatch(r"bytes=(\d+)-", asked or "")
        return int(found[1]) if found and is_same and self.manners.knows_ranges else 0

    def write(self, content: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            if not self.manners.slow:
                self.wfile.write(content)
                return
            for start in range(0, len(content), 65536):
                self.wfile.write(content[start : start + 65536])
                time.sleep(0.05)


@pytest.fixture
def manners() -> Manners:
    return Manners()


@pytest.fixture
def address(manners: Manners) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.manners = manners
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("I2I_OFFLINE", raising=False)
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def remote(address: str) -> Remote:
    return Remote("model", f"{address}/model.bin", SHA256, len(CONTENT), "CC0")


def left(cache: Path) -> set[str]:
    """Return what lies in the cache, locks aside."""
    return {path.name for path in cache.iterdir() if path.suffix != ".lock"}


def failure(remote: Remote) -> str:
    with pytest.raises(DownloadError) as caught:
        fetch(remote)
    assert not remote.path.exists()
    return str(caught.value)


def test_a_file_comes_once_and_whole(remote, manners, cache):
    said: list[str] = []
    steps: list[tuple[int, int | None]] = []
    watcher = Watcher(said.append, lambda have, total: steps.append((have, total)))

    assert fetch(remote, watcher).read_bytes() == CONTENT
    assert fetch(remote, watcher) == remote.path
    assert manners.seen == [None]
    assert left(cache) == {remote.path.name}
    (line,) = said
    assert "1.0 MB, licence: CC0" in line
    assert remote.url in line
    assert steps[-1] == (len(CONTENT), len(CONTENT))


def test_a_file_with_another_hash_or_address_lies_elsewhere(remote):
    others = [replace(remote, sha256="0" * 64), replace(remote, url=f"{remote.url}?2")]
    assert len({remote.path, *(other.path for other in others)}) == 3


def test_what_breaks_off_is_resumed_where_it_broke(remote, manners):
    manners.breaks_after = [300_000, 200_000]

    assert fetch(remote).read_bytes() == CONTENT
    first, *ranges = manners.seen
    starts = [int(re.fullmatch(r"bytes=(\d+)-", each)[1]) for each in ranges]
    assert first is None
    assert 0 < starts[0] <= 300_000 < starts[1] <= 500_000


def test_a_server_that_always_breaks_off_is_named_and_the_piece_is_kept(remote, manners, cache):
    manners.breaks_after = [500_000, *[0] * 9]

    message = failure(remote)
    assert "broke off after 0." in message
    assert f"save it as {remote.path}" in message
    part = cache / f"{remote.path.name}.part"
    assert part.read_bytes() == CONTENT[: part.stat().st_size]
    manners.breaks_after = []
    assert fetch(remote).read_bytes() == CONTENT
    assert manners.seen[-1].startswith("bytes=")


def test_a_killed_process_leaves_a_piece_that_the_next_one_continues(
    remote, manners, address, cache
):
    manners.slow = True
    script = f"""
from i2i.downloads import Remote, fetch
fetch(Remote("model", {remote.url!r}, {SHA256!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    part = cache / f"{remote.path.name}.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size > 100_000):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    process.wait()
    assert left(cache) == {part.name, f"{part.name}.tag"}
    size = part.stat().st_size
    manners.slow = False

    assert fetch(remote).read_bytes() == CONTENT
    assert manners.seen == [None, f"bytes={size}-"]


def test_a_server_that_ignores_ranges_begins_anew(remote, manners):
    manners.breaks_after = [300_000]
    manners.knows_ranges = False

    assert fetch(remote).read_bytes() == CONTENT
    assert len(manners.seen) == 2


def test_a_file_that_changed_on_the_server_is_not_pieced_together(remote, manners):
    manners.breaks_after = [300_000, *[0] * 9]
    unverified = replace(remote, sha256=None, num_bytes=None)
    failure(unverified)
    manners.content, manners.tag, manners.breaks_after = CONTENT[::-1], '"v2"', []

    assert fetch(unverified).read_bytes() == CONTENT[::-1]


def test_without_hash_and_tag_nothing_is_resumed(remote, manners):
    manners.breaks_after, manners.tag = [300_000], ""

    assert fetch(replace(remote, sha256=None)).read_bytes() == CONTENT
    assert manners.seen == [None, None]


def test_a_piece_longer_than_the_file_is_thrown_away(remote, manners, cache):
    cache.mkdir()
    (cache / f"{remote.path.name}.part").write_bytes(CONTENT + b"more")

    assert fetch(remote).read_bytes() == CONTENT


def test_a_wrong_file_gets_no_name(remote, manners, cache):
    manners.content = CONTENT[::-1]

    message = failure(remote)
    found = hashlib.sha256(manners.content).hexdigest()
    assert f"the server sent another file: its sha256 is {found}" in message
    assert f"expected {SHA256}, as promised" in message
    assert left(cache) == set()


@pytest.mark.parametrize("difference", [-1, 5])
def test_a_length_that_was_not_promised_is_refused_before_the_download(
    remote, manners, cache, difference
):
    manners.claims = len(CONTENT) + difference

    message = failure(remote)
    assert f"the server offers {manners.claims:,} bytes; expected 1,048,576 bytes" in message
    assert left(cache) == set()


def test_a_length_too_large_is_a_broken_connection(remote, manners):
    manners.claims = len(CONTENT) + 5
    manners.knows_ranges = False

    assert "broke off after 1.0 MB" in failure(replace(remote, num_bytes=None))


def test_a_length_too_small_gives_another_file(remote, manners):
    manners.claims = len(CONTENT) - 5

    assert "the server sent another file" in failure(replace(remote, num_bytes=None))


@pytest.mark.parametrize("change", [-5, 5])
def test_a_server_that_says_no_length_is_held_to_the_promised_one(remote, manners, change):
    manners.says_length, manners.tag = False, ""
    manners.content = CONTENT[:change] if change < 0 else CONTENT + b"12345"

    message = failure(remote)
    assert "sends more than 1,048,576 bytes" in message if change > 0 else "broke off" in message


@pytest.mark.parametrize(("status", "reason"), [(404, "Not Found"), (500, "Internal Server Error")])
def test_a_refusal_is_told_with_its_number(remote, manners, status, reason):
    manners.status = status

    message = failure(remote)
    assert f"{remote.url}: the server answered {status} {reason}; " in message
    assert f"get it elsewhere and save it as {remote.path}" in message
    assert len(manners.seen) == 1


def test_a_server_that_is_not_there_is_one_message(tmp_path):
    nowhere = Remote("model", "http://127.0.0.1:9/model.bin", SHA256)
    assert "cannot be reached (" in failure(nowhere)
    unknown = Remote("model", "http://no-such-host.invalid/model.bin", SHA256)
    assert "cannot be reached (" in failure(unknown)


def test_offline_says_which_file_belongs_where_and_takes_it_from_there(
    remote, manners, cache, monkeypatch
):
    monkeypatch.setenv("I2I_OFFLINE", "1")
    message = failure(remote)
    assert "I2I_OFFLINE forbids the network; expected the file 'model'" in message
    assert f"save it as {remote.path}" in message

    cache.mkdir()
    remote.path.write_bytes(CONTENT)
    assert fetch(remote) == remote.path
    assert manners.seen == []


def test_a_file_put_there_by_hand_is_checked(remote, cache):
    cache.mkdir()
    remote.path.write_bytes(b"another")

    with pytest.raises(DownloadError, match=f"is another file: .* expected {SHA256}, as promised"):
        fetch(remote)
    assert remote.path.read_bytes() == b"another"  # it is the user's


def test_a_hash_that_nobody_stated_is_taken_from_the_first_time(remote, manners, cache):
    unverified = replace(remote, sha256=None, num_bytes=None)
    fetch(unverified)
    record = cache / f"{unverified.path.name}.sha256"
    assert record.read_text().strip() == SHA256

    unverified.path.unlink()
    manners.content = CONTENT[::-1]
    message = failure(unverified)
    assert "the server sent another file" in message
    assert f"expected {SHA256}, as came first ({record})" in message

    unverified.path.write_bytes(b"changed by hand")
    with pytest.raises(DownloadError, match="is another file"):
        fetch(unverified)


def test_a_cache_that_cannot_be_written_is_named(remote, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "file"))

    with pytest.raises(DownloadError, match=r"cannot be written .* folder with I2I_CACHE"):
        fetch(remote)


def test_the_cache_is_the_users_own_unless_named(monkeypatch, cache):
    assert cache_folder() == cache
    monkeypatch.delenv("I2I_CACHE")
    assert cache_folder().name == "i2i"


def test_two_at_once_download_once(remote, manners):
    manners.slow = True
    threads = [threading.Thread(target=fetch, args=(remote,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert remote.path.read_bytes() == CONTENT
    assert manners.seen == [None]


def test_an_auxiliary_network_is_fetched_by_its_name(remote, manners):
    assert pretrained("judge", {"judge": remote}).read_bytes() == CONTENT
    with pytest.raises(UsageError, match=r"no auxiliary network named 'jugde'.*did you mean 'jud"):
        pretrained("jugde", {"judge": remote})
