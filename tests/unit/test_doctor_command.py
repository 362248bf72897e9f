"""What a person and a program see of the doctor, and how two ranks are started, watched and ended."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click
import pytest

from hvd_adam.doctor import command, trial
from hvd_adam.doctor.facts import Places
from hvd_adam.doctor.findings import Finding, fault, note, ok
from hvd_adam.doctor.two_ranks import MARK
from hvd_adam.errors import ConfigError

TREE = Path(__file__).resolve().parents[2]
FINE, ODD, BROKEN = (
    ok("all is well"),
    note("a thing", "it is odd", "do this"),
    fault("a thing", "it breaks", "make setup"),
)


@pytest.fixture
def launcher(tmp_path):
    """Places whose launchers/mpirun is a shell script of the test's."""

    def make(script: str) -> Places:
        path = tmp_path / "launchers/mpirun"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return Places(environ={"PATH": "/usr/bin:/bin"}, tree=tmp_path, folder=tmp_path, prefix=tmp_path)

    return make


def report(phase: str, **facts) -> str:
    return f"{MARK} {json.dumps({'phase': phase, **facts})}"


@pytest.mark.parametrize(("findings", "code"), [([FINE], 0), ([FINE, ODD], 0), ([ODD, BROKEN, FINE], 4), ([], 0)])
def test_only_a_fault_makes_exit_code_4(findings, code):
    assert command.exit_code(findings) == code


def test_the_text_says_what_why_and_cure_and_counts():
    assert click.unstyle(command.as_text([FINE, BROKEN], 0.31, deep=False)) == (
        "ok     all is well\n"
        "fault  a thing\n"
        "       It breaks.\n"
        "       Cure: make setup\n"
        "\n"
        "1 ok, 0 notes, 1 fault in 0.3 s.  hvd-adam doctor --run also starts two ranks."
    )


SCHEMA = {"schema": int, "exit_code": int, "seconds": float, "findings": list, "environment": dict}
ROOMS = {"software", "mpi", "machine", "gpus", "job", "storage", "trials"}


def test_the_json_document_keeps_its_schema(capsys):
    code = command.run_doctor(as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert {key: type(value) for key, value in document.items()} == SCHEMA
    assert document["schema"] == 1 and document["exit_code"] == code
    assert set(document["environment"]) == ROOMS
    for finding in document["findings"]:
        assert set(finding) == set(asdict(Finding("ok", "")))
        assert finding["level"] in ("ok", "note", "fault") and finding["check"]


def test_text_and_json_end_with_the_same_code(capsys):
    code = command.run_doctor()
    shown = capsys.readouterr().out
    assert "\x1b" not in shown  # no colours where nobody looks
    assert code == command.run_doctor(as_json=True)


def test_neither_torch_nor_an_engine_is_imported():
    script = (
        "import sys; from hvd_adam.doctor.command import run_doctor; run_doctor(as_json=True);"
        "sys.exit(' '.join({'torch', 'horovod', 'mpi4py', 'numpy'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=TREE, capture_output=True, text=True)
    assert ended.stderr.strip() == ""


def test_run_inside_a_rank_is_refused_with_a_cure():
    with pytest.raises(ConfigError) as refused:
        command.examine(Places(environ={"PATH": "", "OMPI_COMM_WORLD_SIZE": "2"}), deep=True)
    assert refused.value.cure == "hvd-adam doctor --run, without mpirun in front"
    assert refused.value.exit_code == 2


def test_each_engine_is_tried_where_an_mpirun_is_there(monkeypatch, tmp_path):
    mpirun = tmp_path / "mpirun"
    mpirun.write_text("#!/bin/sh\necho 'mpirun (Open MPI) 4.1.8'\n")
    mpirun.chmod(0o755)
    tried = []
    monkeypatch.setattr(command, "try_engine", lambda engine, places, nodes: tried.append((engine, nodes)))
    environ = {"PATH": str(tmp_path), "SLURM_JOB_NUM_NODES": "2"}
    command.examine(Places(environ=environ, tree=tmp_path, prefix=tmp_path, packages=()), deep=True)
    assert tried == [("horovod", 2), ("mpi", 2)]
    command.examine(Places(environ={"PATH": ""}, tree=tmp_path, prefix=tmp_path, packages=()), deep=True)
    assert len(tried) == 2


def test_two_ranks_are_started_by_the_launcher_with_this_python(launcher):
    places = launcher('printf "%s " "$@"; exit 3')
    found = trial.try_engine("mpi", places)
    assert found.code == 3
    assert found.lines == (f"-n 2 -- {sys.executable} -m hvd_adam.doctor.two_ranks mpi",)


@pytest.mark.parametrize(("nodes", "policy"), [(1, "unset"), (2, "node")])
def test_on_several_nodes_each_gets_a_rank(launcher, nodes, policy):
    places = launcher("echo ${OMPI_MCA_rmaps_base_mapping_policy-unset}; exit 1")
    assert trial.try_engine("mpi", places, nodes=nodes).lines == (policy,)


def test_a_missing_launcher_is_a_failed_trial(tmp_path):
    found = trial.try_engine("mpi", Places(environ={}, tree=tmp_path, prefix=tmp_path))
    assert (found.code, found.lines) == (127, ("launchers/mpirun is not there",))


@pytest.mark.parametrize("script", ["exec sleep 60", "trap '' TERM; sleep 60 & wait; sleep 60"])
def test_ranks_that_hang_are_ended_and_the_phase_is_told(launcher, script, monkeypatch):
    monkeypatch.setattr(trial, "STEPS_OF_ENDING", ((15, 0.5), (9, 5.0)))
    started = time.monotonic()
    found = trial.try_engine("horovod", launcher(f"echo '{report('imported')}'; {script}"), limit=0.5)
    assert time.monotonic() - started < 10
    assert (found.code, found.reached) == (None, "imported")


WHOLE = [
    "+ mpirun -np 2 --bind-to none python",
    report("started"),
    report("imported"),
    report("started"),
    report("connected", size=2),
    report("imported"),  # rank 1's line comes later than rank 0's next
    report("timed", hosts=["a", "b"], right=True, small=[1.0, 2.0, 3.0, 4.0, 5.0], large=[2.0, 2.0], fused={}),
    report("parted"),
]  # fmt: skip


def test_a_whole_report_is_read():
    found = trial.read_trial("horovod", "cmd", 5.0, 0, "\n".join(WHOLE))
    assert (found.code, found.reached, found.size, found.hosts, found.right) == (0, "parted", 2, ("a", "b"), True)
    assert (found.small.n, found.small.median, found.small.low, found.small.high) == (5, 3.0, 2.0, 4.0)
    assert found.lines == ()


@pytest.mark.parametrize(
    ("upto", "more", "code", "reached", "lines"),
    [
        (6, [], 1, "connected", ()),
        (3, ["Traceback", "ImportError: no"], 1, "imported", ("Traceback", "ImportError: no")),
        (1, [f"{MARK} cut of"], 1, "nothing", ()),
        (6, ["Timeout (0:00:50)!", "Thread 0x1"], None, "connected", ("Timeout (0:00:50)!", "Thread 0x1")),
    ],
)
def test_a_report_that_breaks_off_tells_how_far_it_came(upto, more, code, reached, lines):
    found = trial.read_trial("mpi", "cmd", 5.0, 1, "\n".join([*WHOLE[:upto], *more]))
    assert (found.code, found.reached, found.lines) == (code, reached, lines)


def test_of_a_long_output_the_first_and_the_last_lines_are_kept():
    found = trial.read_trial("mpi", "cmd", 5.0, 1, "\n".join(f"line {number}" for number in range(100)))
    assert (found.lines[0], found.lines[8], found.lines[-1], len(found.lines)) == ("line 0", "...", "line 99", 17)
