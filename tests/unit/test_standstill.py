"""Heartbeats and what is judged from them: who is behind, silent, slow; and a watchdog that needs nobody's help."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hvd_adam.doctor.slurm_view import of_job
from hvd_adam.doctor.standstill import judge
from hvd_adam.training.heartbeat import Heartbeat, look, read


def beat(
    rank: int, step: int = 41, phase: str = "wait", since: float = 1.0, heard: float = 0.0, **seconds: float
) -> Any:
    """Of an interval of 5 s, as it lies there at time 1000; `heard` seconds before that."""
    return {
        "rank": rank, "host": f"n{rank + 1}", "step": step, "phase": phase, "phase_seconds": since,
        "quiet_seconds": since, "interval": 5.0, "heard": 1000 - heard, "seconds": seconds,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("beats", "lines", "stuck"),
    [
        ([], ("no rank has written where it stands",), True),
        ([beat(0), beat(1, phase="backward")], ("all 2 ranks get on, at step 41",), False),
        (  # one works on, the others wait for it
            [beat(0, since=60), beat(1, phase="data", since=61), beat(2, since=60)],
            ("rank 1 on n2 is behind: in data of step 41 for 61 s, last heard 0 s ago", "2 ranks wait for that"),
            True,
        ),
        (  # it waits for the others, but in the step before theirs
            [beat(0, step=42, since=60), beat(1, step=41, since=60)],
            ("rank 1 on n2 is behind: in wait of step 41 for 60 s, last heard 0 s ago", "1 rank waits for that"),
            True,
        ),
        (  # stopped, dead, or cut off from the folder
            [beat(0, since=60), beat(1, phase="forward", since=3, heard=60)],
            ("rank 1 on n2 is silent: in forward of step 41 for 63 s, last heard 60 s ago",),
            True,
        ),
        (
            [beat(0, since=60), beat(1, since=60)],
            ("all ranks wait for each other in step 41: look at the network between n1, n2",),
            True,
        ),
        (  # it was stopped, and woke once more when it was killed
            [beat(0, since=60), {**beat(1, since=1), "silent_seconds": 30.0}],
            ("rank 1 on n2 was silent for 30 s: in wait of step 41 for 1 s, last heard 0 s ago",),
            True,
        ),
        (  # one was stopped for a while, another stands still
            [{**beat(0, since=60), "silent_seconds": 30.0}, beat(1, phase="data", since=60), beat(2, since=60)],
            (
                "rank 0 on n1 was silent for 30 s: in wait of step 41 for 60 s, last heard 0 s ago",
                "rank 1 on n2 is behind: in data of step 41 for 60 s, last heard 0 s ago",
                "1 rank waits for that",
            ),
            True,
        ),
        (
            [beat(0, since=20, heard=300), beat(1, phase="data", since=20, heard=300)],
            (
                "no rank lives any more; the last that was heard:",
                "rank 1 on n2 is behind: in data of step 41 for 320 s, last heard 300 s ago",
                "1 rank waits for that",
            ),
            True,
        ),
        (  # it has ended since its last word, which it wrote after 14 s of standing still
            [beat(0, since=13, heard=4), beat(1, phase="data", since=14, heard=4)],
            ("rank 1 on n2 is behind: in data of step 41 for 18 s, last heard 4 s ago", "1 rank waits for that"),
            True,
        ),
        (  # an evaluation takes a minute, and gets on
            [{**beat(0, phase="evaluation", since=60), "quiet_seconds": 1.0}],
            ("all 1 ranks get on, at step 41",),
            False,
        ),
        (
            [beat(0), {**beat(1), "ahead": 3600.2}, {**beat(2), "ahead": -61.0}],
            (
                "all 3 ranks get on, at step 41",
                "the clock of n2 is 3600 s ahead of the folder's",
                "the clock of n3 is 61 s behind the folder's",
            ),
            False,
        ),
        (  # stopped: its last word says nothing of where it was
            [beat(0, since=12, heard=20), beat(1, since=0.1, heard=32)],
            (
                "no rank lives any more; the last that was heard:",
                "rank 1 on n2 fell silent first: in wait of step 41 for 32 s, last heard 32 s ago",
            ),
            True,
        ),
        ([beat(0, phase="done", since=9, heard=9e4)], ("the run is over: done at step 41",), False),
        (
            [beat(0, backward=10.0), beat(1, backward=17.0), beat(2, backward=10.0)],
            ("all 3 ranks get on, at step 41", "rank 1 on n2 is slow in backward: 1.7 times the median of all ranks"),
            False,
        ),
    ],
)  # fmt: skip
def test_who_holds_the_run_up(beats: list[Any], lines: tuple[str, ...], stuck: bool) -> None:
    verdict = judge(beats, now=1000.0)
    assert (verdict.lines, verdict.stuck) == (lines, stuck)


def test_a_heart_says_where_its_rank_stands_until_it_ends(tmp_path: Path) -> None:
    heart = Heartbeat(tmp_path, 3, "n4", None)
    heart.step = 7
    heart.at("backward")
    heart.stop("done")
    (found,) = read(tmp_path)
    assert (found["rank"], found["host"], found["step"], found["phase"]) == (3, "n4", 7, "done")
    assert [path.name for path in (tmp_path / "heartbeats").iterdir()] == ["rank-3.json"]


def test_a_rank_that_was_stopped_says_so_when_it_wakes_and_until_it_gets_on(tmp_path: Path) -> None:
    code = f"""
import faulthandler, sys
from pathlib import Path
from hvd_adam.training.heartbeat import Heartbeat
heart = Heartbeat(Path({str(tmp_path)!r}), 0, "n1", 2.0)
faulthandler.cancel_dump_traceback_later()  # the watchdog would end it
for heart.step in (1, 2):
    sys.stdin.readline()
"""

    def beat_of(step: int, after: float = 0.0) -> Any:
        while not (beats := read(tmp_path)) or beats[0]["step"] != step or beats[0]["time"] <= after:
            assert rank.poll() is None
            time.sleep(0.05)
        return beats[0]

    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True) as rank:
        assert rank.stdin
        assert beat_of(1)["silent_seconds"] == 0
        rank.send_signal(signal.SIGSTOP)
        time.sleep(4)
        last = beat_of(1)["time"]
        rank.send_signal(signal.SIGCONT)
        assert beat_of(1, after=last)["silent_seconds"] == pytest.approx(4, abs=1)
        rank.stdin.write("on\n")
        rank.stdin.flush()
        assert beat_of(2)["silent_seconds"] == 0
        rank.kill()


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "heartbeats").write_text("in the way")
    heart = Heartbeat(tmp_path, 0, "n1", None)
    heart.stop("done")
    assert read(tmp_path) == []


def test_a_folder_that_only_others_may_write_is_looked_at_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Heartbeat(tmp_path, 0, "n1", None).stop("backward")

    def refuses(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuses)
    beats, now = look(tmp_path)
    assert [beat["phase"] for beat in beats] == ["backward"] and abs(now - time.time()) < 5


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo RUNNING on n1, None", "Slurm says of job 71: RUNNING on n1, None"),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "no longer in the queue"),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", "does not answer about job 71: Unable to contact"),
        ("exit 1", "does not answer about job 71: squeue ended with 1"),
    ],
)
def test_what_slurm_says_and_that_it_says_nothing_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    (tmp_path / "squeue").write_text(f"#!/bin/sh\n{body}\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (line,) = of_job("71")
    assert said in line


def beats_again(folder: Path, rank: int, off: float) -> None:
    """A beat as it appears where the file system keeps the time of its writer, whose clock is off by so much."""
    path = folder / "heartbeats" / f"rank-{rank}.json"
    fresh, then = path.with_suffix(".fresh"), time.time() + off
    fresh.write_text(json.dumps({**json.loads(path.read_text()), "time": then, "interval": 0.2}))
    os.utime(fresh, (then, then))
    fresh.replace(path)


@pytest.mark.parametrize("off", [-3600.0, 3600.0])
def test_a_clock_that_is_off_makes_no_living_rank_silent_and_no_silent_one_living(tmp_path: Path, off: float) -> None:
    hearts = [Heartbeat(tmp_path, rank, f"n{rank}", None) for rank in (0, 1)]
    for heart in hearts:
        heart.stop("backward")
    beats_again(tmp_path, 0, off)
    beats_again(tmp_path, 1, off)
    living = threading.Thread(target=lambda: (time.sleep(0.3), beats_again(tmp_path, 0, off)))
    living.start()
    beats, now = look(tmp_path)
    living.join()
    assert [beat["silent"] for beat in beats] == [False, True]
    assert 0 <= now - beats[0]["heard"] < 5
    assert beats[0]["ahead"] == pytest.approx(off, abs=5)
    verdict = judge(beats, now)
    assert verdict.stuck and verdict.lines[0].startswith("rank 1 on n1 is silent: in backward of step 0 for ")


HANGS = """
import sys, time, ctypes
from pathlib import Path
from hvd_adam.training.heartbeat import Heartbeat
heart = Heartbeat(Path(sys.argv[1]), 0, "n1", 0.5)
heart.step = 3
heart.at("wait")
{hang}
"""


@pytest.mark.parametrize(
    "hang",
    [
        "time.sleep(1000)",
        "ctypes.PyDLL(None).sleep(1000)",  # in C, with the interpreter's lock held: no other thread of Python runs
    ],
)
def test_a_rank_that_stands_still_writes_its_stacks_and_ends(tmp_path: Path, hang: str) -> None:
    command = [sys.executable, "-c", HANGS.format(hang=hang), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Timeout (0:00:00.5" in done.stderr and 'File "<string>", line 8 in <module>' in done.stderr
    assert json.loads((tmp_path / "heartbeats" / "rank-0.json").read_text())["host"] == "n1"


def test_a_rank_that_gets_on_is_left_alone(tmp_path: Path) -> None:
    gets_on = "for _ in range(12): heart.alive(); time.sleep(0.1)\nheart.stop('done'); time.sleep(0.7)"
    command = [sys.executable, "-c", HANGS.format(hang=gets_on), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
