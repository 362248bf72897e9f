"""The launchers' command lines, as --dry-run prints them, and the environment that they give to the ranks.

Programs that would start ranks are stubs: shell scripts that print what they were given.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCHERS = Path(__file__).resolve().parents[2] / "launchers"
OPEN_MPI = "mpirun (Open MPI) 4.1.8"
MPICH = "HYDRA build details:\n    Version: 4.1"
INTEL = "Intel(R) MPI Library for Linux* OS, Version 2021.9"


class Bench:
    """A copy of the launchers away from any .venv, with stubs on PATH."""

    def __init__(self, folder: Path):
        self.folder, self.launchers, self.bin = folder, folder / "tree/launchers", folder / "bin"
        shutil.copytree(LAUNCHERS, self.launchers)
        self.bin.mkdir()
        self.stub("nproc", 'printf "%s\\n" "${OMP_NUM_THREADS:-8}"')  # as the real one, it obeys OMP_NUM_THREADS
        self.stub("id", "echo 1000")

    def stub(self, name: str, body: str, where: Path | None = None) -> None:
        target = (where or self.bin) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"#!/bin/sh\n{body}\n")
        target.chmod(0o755)

    def mpi(self, version: str) -> None:
        self.stub("mpirun", f"if [ \"$1\" = --version ]; then echo '{version}'; else env; fi")

    def __call__(self, name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.folder)}
        command = [str(self.launchers / name), *arguments]
        return subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True)

    def line(self, name: str, *arguments: str, **environment: str) -> str:
        done = self(name, *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done.stderr.strip()

    def environment(self, *arguments: str, **environment: str) -> dict[str, str]:
        """What the stub mpirun, which prints it, was started with."""
        done = self("mpirun", *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


HOSTS = ("-H", "n1:4,n2:4")
TRAIN = ("--", "hvd-adam", "train", "c.yaml")
BINDING = "'--binding-args=--bind-to none --map-by slot'"
FORWARDED = "-x PATH -x OMP_NUM_THREADS -x MALLOC_MMAP_THRESHOLD_ -x MALLOC_TRIM_THRESHOLD_"


@pytest.mark.parametrize(
    ("name", "mpi", "arguments", "environment", "golden"),
    [
        ("local", OPEN_MPI, ("-n", "1"), {}, "+ hvd-adam train c.yaml"),
        ("mpirun", OPEN_MPI, ("-n", "2"), {}, "+ mpirun -np 2 --bind-to none --oversubscribe hvd-adam train c.yaml"),
        # a scheduler's allocation says how many slots there are
        ("mpirun", OPEN_MPI, ("-n", "2"), {"SLURM_JOB_ID": "7"}, "+ mpirun -np 2 --bind-to none hvd-adam train c.yaml"),
        (
            "mpirun", OPEN_MPI, ("-n", "8", *HOSTS), {},
            f"+ mpirun -np 8 --bind-to none -H n1:4,n2:4 {FORWARDED} hvd-adam train c.yaml",
        ),
        (
            "mpirun", OPEN_MPI, ("-n", "8", *HOSTS), {"HVD_ADAM_SUMS": "direct", "HOROVOD_CYCLE_TIME": "5"},
            f"+ mpirun -np 8 --bind-to none -H n1:4,n2:4 {FORWARDED} -x HOROVOD_CYCLE_TIME -x HVD_ADAM_SUMS"
            " hvd-adam train c.yaml",
        ),
        (  # what ranks read: their data, their users' tasks
            "mpirun", OPEN_MPI, ("-n", "8", *HOSTS), {"HVD_ADAM_DATA": "/d", "PYTHONPATH": "/p"},
            f"+ mpirun -np 8 --bind-to none -H n1:4,n2:4 {FORWARDED} -x PYTHONPATH -x HVD_ADAM_DATA"
            " hvd-adam train c.yaml",
        ),
        (
            "mpirun", MPICH, ("-n", "8", *HOSTS), {},
            "+ mpirun -np 8 -bind-to none -hosts n1:4,n2:4 hvd-adam train c.yaml",
        ),
        ("mpirun", INTEL, ("-n", "8", *HOSTS), {}, "+ mpirun -np 8 -hosts n1,n2 -ppn 4 hvd-adam train c.yaml"),
        (
            "horovodrun", OPEN_MPI, ("-n", "2"), {},
            f"+ horovodrun --mpi {BINDING} -np 2 -H localhost:2 hvd-adam train c.yaml",
        ),
        (
            "horovodrun", OPEN_MPI, ("-n", "8", *HOSTS), {},
            f"+ horovodrun --mpi {BINDING} -np 8 -H n1:4,n2:4 hvd-adam train c.yaml",
        ),
        (
            "srun", OPEN_MPI, ("-n", "8"), {},
            "+ srun --mpi=pmix --kill-on-bad-exit=1 --cpu-bind=none --ntasks=8 hvd-adam train c.yaml",
        ),
        (
            "srun", OPEN_MPI, ("-n", "8", *HOSTS), {"SLURM_CPUS_PER_TASK": "3", "HVD_ADAM_PMI": "pmi2"},
            "+ srun --mpi=pmi2 --kill-on-bad-exit=1 --cpu-bind=none --ntasks=8"
            " --cpus-per-task=3 --nodelist=n1,n2 hvd-adam train c.yaml",
        ),
    ],
)  # fmt: skip
def test_the_line_is_the_one_that_the_launcher_s_program_understands(bench, name, mpi, arguments, environment, golden):
    bench.mpi(mpi)
    assert bench.line(name, *arguments, "--dry-run", *TRAIN, **environment) == golden


def test_words_with_blanks_and_quotes_are_printed_as_a_shell_takes_them(bench):
    shown = bench.line("local", "-n", "1", "--dry-run", "--", "echo", "a b", "it's", "")
    assert (
        subprocess.run(["sh", "-c", shown.removeprefix("+ ")], capture_output=True, text=True).stdout == "a b it's \n"
    )


def test_the_printed_line_is_also_what_runs(bench):
    bench.mpi(OPEN_MPI)
    done = bench("mpirun", "-n", "2", "--", "train")
    assert done.stderr == "+ mpirun -np 2 --bind-to none --oversubscribe train\n"
    assert "OMP_NUM_THREADS=4" in done.stdout.splitlines()


@pytest.mark.parametrize("name", ["local", "mpirun", "horovodrun"])
def test_a_log_on_a_full_disk_keeps_no_rank_from_starting(bench, name):
    bench.mpi(OPEN_MPI)
    for program in ("hvd-adam", "horovodrun"):
        bench.stub(program, "echo started")
    command = f"'{bench.launchers}/{name}' -n 1 -- hvd-adam train c.yaml 2>/dev/full"
    environment = {"PATH": f"{bench.bin}:/usr/bin:/bin", "HOME": str(bench.folder)}
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "threads"),
    [
        (("-n", "2"), {}, "4"),  # 8 cores, 2 ranks
        (("-n", "3"), {}, "2"),
        (("-n", "16"), {}, "1"),  # more ranks than cores: never 0
        (("-n", "8", "-H", "n1:4,n2:4"), {}, "2"),  # 4 of them here
        (("-n", "2"), {"OMP_NUM_THREADS": "3"}, "3"),  # what the user has set stays
        (("-n", "2"), {"SLURM_CPUS_PER_TASK": "6"}, "6"),
    ],
)
def test_ranks_share_the_cores(bench, arguments, environment, threads):
    bench.mpi(OPEN_MPI)
    assert bench.environment(*arguments, "--", "x", **environment)["OMP_NUM_THREADS"] == threads


@pytest.mark.parametrize(
    "name",
    [
        "OMP_NUM_THREADS",
        "OMPI_MCA_mpi_yield_when_idle",
        "MALLOC_MMAP_THRESHOLD_",
        "MALLOC_TRIM_THRESHOLD_",
    ],
)
def test_nothing_overrides_what_the_user_has_set(bench, name):
    bench.mpi(OPEN_MPI)
    assert bench.environment("-n", "2", "--", "x")[name]
    assert bench.environment("-n", "2", "--", "x", **{name: "0"})[name] == "0"
    assert bench.environment("-n", "2", "--", "x", **{name: ""})[name] == ""


@pytest.mark.parametrize(
    ("arguments", "environment", "left_out"),
    [
        (("-n", "2"), {}, "^ofi"),
        (("-n", "2"), {"OMPI_MCA_btl": "self,tcp"}, "self,tcp"),
        (("-n", "2"), {"HVD_ADAM_PLAIN": "1"}, None),
        (("-n", "2", "-H", "n1,n2"), {}, None),
        (("-n", "2"), {"SLURM_JOB_ID": "7"}, None),
    ],
)
def test_the_slow_way_is_left_out_on_one_machine_by_the_tree_s_own_mpi(bench, arguments, environment, left_out):
    bench.mpi(OPEN_MPI)
    assert bench.environment(*arguments, "--", "x", **environment).get("OMPI_MCA_btl") == environment.get(
        "OMPI_MCA_btl"
    )
    own = bench.folder / "tree/.venv/bin"
    own.mkdir(parents=True)
    shutil.copy(bench.bin / "mpirun", own / "mpirun")
    assert bench.environment(*arguments, "--", "x", **environment).get("OMPI_MCA_btl") == left_out


@pytest.mark.parametrize(("user", "is_set"), [("0", True), ("1000", False)])
def test_root_is_allowed_where_the_user_is_root(bench, user, is_set):
    bench.mpi(OPEN_MPI)
    bench.stub("id", f"echo {user}")
    got = bench.environment("-n", "2", "--", "x")
    assert ("OMPI_ALLOW_RUN_AS_ROOT" in got and "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM" in got) is is_set


def test_the_tree_s_environment_comes_first_on_path(bench):
    bench.stub("hvd-adam", "echo from .venv", where=bench.folder / "tree/.venv/bin")
    bench.stub("hvd-adam", "echo from elsewhere")
    assert bench("local", "-n", "1", "--", "hvd-adam").stdout == "from .venv\n"


def test_the_tree_is_found_from_a_shell_that_has_cdpath(bench):
    bench.stub("hvd-adam", "echo from .venv", where=bench.folder / "tree/.venv/bin")
    command = ["tree/launchers/local", "-n", "1", "--", "hvd-adam"]
    environment = {"PATH": f"{bench.bin}:/usr/bin:/bin", "CDPATH": "."}
    done = subprocess.run(command, cwd=bench.folder, env=environment, capture_output=True, text=True)
    assert done.stdout == "from .venv\n", done.stderr


def test_make_takes_a_name_from_its_command_line_alone(tmp_path):
    """Some machines have a variable NAME that says theirs."""
    tree = Path(__file__).resolve().parents[2]
    command = ["make", "--dry-run", "--always-make", "-f", str(tree / "Makefile"), "data"]
    for words, name in (([], "mnist"), (["NAME=cifar10"], "cifar10")):
        environment = {**os.environ, "NAME": "DESKTOP-7"}
        done = subprocess.run([*command, *words], cwd=tree, env=environment, capture_output=True, text=True)
        assert f"hvd-adam data get {name}" in done.stdout, done.stderr


def test_an_installed_launcher_finds_the_environment_that_it_is_in(bench, tmp_path):
    shutil.copytree(LAUNCHERS, tmp_path / "env/share/hvd_adam/launchers")
    bench.launchers = tmp_path / "env/share/hvd_adam/launchers"
    bench.stub("hvd-adam", "echo installed", where=tmp_path / "env/bin")
    assert bench("local", "-n", "1", "--", "hvd-adam").stdout == "installed\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--", "x"), "say how many ranks: -n RANKS"),
        (("-n", "0", "--", "x"), "-n needs a whole number of ranks above zero, not '0'"),
        (("-n", "two", "--", "x"), "-n needs a whole number of ranks above zero, not 'two'"),
        (("-n",), "-n needs a number"),
        (("-n", "2"), "there is no command after --"),
        (("-n", "2", "x"), "'x' is not known; the command comes after --"),
        (("-n", "2", "-H", "n1:x", "--", "x"), "-H wants host:slots,..., not 'n1:x'"),
    ],
)
@pytest.mark.parametrize("name", ["local", "mpirun", "horovodrun", "srun"])
def test_a_wrong_call_is_one_message_and_exit_code_2(bench, name, arguments, message):
    done = bench(name, *arguments)
    assert done.returncode == 2
    assert re.fullmatch(rf"usage: \S+/{name} -n RANKS .*\n  {re.escape(message)}\n", done.stderr)


def test_local_refuses_more_than_one_rank(bench):
    done = bench("local", "-n", "2", "--", "x")
    assert (done.returncode, done.stderr.splitlines()[1]) == (2, "  local starts one rank; for 2 use launchers/mpirun")


@pytest.mark.parametrize(
    ("launcher", "program"), [("mpirun", "mpirun"), ("horovodrun", "horovodrun"), ("srun", "srun")]
)
def test_a_missing_program_is_named_with_its_cure(bench, launcher, program):
    for needed in ("sh", "env", "dirname", "sed", "cat"):
        os.symlink(shutil.which(needed) or "", bench.bin / needed)
    done = bench(launcher, "-n", "2", "--", "x", PATH=str(bench.bin))
    assert done.returncode == 1
    assert f"there is no {program} on PATH." in done.stderr
    assert "make setup" in done.stderr


def test_each_launcher_is_installed_and_read_by_shellcheck() -> None:
    tree = LAUNCHERS.parent
    names = {f"launchers/{path.name}" for path in LAUNCHERS.iterdir()}
    assert names == set(re.findall(r"^ +(launchers/\S+)$", (tree / "setup.cfg").read_text(), re.M))
    assert names <= set(re.findall(r"launchers/[\w.]+", (tree / "Makefile").read_text()))
