"""Fetching without a network: a stub of npm, a server on this machine, and every way that files can be bad."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import tarfile
import threading
from pathlib import Path

import pytest

from hvd_adam import data, data_sources
from hvd_adam.data_sources import Dataset, Layout, Source, SourceFailed
from hvd_adam.errors import ConfigError, DataError

WORDS = b"a whole file" * 1000
QUIET = data_sources.Progress(lambda line: None)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


LAYOUT = Layout("tiny/raw", {"words": md5(WORDS)})


def register(monkeypatch, *sources):
    tiny = Dataset("tiny", (LAYOUT,), tuple((source, LAYOUT) for source in sources))
    monkeypatch.setitem(data_sources.DATASETS, "tiny", tiny)


def delivering(content: bytes, calls: list | None = None) -> Source:
    def fill(work, checks, say):
        if calls is not None:
            calls.append(work)
        (work / "words").write_bytes(content)
        return work

    return Source("a file", fill)


def failing(work, checks, say):
    raise SourceFailed("no answer")


def test_data_root_is_the_environment_or_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HVD_ADAM_DATA", str(tmp_path))
    assert data.data_root() == tmp_path
    monkeypatch.delenv("HVD_ADAM_DATA")
    assert data.data_root() == Path.home() / ".cache" / "hvd_adam" / "data"


def test_get_fetches_once_and_leaves_nothing_beside(monkeypatch, tmp_path):
    calls, lines = [], []
    register(monkeypatch, delivering(WORDS, calls))
    for _ in range(2):
        assert data.get("tiny", tmp_path, lines.append) == tmp_path / "tiny/raw"
    assert len(calls) == 1
    assert "already" in lines[-1]
    assert [p.name for p in (tmp_path / "tiny/raw").iterdir()] == ["words"]
    assert not (tmp_path / ".partial/tiny").exists()


def test_the_next_source_is_tried_when_one_fails(monkeypatch, tmp_path):
    register(monkeypatch, Source("first", failing), delivering(WORDS))
    assert (data.get("tiny", tmp_path) / "words").read_bytes() == WORDS


@pytest.mark.parametrize("content", [WORDS[:-1], b"", b"x" + WORDS[1:]], ids=["truncated", "empty", "changed"])
def test_a_delivery_with_another_checksum_never_appears(monkeypatch, tmp_path, content):
    register(monkeypatch, delivering(content))
    with pytest.raises(DataError, match="another checksum") as error:
        data.get("tiny", tmp_path)
    assert not (tmp_path / "tiny/raw").exists()
    assert error.value.exit_code == 1


@pytest.mark.parametrize("content", [None, WORDS[:-1]], ids=["missing", "truncated"])
def test_verify_names_the_command_and_get_repairs(monkeypatch, tmp_path, content):
    register(monkeypatch, delivering(WORDS))
    if content is not None:
        (tmp_path / "tiny/raw").mkdir(parents=True)
        (tmp_path / "tiny/raw/words").write_bytes(content)
    with pytest.raises(DataError) as error:
        data.verify("tiny", tmp_path)
    assert f"hvd-adam data get tiny --root {tmp_path}" in error.value.cure
    assert data.verify("tiny", data.get("tiny", tmp_path).parents[1]) == tmp_path / "tiny/raw"


def test_a_whole_set_is_used_where_nothing_can_be_written(monkeypatch, tmp_path):
    register(monkeypatch, failing)
    (tmp_path / "tiny/raw").mkdir(parents=True)
    (tmp_path / "tiny/raw/words").write_bytes(WORDS)

    def refuses(*_):
        raise OSError("Read-only file system")

    monkeypatch.setattr("hvd_adam.data._lock", refuses)
    assert data.get("tiny", tmp_path) == tmp_path / "tiny/raw"
    assert data.stage("tiny", tmp_path, tmp_path) == tmp_path


def test_a_home_that_nobody_knows_is_said(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="export HVD_ADAM_DATA="):
        data.below_home("~no-such-user-here/data")
    monkeypatch.setenv("HVD_ADAM_DATA", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.data_root() == tmp_path / ".cache/hvd_adam/data"


def test_a_root_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    register(monkeypatch, delivering(WORDS))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError) as error:
        data.get("tiny", tmp_path / "file" / "root")
    assert str(tmp_path / "file") in error.value.found
    assert "--root" in error.value.cure


def test_an_unknown_set_lists_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match="cifar10") as error:
        data.get("imagenet", tmp_path)
    assert error.value.exit_code == 2


def test_a_second_caller_waits_for_the_first(monkeypatch, tmp_path):
    calls, lines, started, go_on = [], [], threading.Event(), threading.Event()

    def slow(work, checks, say):
        started.set()
        go_on.wait(10)
        return delivering(WORDS, calls).fill(work, checks, say)

    register(monkeypatch, Source("slow", slow))
    first = threading.Thread(target=data.get, args=("tiny", tmp_path))
    first.start()
    assert started.wait(10)

    def note(line):
        lines.append(line)
        go_on.set()

    data.get("tiny", tmp_path, note)
    first.join()
    assert "waiting" in lines[0] and len(calls) == 1


def test_stage_copies_once_and_leaves_other_tasks_alone(monkeypatch, tmp_path):
    register(monkeypatch, delivering(WORDS))
    data.get("tiny", tmp_path / "far")
    assert data.stage("tiny", tmp_path / "far", tmp_path / "near") == tmp_path / "near"
    (tmp_path / "far/tiny/raw/words").unlink()  # the copy is enough
    assert data.stage("tiny", tmp_path / "far", tmp_path / "near") == tmp_path / "near"
    assert data.stage("digits", tmp_path, tmp_path / "near") == tmp_path


def test_a_corrupt_set_is_not_staged(monkeypatch, tmp_path):
    register(monkeypatch, delivering(WORDS))
    (data.get("tiny", tmp_path / "far") / "words").write_bytes(b"rot")
    with pytest.raises(DataError, match="another checksum"):
        data.stage("tiny", tmp_path / "far", tmp_path / "near")


class Server(http.server.BaseHTTPRequestHandler):
    """Answers ranges; cuts the first answer short."""

    asked: list = []

    def do_GET(self):
        wanted = self.headers.get("Range")
        start = int(wanted.split("=")[1].rstrip("-")) if wanted else 0
        Server.asked.append(start)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(WORDS) - start))
        self.end_headers()
        self.wfile.write(WORDS[start:5000] if len(Server.asked) == 1 else WORDS[start:])

    def log_message(self, *args):
        pass


def test_a_download_goes_on_where_it_was_cut(tmp_path):
    Server.asked = []
    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/words"
        path = data_sources.download(address, tmp_path / "words", md5(WORDS), QUIET)
        assert path.read_bytes() == WORDS
        assert Server.asked == [0, 5000]
        with pytest.raises(SourceFailed, match="another checksum"):
            data_sources.download(address, tmp_path / "other", md5(b"other"), QUIET)
        assert not list(tmp_path.glob("other*"))
    finally:
        server.shutdown()
        server.server_close()


def stub_npm(folder: Path, archive: Path, monkeypatch) -> None:
    script = f'#!/bin/sh\necho x >> "{folder}/calls"\ncp "{archive}" ./tiny-1.0.0.tgz\n'
    (folder / "npm").write_text(script)
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def packed(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    archive = folder / "package.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("package/data/words", "package/other"):
            member = tarfile.TarInfo(name)
            member.size = len(WORDS)
            tar.addfile(member, io.BytesIO(WORDS))
    stub_npm(folder, archive, monkeypatch)
    return archive


def test_npm_pack_unpacks_only_what_was_asked_for(packed, tmp_path):
    folder = data_sources.npm_pack("tiny@1.0.0", QUIET, tmp_path, {"words"})
    assert [p.name for p in folder.iterdir()] == ["words"]
    assert (folder / "words").read_bytes() == WORDS


def test_a_package_cut_short_by_an_earlier_call_is_fetched_again(packed, tmp_path):
    (tmp_path / "tiny-1.0.0.tgz").write_bytes(packed.read_bytes()[:50])
    folder = data_sources.npm_pack("tiny@1.0.0", QUIET, tmp_path, {"words"})
    assert (folder / "words").read_bytes() == WORDS
    data_sources.npm_pack("tiny@1.0.0", QUIET, tmp_path, {"words"})
    assert (packed.parent / "calls").read_text().count("x") == 1  # a whole one is not


def test_npm_that_fails_or_is_absent_is_a_source_that_failed(tmp_path, monkeypatch):
    (tmp_path / "npm").write_text("#!/bin/sh\necho no network >&2\nexit 7\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(SourceFailed, match="exited 7: no network"):
        data_sources.npm_pack("tiny@1.0.0", QUIET, tmp_path, {"words"})
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(SourceFailed, match="not on PATH"):
        data_sources.npm_pack("tiny@1.0.0", QUIET, tmp_path, {"words"})


def test_an_interrupted_download_is_kept_for_the_next_call_and_a_dead_line_is_no_file_error(tmp_path):
    (tmp_path / "words.part").write_bytes(WORDS[:7000])
    with pytest.raises(SourceFailed, match="no answer"):
        data_sources.download("http://127.0.0.1:9/words", tmp_path / "words", md5(WORDS), QUIET)
    assert (tmp_path / "words.part").read_bytes() == WORDS[:7000]


def test_a_long_program_says_that_it_is_still_at_work(tmp_path, monkeypatch):
    monkeypatch.setattr(data_sources, "NEWS_SECONDS", 0.5)
    lines: list[str] = []
    data_sources._run(["sleep", "1.2"], tmp_path, data_sources.Progress(lines.append))
    assert lines == ["  sleep 1.2: 1 s"]
