"""The batch scripts without a cluster: their options and lines, and what they do with each ending of the ranks.

Slurm's programs and the launchers' are stubs: shell scripts that print or write down what they were given. The job
itself runs as Slurm would run it: a copy of the script, in a folder that is not the tree's.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).resolve().parent / "golden"


class Site:
    """A tree whose path holds blanks, stubs on PATH, and a job that can be started."""

    def __init__(self, folder: Path, script: str = "train") -> None:
        self.tree, self.bin, self.spool = folder / "a tree", folder / "bin", folder / "spool"
        self.bin.mkdir()
        self.spool.mkdir()
        for part in ("launchers", "slurm"):
            shutil.copytree(TREE / part, self.tree / part, ignore=shutil.ignore_patterns("site.sh"))
        shutil.copy(self.tree / "slurm" / f"{script}.sbatch", self.spool / "slurm_script")
        self.stub("scontrol", f"""case $1 in
            show) case $2 in
                job) echo "   Command={self.tree}/slurm/{script}.sbatch c.yaml" ;;
                hostnames) echo n1; echo n2; echo n3 ;; esac ;;
            requeue) echo "$2" >>"{folder}/requeued" ;;
        esac""")  # fmt: skip
        self.stub("id", "echo 1000")
        self.stub("mpirun", "case $1 in --version) echo 'mpirun (Open MPI) 4.1.8' ;; esac")
        for name in ("srun", "horovodrun", "hvd-adam", "apptainer"):
            self.stub(name, ":")
        self.requeued = folder / "requeued"

    def stub(self, name: str, body: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.bin / name).chmod(0o755)

    def launcher(self, body: str) -> None:
        """What the ranks do."""
        path = self.tree / "launchers" / "mpirun"
        path.write_text(f"#!/bin/sh\n{body}\n")

    def environment(self, **more: str) -> dict[str, str]:
        job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_CPUS_PER_TASK": "3", "SLURM_JOB_NUM_NODES": "2"}
        return {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.tree), **job, **more}

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        command = ["sh", str(self.spool / "slurm_script"), *arguments]
        return subprocess.Popen(
            command,
            env=self.environment(**more),
            cwd=self.tree,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        job = self.start(*arguments, **more)
        out, err = job.communicate(timeout=30)
        return subprocess.CompletedProcess(arguments, job.returncode, out, err)

    def restarts(self) -> int:
        """How often the job was queued again."""
        return len(self.requeued.read_text().splitlines()) if self.requeued.exists() else 0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


NODES = {"SLURM_JOB_NODELIST": "n[1-3]", "SLURM_TASKS_PER_NODE": "2(x2),1"}
CASES: list[tuple[str, tuple[str, ...], dict[str, str]]] = [
    ("mpirun is the default", ("c.yaml",), {}),
    ("settings and a run of one's own", ("a b.yaml", "steps=9", "--run", "runs/my own"), {}),
    ("srun", ("c.yaml",), {"HVD_ADAM_LAUNCHER": "srun"}),
    ("srun, another PMI", ("c.yaml",), {"HVD_ADAM_LAUNCHER": "srun", "HVD_ADAM_PMI": "pmix_v4"}),
    ("horovodrun", ("c.yaml",), {"HVD_ADAM_LAUNCHER": "horovodrun", "SLURM_NTASKS": "5", **NODES}),
    ("horovodrun, interface named", ("c.yaml",), {"HVD_ADAM_LAUNCHER": "horovodrun", "HVD_ADAM_NIC": "ib0", **NODES}),
    ("in a container", ("c.yaml",), {"HVD_ADAM_CONTAINER": "/i/h a.sif", "HVD_ADAM_CONTAINER_OPTIONS": "--nv -B /d"}),
    ("an element of an array", ("c.yaml",), {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"}),
    ("tasks per node, no number of tasks", ("c.yaml",), {"SLURM_NTASKS": "", "SLURM_NTASKS_PER_NODE": "4"}),
]  # fmt: skip


def differences(script: str, said: Mapping[str, str]) -> list[str]:
    """Of a batch file's #SBATCH lines, and of what its cases have said, from the golden file.

    HVD_ADAM_GOLDEN=write writes that anew, to be read before it is committed.
    """
    text = (TREE / "slurm" / f"{script}.sbatch").read_text()
    parts = ["".join(line for line in text.splitlines(keepends=True) if line.startswith("#SBATCH"))]
    made = "\n".join([*parts, *(f"{name}\n{words}" for name, words in said.items())])
    golden = GOLDEN / f"{script}.txt"
    if os.environ.get("HVD_ADAM_GOLDEN") == "write":
        golden.write_text(made)
    return list(difflib.unified_diff(golden.read_text().splitlines(), made.splitlines(), lineterm=""))


def test_options_and_lines_are_those_of_the_golden_file(site: Site) -> None:
    said = {}
    for name, arguments, environment in CASES:
        done = site.run(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        said[name] = done.stderr
    assert not differences("train", said)


@pytest.mark.parametrize("code", [0, 2, 3, 4, 5, 6, 130])
def test_an_ending_that_would_be_the_same_again_is_the_jobs_own(site: Site, code: int) -> None:
    site.launcher(f"exit {code}")
    assert site.run("c.yaml").returncode == code
    assert site.restarts() == 0


def test_a_failure_that_the_program_speaks_of_is_not_tried_again(site: Site) -> None:
    """Whatever the launcher makes of it: srun ends with the signal that it sent to the other ranks."""
    site.launcher('echo 1 >"$HVD_ADAM_VERDICT"; exit 143')
    assert site.run("c.yaml").returncode == 1
    assert site.restarts() == 0
    site.launcher("exit 0")
    assert site.run("c.yaml").returncode == 0  # the next job on this run does not find an old one's


@pytest.mark.parametrize("named", [("--run", "runs/mine/"), ("--run=runs/mine//",)])
def test_a_slash_at_the_end_of_a_runs_name_is_no_part_of_it(site: Site, named: tuple[str, ...]) -> None:
    """What the program says, and how often it was tried, lies beside the run, which there may not yet be."""
    site.launcher('echo 1 >"$HVD_ADAM_VERDICT"; exit 143')
    assert site.run("c.yaml", *named).returncode == 1
    assert site.restarts() == 0
    site.launcher("exit 137")
    assert [site.run("c.yaml", *named).returncode for _ in range(4)] == [75, 75, 75, 137]
    assert (site.tree / "runs/mine.tries").is_file()


def test_a_run_that_stopped_at_a_checkpoint_is_queued_again_until_the_cap(site: Site) -> None:
    site.launcher("exit 75")
    assert site.run("c.yaml", SLURM_RESTART_COUNT="1", HVD_ADAM_RESTARTS="2").returncode == 75
    assert site.requeued.read_text() == "7\n"
    last = site.run("c.yaml", SLURM_RESTART_COUNT="2", HVD_ADAM_RESTARTS="2")
    assert last.returncode == 75 and site.restarts() == 1
    assert "HVD_ADAM_RESTARTS allows no more: submit it with --run runs/c/job-7 to go on" in last.stderr


def test_where_slurm_refuses_to_queue_it_again_the_way_on_is_said(site: Site) -> None:
    site.launcher("exit 75")
    stub = site.bin / "scontrol"
    stub.write_text(stub.read_text().replace("requeue)", "requeue) exit 1 ;; never)"))
    done = site.run("c.yaml")
    assert done.returncode == 75
    assert "Slurm does not queue it again: submit it with --run runs/c/job-7 to go on" in done.stderr


def test_a_fault_is_tried_again_as_long_as_there_are_new_checkpoints(site: Site) -> None:
    checkpoints = site.tree / "runs" / "c" / "job-7" / "checkpoints"
    site.launcher("exit 137")
    for _ in range(3):
        assert site.run("c.yaml").returncode == 75
    given_up = site.run("c.yaml")
    assert (given_up.returncode, site.restarts()) == (137, 3)
    assert "so did the 3 starts before it without a new checkpoint: given up" in given_up.stderr
    checkpoints.mkdir(parents=True)
    (checkpoints / "step-000000010.ckpt").touch()
    assert site.run("c.yaml").returncode == 75
    assert site.restarts() == 4


RANKS_THAT_STOP = """
trap 'echo heard >>"$HOME/heard"; exit 75' USR2
touch "$HOME/ready"
while :; do sleep 0.05; done
"""


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} was not made"
        time.sleep(0.02)


@pytest.mark.parametrize("asked_by", [signal.SIGUSR1, signal.SIGUSR2])
def test_the_request_to_stop_reaches_the_launcher_and_the_job_is_queued_again(site: Site, asked_by: signal.Signals):
    site.launcher(RANKS_THAT_STOP)
    job = site.start("c.yaml")
    wait_for(site.tree / "ready")
    job.send_signal(asked_by)
    _, said = job.communicate(timeout=30)
    assert (job.returncode, site.restarts()) == (75, 1)
    assert (site.tree / "heard").read_text() == "heard\n"
    assert "asked to stop" in said and "stopped at a checkpoint; queued again" in said


def test_the_request_reaches_ranks_behind_a_shell_that_waits_for_them(site: Site) -> None:
    """As horovodrun leaves one, which would die of the signal; its ranks would then go on alone."""
    (site.tree / "ranks").write_text(RANKS_THAT_STOP)
    site.launcher("exec /bin/sh -c 'sh \"$HOME/ranks\"; exit $?'")
    job = site.start("c.yaml")
    wait_for(site.tree / "ready")
    job.send_signal(signal.SIGUSR1)
    _, said = job.communicate(timeout=30)
    assert (job.returncode, site.restarts()) == (75, 1)
    assert (site.tree / "heard").exists() and "stopped at a checkpoint; queued again" in said


def test_ranks_that_did_not_hear_it_at_first_are_asked_again(site: Site) -> None:
    site.stub("sleep", '/bin/sleep "$(case $1 in 5) echo 0.2 ;; *) echo "$1" ;; esac)"')
    site.launcher("trap '' USR2\ntouch \"$HOME/started\"\nsleep 1" + RANKS_THAT_STOP)
    job = site.start("c.yaml")
    wait_for(site.tree / "started")
    job.send_signal(signal.SIGUSR1)
    job.communicate(timeout=30)
    assert (job.returncode, site.restarts()) == (75, 1)


def test_ranks_that_die_of_the_request_are_not_a_fault(site: Site) -> None:
    """The signal came while they were starting: whatever they ended with, the job goes on later."""
    site.launcher('touch "$HOME/started"\nwhile :; do sleep 0.05; done')
    job = site.start("c.yaml")
    wait_for(site.tree / "started")
    job.send_signal(signal.SIGUSR1)
    _, said = job.communicate(timeout=30)
    assert (job.returncode, site.restarts()) == (75, 1)
    assert "while it was asked to stop; queued again" in said


@pytest.mark.parametrize(
    ("state", "status", "code", "said"),
    [
        ("TIMEOUT Reason=TimeLimit", 143, 75, "limit came before the ranks had saved themselves; queued again"),
        ("TIMEOUT Reason=TimeLimit", 1, 75, "limit came before the ranks had saved themselves; queued again"),
        ("PREEMPTED Reason=None", 143, 143, ""),  # Slurm queues it again
        ("CANCELLED Reason=None", 143, 143, ""),  # nobody does
        ("RUNNING Reason=None", 143, 75, "ended with 143; queued again"),  # a fault of the ranks
    ],
)
@pytest.mark.parametrize("told", [True, False])
def test_an_end_that_slurm_brings_about_is_told_from_a_fault_whoever_hears_of_it_first(
    site: Site, state: str, status: int, code: int, said: str, told: bool
) -> None:
    """Slurm's TERM goes to the processes of a job one by one: the ranks may be gone before the script hears it."""
    stub = site.bin / "scontrol"
    stub.write_text(stub.read_text().replace('echo "  ', f'echo "   JobState={state}"; echo "  '))
    site.launcher(f"{'kill -TERM $PPID; sleep 0.2; ' if told else ''}exit {status}")
    done = site.run("c.yaml")
    assert (done.returncode, site.restarts()) == (code, int(code == 75))
    assert said in done.stderr and (said or "queued again" not in done.stderr)


def test_an_element_of_an_array_queues_itself_again_and_no_other(site: Site) -> None:
    site.launcher("exit 75")
    assert site.run("c.yaml", SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="3").returncode == 75
    assert site.requeued.read_text() == "7_3\n"


@pytest.mark.parametrize(("limit", "ended"), [("1", True), ("null", False)])
def test_a_launcher_whose_ranks_have_ended_is_ended(site: Site, limit: str, ended: bool) -> None:
    """It waits for a node that it cannot reach; rank 0 was heard in this start, and then no more."""
    site.stub("sleep", '/bin/sleep "$(case $1 in 5) echo 0.1 ;; *) echo "$1" ;; esac)"')
    beats = '"$HOME/runs/c/job-7/heartbeats"'
    site.launcher(f"""mkdir -p {beats}
        for i in 1 2 3 4 5 6; do echo '{{"time": '$i', "stall_limit": {limit}}}' >{beats}/rank-0.json; sleep 0.1; done
        exec /bin/sleep {1000 if ended else 2}""")
    done = site.run("c.yaml")
    assert (done.returncode, site.restarts()) == ((75, 1) if ended else (0, 0))
    assert ("rank 0 has been silent for 15 s: the launcher is ended" in done.stderr) is ended


def test_variables_of_an_outer_job_do_not_reach_the_ranks(site: Site) -> None:
    outer = {
        "SBATCH_PARTITION": "elsewhere", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "9", "SLURM_MPI_TYPE": "none",
        "SLURM_CPU_BIND": "quiet,mask_cpu:0x1", "SLURM_CPU_BIND_TYPE": "mask_cpu:", "PMIX_RANK": "3", "PMI_SIZE": "9",
        "OMPI_COMM_WORLD_SIZE": "9", "HOROVOD_SIZE": "9", "SLURM_DISTRIBUTION": "cyclic", "SRUN_CPUS_PER_TASK": "8",
        "SLURM_MEM_PER_NODE": "1000", "SLURM_MEM_PER_CPU": "300", "SLURM_HINT": "nomultithread",
    }  # fmt: skip
    site.launcher("env")
    seen = dict(line.split("=", 1) for line in site.run("c.yaml", **outer).stdout.splitlines() if "=" in line)
    assert set(outer) & set(seen) == {"SLURM_CPU_BIND"}
    assert (seen["SLURM_CPU_BIND"], seen["SLURM_EXPORT_ENV"]) == ("none", "ALL")
    assert (seen["SLURM_JOB_ID"], seen["SLURM_CPUS_PER_TASK"]) == ("7", "3")  # its own


def test_one_interface_reaches_every_library_that_would_look_for_one(site: Site) -> None:
    site.stub("mpirun", 'case $1 in --version) echo "mpirun (Open MPI) 4.1.8" ;; *) env ;; esac')
    seen = site.run("c.yaml", HVD_ADAM_NIC="ib0", UCX_NET_DEVICES="mlx5_0:1").stdout.splitlines()
    for name in (
        "OMPI_MCA_btl_tcp_if_include",
        "OMPI_MCA_oob_tcp_if_include",
        "PRTE_MCA_prte_if_include",
        "NCCL_SOCKET_IFNAME",
        "GLOO_SOCKET_IFNAME",
    ):
        assert f"{name}=ib0" in seen
    assert "UCX_NET_DEVICES=mlx5_0:1" in seen  # what the user has set stays
    assert "OMP_NUM_THREADS=3" in seen


def test_the_sites_file_is_read_before_the_ranks_start(site: Site) -> None:
    (site.tree / "slurm" / "site.sh").write_text("export HVD_ADAM_LAUNCHER=srun HVD_ADAM_PMI=pmi2\n")
    assert site.run("c.yaml").stderr.startswith("+ srun --mpi=pmi2 ")


def test_a_sites_file_may_ask_for_what_is_not_set(site: Site) -> None:
    """As many a profile does; and where /bin/sh is bash, the script would end there without a word."""
    (site.tree / "slurm" / "site.sh").write_text('[ -z "$NOT_SET_ANYWHERE" ] && export HVD_ADAM_LAUNCHER=srun\n')
    assert site.run("c.yaml").stderr.startswith("+ srun ")


def test_a_sites_file_that_ends_at_errors_does_not_end_the_job_before_it_is_queued_again(site: Site) -> None:
    (site.tree / "slurm" / "site.sh").write_text("set -e\n")
    site.launcher("exit 75")
    assert (site.run("c.yaml").returncode, site.restarts()) == (75, 1)


@pytest.mark.parametrize(("name", "folder"), [("LMOD_PKG", "lmod"), ("MODULESHOME", "modules")])
def test_a_sites_file_may_load_modules_which_sh_does_not_know_by_itself(site: Site, name: str, folder: str) -> None:
    (site.tree / folder / "init").mkdir(parents=True)
    (site.tree / folder / "init/sh").write_text('module() { eval "LOADED_$2=yes; export LOADED_$2"; }\n')
    (site.tree / "slurm" / "site.sh").write_text("set -e\nmodule load gcc\nexport SEEN=$LOADED_gcc\n")
    site.launcher("env")
    assert "SEEN=yes" in site.run("c.yaml", **{name: str(site.tree / folder)}).stdout.splitlines()


def test_ends_that_cannot_be_counted_are_not_tried_again(site: Site) -> None:
    run = site.tree / "runs" / "c" / "job-7"
    (run.parent / f"{run.name}.tries").mkdir(parents=True)  # no file can be written there
    site.launcher("exit 9")
    done = site.run("c.yaml")
    assert (done.returncode, site.restarts()) == (9, 0)
    assert "which counts such ends, cannot be written: submit it with --run" in done.stderr


def test_a_request_to_stop_while_the_sites_file_is_at_work_is_kept_for_the_ranks(site: Site) -> None:
    (site.tree / "slurm" / "site.sh").write_text('touch "$HOME/loading"\nsleep 1\n')
    site.launcher(RANKS_THAT_STOP)
    job = site.start("c.yaml")
    wait_for(site.tree / "loading")
    job.send_signal(signal.SIGUSR1)
    _, said = job.communicate(timeout=30)
    assert (job.returncode, site.restarts()) == (75, 1) and "stopped at a checkpoint; queued again" in said


def test_each_line_of_the_example_is_shell_once_it_is_kept(site: Site) -> None:
    example = (site.tree / "slurm" / "site.example.sh").read_text()
    kept = re.sub(r"^# (?=export |module |\. )", "", example, flags=re.MULTILINE)
    assert kept.count("\nexport ") >= 8
    done = subprocess.run(["sh", "-n"], input=kept, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "site_file", "message"),
    [
        ((), {}, "", "no config was named.\n  There is nothing to train.\n  Say: sbatch slurm/train.sbatch CONFIG.\n"),
        (("c.yaml",), {}, "false", "slurm/site.sh ended with 1.\n"),
        (("c.yaml",), {"HVD_ADAM_SITE": "/no/site.sh"}, "", "HVD_ADAM_SITE: /no/site.sh.\n  This file cannot be read"),
        (("c.yaml",), {"HVD_ADAM_LAUNCHER": "mpiexek"}, "", "HVD_ADAM_LAUNCHER: mpiexek.\n  There is no such launcher"),
        (("c.yaml",), {"SLURM_JOB_ID": ""}, "", "this is not a job.\n"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_one_message_and_exit_code_2(
    site: Site, arguments: tuple[str, ...], environment: dict[str, str], site_file: str, message: str
) -> None:
    if site_file:
        (site.tree / "slurm" / "site.sh").write_text(f"{site_file}\n")
    done = site.run(*arguments, **environment)
    assert done.returncode == 2
    assert done.stderr.startswith("hvd-adam: ") and done.stderr.count("\n") == 3
    assert message in done.stderr
