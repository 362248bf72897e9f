"""Every check against a table of environments: what it says, and how loudly."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from hvd_adam.doctor.checks import CHECKS, judge
from hvd_adam.doctor.checks.versions import release, satisfies
from hvd_adam.doctor.environment import (
    Environment,
    Folder,
    Gpus,
    Job,
    Library,
    Machine,
    Mpi,
    Program,
    Requirement,
    Software,
    Storage,
    Timing,
    Trial,
)

MPI_418 = Library("libmpi.so.40", "/venv/lib/libmpi.so.40", "Open MPI 4.1.8")
MPICH = Library("libmpi.so.12", "/opt/mpich/lib/libmpi.so.12", "MPICH 4.2.0")
PLENTY = Folder("/home/me/runs", free=1 << 40, size=1 << 41, kind="ext4")
GOOD = Environment(
    software=Software(
        python="3.11.7",
        requirements=(Requirement("numpy", ">=1.24,<3", "2.4.6"),),
        torch="2.15.0+cu132",
        torch_installed="2.15.0",
        torch_cuda="13.2",
        torch_fused_adam=True,
        torchvision="0.29.2",
        torchvision_wants=">=2.14.0",
        horovod="0.28.1",
        horovod_built_against="2.15.0+cu132",
        horovod_extension="mpi_lib_v2.cpython-311-x86_64-linux-gnu.so",
        horovod_extension_fits=True,
        mpi4py="4.1.2",
        numpy="2.4.6",
    ),
    mpi=Mpi(
        horovod=MPI_418,
        mpi4py=MPI_418,
        mpirun=Program("/venv/bin/mpirun", "Open MPI 4.1.8"),
        mpirun_by_hand="/venv/bin/mpirun",
        horovodrun="/venv/bin/horovodrun",
    ),
    machine=Machine("node1", cores=8, usable_cores=8, interfaces=("eth0", "ib0", "lo"), now=2e9, installed_at=1e9),
    gpus=Gpus(),
    job=Job(),
    storage=Storage(
        runs=PLENTY,
        data=PLENTY,
        temporary=PLENTY,
        shared_memory=replace(PLENTY, path="/dev/shm"),
        software="/venv",
        software_kind="ext4",
        sets={"mnist": True, "cifar10": False},
    ),
)
ALLOCATION = {"job_id": "77", "nodes": 2, "tasks": 4, "cpus_per_task": 2, "srun": "/bin/srun", "pmi": ("pmix", "none")}
H100 = Gpus(("NVIDIA H100",) * 2, "580.95.05")


def variant(**changes):
    """GOOD with some facts changed: room={fact: value}, or room=value."""
    rooms = {
        room: replace(getattr(GOOD, room), **new) if isinstance(new, dict) else new for room, new in changes.items()
    }
    return replace(GOOD, **rooms)


def said(check, env):
    return [finding for finding in judge(env) if finding.check == check]


def test_an_environment_without_trouble_gets_ok_from_every_check():
    assert {finding.level for finding in judge(GOOD)} == {"ok"}


def test_names_of_checks_are_unique():
    assert len({check.__name__ for check in CHECKS}) == len(CHECKS)


SOFTWARE = [
    ("python_is_supported", {"python": "3.9.2"}, "fault", "Python 3.9.2"),
    ("python_is_supported", {"python": "3.10.0"}, "ok", "Python 3.10.0"),
    ("requirements_are_met", {"requirements": (Requirement("click", ">=8.1,<9", None),)}, "fault", "not installed"),
    ("requirements_are_met", {"requirements": (Requirement("click", ">=8.1,<9", "7.0"),)}, "fault", "7.0 installed"),
    ("requirements_are_met", {"requirements": ()}, None, ""),  # run from the tree: nothing recorded
    ("torch_is_whole", {"torch": None}, "fault", "torch is not installed"),
    ("torch_is_whole", {"torch_installed": "2.14.1"}, "fault", "finds torch 2.15.0+cu132, pip recorded 2.14.1"),
    ("torch_is_whole", {"torch_installed": None}, "fault", "pip recorded none"),
    ("torch_is_whole", {"torch_cuda": None}, "ok", "built for CPUs"),
    ("torchvision_fits_torch", {"torchvision_wants": "==2.14.1"}, "fault", "wants torch==2.14.1, but torch 2.15.0"),
    ("torchvision_fits_torch", {"torchvision_wants": "==2.15.0"}, "ok", "fits torch 2.15.0+cu132"),
    ("torchvision_fits_torch", {"torchvision": None}, None, ""),
    ("horovod_fits_torch", {"horovod": None}, "fault", "Horovod is not installed"),
    ("horovod_fits_torch", {"horovod_extension": None}, "fault", "without its part for torch"),
    (
        "horovod_fits_torch",
        {"horovod_built_against": "2.14.1+cu130"},
        "fault",
        "against torch 2.14.1+cu130, but torch 2.15",
    ),
    (
        "horovod_fits_torch",
        {"horovod_built_against": "2.15.0+cpu"},
        "fault",
        "2.15.0+cpu",
    ),  # another build is another ABI
    ("horovod_fits_torch", {"horovod_built_against": None}, "note", "does not say"),
    ("horovod_fits_python", {"horovod_extension_fits": False}, "fault", "this is Python 3.11.7"),
    ("mpi4py_is_here", {"mpi4py": None}, "fault", "mpi4py is not installed"),
    ("fused_kernel", {"torch": "2.3.1"}, "note", "no fused Adam kernel"),
    ("fused_kernel", {"torch_fused_adam": False}, "note", "no fused Adam kernel"),
    ("fused_kernel", {"torch_fused_adam": None}, "note", "does not list"),
]
RANKS = [
    ("mpi4py_is_here", {"mpi4py_trouble": "RuntimeError: cannot load MPI library"}, "fault", "cannot load MPI"),
    ("mpi4py_is_here", {"mpi4py_trouble": "no answer within 1.2 s"}, "note", "took too long"),
    ("horovod_has_mpi", {"horovod": None}, "fault", "not linked with an MPI"),
    ("horovod_has_mpi", {"horovod": replace(MPI_418, path=None)}, "fault", "needs libmpi.so.40"),
    (
        "horovod_has_mpi",
        {"horovod": replace(MPI_418, trouble="OSError: libx.so: no")},
        "fault",
        "does not load: OSError",
    ),
    ("horovod_has_mpi", {"horovod": replace(MPI_418, trouble="no answer within 1.2 s")}, "ok", "Open MPI 4.1.8"),
    ("engines_share_an_mpi", {"mpi4py": MPICH}, "fault", "Open MPI 4.1.8 (/venv/lib/libmpi.so.40), mpi4py takes MPICH"),
    (
        "engines_share_an_mpi",
        {"mpi4py": replace(MPI_418, path="/opt/lib/libmpi.so.40")},
        "note",
        "mpi4py takes Open MPI",
    ),
    ("engines_share_an_mpi", {"mpi4py": None}, None, ""),
    ("mpirun_belongs_to_the_library", {"mpirun": None}, "fault", "no mpirun on PATH"),
    (
        "mpirun_belongs_to_the_library",
        {"mpirun": Program("/m", "Open MPI 4.1.4")},
        "note",
        "4.1.4 (/m), the library is",
    ),
    ("mpirun_belongs_to_the_library", {"mpirun": Program("/m", "Open MPI 5.0.11")}, "fault", "is Open MPI 5.0.11 (/m)"),
    ("mpirun_belongs_to_the_library", {"mpirun": Program("/m", "Hydra 4.2.0")}, "fault", "is Hydra 4.2.0"),
    (
        "mpirun_belongs_to_the_library",
        {"mpirun": Program("/m", "Hydra 4.2.0"), "horovod": MPICH},
        "note",
        "MPICH 4.2.0",
    ),
    ("mpirun_belongs_to_the_library", {"mpirun": Program("/m", None)}, "note", "is unknown"),
    ("mpirun_by_hand", {"mpirun_by_hand": ""}, "note", "not on PATH in this shell"),
    ("mpirun_by_hand", {"mpirun_by_hand": "/usr/bin/mpirun"}, "note", "a bare mpirun is /usr/bin/mpirun"),
    ("launchers_know_this_mpi", {"mpirun": Program("/m", "Hydra 4.2.0")}, "note", "mpirun is Hydra"),
    (
        "horovodrun_and_open_mpi_5",
        {"mpirun": Program("/m", "Open MPI 5.0.11")},
        "note",
        "does not understand Open MPI 5",
    ),
    ("horovodrun_and_open_mpi_5", {"horovodrun": None}, None, ""),
]
HOST = [
    ("running_as_root", {"root": True}, "note", "OMPI_ALLOW_RUN_AS_ROOT is not set"),
    (
        "running_as_root",
        {"root": True, "variables": {"OMPI_ALLOW_RUN_AS_ROOT": "1"}},
        "note",
        "root",
    ),  # both are needed
    ("running_as_root", {}, None, ""),
    ("cores", {"usable_cores": 1}, "note", "1 of 8 cores"),
    ("cores", {"usable_cores": 1, "cores": 1}, "ok", "1 cores"),
    ("cores", {"usable_cores": 4}, "ok", "4 of 8 cores"),
    ("cores", {"quota": 2.0}, "note", "allows 2 cores' worth of time, and shows 8"),
    ("cores", {"quota": 16.0}, "ok", "8 cores"),
    ("threads", {"variables": {"OMP_NUM_THREADS": "16"}}, "note", "OMP_NUM_THREADS=16 on 8 cores"),
    ("threads", {"variables": {"OMP_NUM_THREADS": "4"}}, "ok", "OMP_NUM_THREADS=4"),
    ("threads", {"variables": {"OMP_NUM_THREADS": "many"}}, "fault", "OMP_NUM_THREADS=many"),
    ("threads", {"variables": {"OMP_NUM_THREADS": "0"}}, "fault", "OMP_NUM_THREADS=0"),
    ("threads", {"variables": {"OMP_PROC_BIND": "close"}}, "note", "OMP_PROC_BIND=close"),
    ("threads", {"variables": {"OMP_PROC_BIND": "FALSE"}}, "ok", "not set"),
    ("threads", {"variables": {"GOMP_CPU_AFFINITY": "0-1"}}, "note", "GOMP_CPU_AFFINITY=0-1"),
    ("settings", {"variables": {"OMPI_MCA_mpi_yield_when_idle": "0"}}, "note", "OMPI_MCA_mpi_yield_when_idle=0"),
    ("settings", {"variables": {"OMPI_MCA_mpi_yield_when_idle": "1"}}, "ok", "left to the launchers"),
    ("settings", {"variables": {"MALLOC_MMAP_THRESHOLD_": "131072"}}, "note", "MALLOC_MMAP_THRESHOLD_=131072"),
    (
        "interfaces",
        {"variables": {"OMPI_MCA_btl_tcp_if_include": "ib1"}},
        "fault",
        "names ib1, and node1 has eth0, ib0, lo",
    ),
    ("interfaces", {"variables": {"OMPI_MCA_btl_tcp_if_include": "ib0,eth0"}}, "ok", "are there"),
    ("interfaces", {"variables": {"OMPI_MCA_btl_tcp_if_include": "ib"}}, "fault", "names ib"),  # exact names only
    ("interfaces", {"variables": {"NCCL_SOCKET_IFNAME": "ib"}}, "ok", "are there"),  # NCCL takes prefixes
    ("interfaces", {"variables": {"NCCL_SOCKET_IFNAME": "=ib"}}, "fault", "names ib"),  # unless it is told not to
    ("interfaces", {"variables": {"OMPI_MCA_btl_tcp_if_include": "10.0.0.0/8"}}, None, ""),
    ("host_address", {"address": "127.0.1.1"}, None, ""),  # alone, nobody asks
    ("clock", {"now": 1e9 - 3600.0}, "note", "3600 s behind"),
    ("clock", {}, None, ""),
]
STORAGE = [
    ("runs_are_writable", {"runs": Folder("/r", "Read-only file system")}, "fault", "/r cannot be written: Read-only"),
    ("runs_are_writable", {"runs": replace(PLENTY, free=100 << 20)}, "note", "100 MiB are free"),
    (
        "temporary_is_writable",
        {"temporary": Folder("/t", "No such file or directory")},
        "fault",
        "/t cannot be written",
    ),
    ("shared_memory_is_large", {"shared_memory": replace(PLENTY, size=64 << 20)}, "note", "holds 64 MiB"),
    ("shared_memory_is_large", {"shared_memory": Folder("/dev/shm", "Permission denied")}, "note", "Permission denied"),
    ("data_is_here", {}, "ok", "digits is bundled, mnist fetched; not fetched: cifar10 (hvd-adam data get NAME)"),
    ("data_is_here", {"data": Folder("/d", "Permission denied")}, "note", "/d cannot be written"),
    ("data_is_here", {"data": Folder("/d", "Permission denied"), "sets": {"mnist": True}}, "ok", "mnist fetched"),
    ("clock", {"runs": replace(PLENTY, clock_ahead=30.0)}, "note", "+30 s from this host's clock"),
]
TABLE = [
    (check, {room: change}, level, text)
    for room, rows in (("software", SOFTWARE), ("mpi", RANKS), ("machine", HOST), ("storage", STORAGE))
    for check, change, level, text in rows
] + [
    ("gpus", {"gpus": H100}, "ok", "2 x NVIDIA H100, driver 580.95.05"),
    ("gpus", {"gpus": H100, "software": {"torch_cuda": None}}, "note", "torch is built for CPUs"),
    ("gpus", {"gpus": replace(H100, driver="550.54.14")}, "fault", "550.54.14, and torch is built for CUDA 13.2"),
    ("gpus", {"gpus": H100, "machine": {"variables": {"CUDA_VISIBLE_DEVICES": ""}}}, "note", "hides them"),
    ("nccl", {"gpus": H100}, "note", "without NCCL"),
    ("nccl", {"gpus": H100, "mpi": {"horovod_nccl": True}}, "ok", "with NCCL"),
    ("nccl", {}, None, ""),
    ("mpirun_belongs_to_the_library", {"mpi": {"mpirun": None}, "job": ALLOCATION}, "note", "no mpirun on PATH"),
    ("srun_speaks_pmi", {}, None, ""),
    ("srun_speaks_pmi", {"job": ALLOCATION}, "ok", "launchers/srun says --mpi=pmix; a bare srun needs the same flag"),
    ("srun_speaks_pmi", {"job": {**ALLOCATION, "pmi": ("pmi2", "none")}}, "note", "Open MPI 4.1.8 needs pmix"),
    ("srun_speaks_pmi", {"job": {**ALLOCATION, "pmi": ("pmix_v4",)}}, "note", "=pmix, and srun offers pmix_v4"),
    ("srun_speaks_pmi", {"job": {**ALLOCATION, "pmi": None}}, "note", "gave no answer"),
    ("step_has_pmi", {"job": {**ALLOCATION, "step_tasks": 4}}, "fault", "started 4 tasks without PMI"),
    ("step_has_pmi", {"job": {**ALLOCATION, "step_tasks": 1}}, None, ""),
    ("step_has_pmi", {"job": {"step_tasks": 4}, "machine": {"variables": {"PMIX_RANK": "0"}}}, "ok", "one job"),
    ("step_has_pmi", {"job": {"step_tasks": 4}, "machine": {"variables": {"PMI_RANK": "0"}}}, "note", "PMI-1 or PMI-2"),
    ("allocation", {}, None, ""),
    ("allocation", {"job": ALLOCATION}, "ok", "job 77 gives 2 nodes, 4 tasks, 2 cpus a task: launchers/mpirun -n 4"),
    ("allocation", {"job": {**ALLOCATION, "tasks_per_node": "4,1(x2)"}}, "note", "packed as 4,1(x2)"),
    ("allocation", {"job": {**ALLOCATION, "cpus_per_task": 16}}, "fault", "16 cpus a task, and this process may use 8"),
    ("nodes_share_the_files", {"job": ALLOCATION}, "note", "/venv (ext4)"),
    ("nodes_share_the_files", {}, None, ""),
    ("nodes_share_the_files",
     {"job": ALLOCATION, "storage": {"software_kind": "nfs4", "runs": replace(PLENTY, kind="lustre")}},
     "ok", "nfs4, lustre"),
    ("host_address", {"job": ALLOCATION, "machine": {"address": "127.0.1.1"}}, "note", "node1 resolves to 127.0.1.1"),
    ("host_address", {"job": ALLOCATION, "machine": {"address": None}}, "note", "no address"),
    ("host_address", {"job": ALLOCATION, "machine": {"address": "10.0.0.1"}}, "ok", "10.0.0.1"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "changes", "level", "text"), TABLE)
def test_a_check_says_what_its_environment_deserves(check, changes, level, text):
    findings = said(check, variant(**changes))
    assert [finding.level for finding in findings] == ([level] if level else [])
    assert all(text in finding.what for finding in findings)


@pytest.mark.parametrize(("check", "changes", "level", "text"), [row for row in TABLE if row[2] not in ("ok", None)])
def test_whatever_is_not_ok_has_a_reason_and_a_cure(check, changes, level, text):
    for finding in said(check, variant(**changes)):
        assert finding.why and finding.cure
        assert not finding.why.endswith(".")  # the printer closes sentences; a command is left as it is


def test_every_check_has_a_row_in_the_table():
    of_trials = {"trials", "fused_at_run_time"}
    assert {check.__name__ for check in CHECKS} - of_trials == {row[0] for row in TABLE}


def test_nothing_installed_at_all_is_judged_without_an_error():
    empty = replace(GOOD, software=Software(python="3.11.7"), mpi=Mpi(), machine=Machine("node1"))
    assert {finding.check for finding in judge(empty) if finding.level == "fault"} == {
        "torch_is_whole",
        "horovod_fits_torch",
        "mpi4py_is_here",
        "mpirun_belongs_to_the_library",
    }


GOOD_TRIAL = Trial(
    engine="horovod",
    command="launchers/mpirun -n 2 -- python -m hvd_adam.doctor.two_ranks horovod",
    seconds=5.0,
    code=0,
    reached="parted",
    size=2,
    hosts=("node1", "node2"),
    right=True,
    small=Timing(200, 2.1e-3, 2.0e-3, 2.2e-3),
    large=Timing(20, 4e-4, 3e-4, 5e-4),
    fused={"cpu float32": True},
)


@pytest.mark.parametrize(
    ("changes", "level", "what", "cure"),
    [
        ({}, "ok", "2 ranks on node1 and node2, allreduce of 4 B in 2.1 ms (median of 200, middle half 2 to 2.2)", ""),
        ({}, "ok", "of 4 MB in 400 us (median of 20, middle half 300 to 500)", ""),
        ({"small": Timing(200, 0.9, 0.8, 1.0)}, "note", "4 B in 900 ms", "launchers/mpirun"),
        ({"large": Timing(20, 0.9, 0.8, 1.0)}, "note", "4 MB in 900 ms", "top"),
        ({"size": 1}, "fault", "2 ranks were started, and they saw a job of 1", "make setup"),
        ({"right": False}, "fault", "the sum over 2 ranks is wrong", "make setup"),
        ({"code": None, "reached": "nothing"}, "fault", "2 ranks hung", "-- hostname"),
        ({"code": None, "reached": "started"}, "fault", "2 ranks hung", "import torch"),
        ({"code": None, "reached": "imported"}, "fault", "2 ranks hung", "btl_tcp_if_include"),
        ({"code": None, "reached": "connected"}, "fault", "2 ranks hung, and were ended after 5 s", "self,tcp"),
        ({"code": None, "reached": "timed"}, "fault", "2 ranks hung", "make setup"),
        (
            {"code": 1, "lines": ("ImportError: x.so: undefined symbol: _ZN3c10",)},
            "fault",
            "| ImportError",
            "make setup",
        ),
        ({"code": 1, "lines": ("At least one pair is unable to reach each other",)}, "fault", "code 1", "OMPI_MCA_btl"),
        ({"code": 1, "lines": ("There are not enough slots available",)}, "fault", "code 1", "two tasks"),
        ({"code": 7, "lines": ("something new",)}, "fault", "exit code 7", "by hand: launchers/mpirun -n 2"),
    ],
)
def test_a_trial_is_judged_by_how_far_its_ranks_came(changes, level, what, cure):
    (finding,) = said("trials", replace(GOOD, trials=(replace(GOOD_TRIAL, **changes),)))
    assert finding.level == level
    assert what in finding.what
    assert cure in finding.cure


@pytest.mark.parametrize(
    ("fused", "level", "text"),
    [
        ({"cpu float32": True, "cpu float64": True}, "ok", "runs the fused kernel for cpu float32, cpu float64"),
        (
            {"cpu float32": True, "cpu bfloat16": False},
            "note",
            "foreach for cpu bfloat16, the fused kernel for cpu float32",
        ),
    ],
)
def test_the_kernel_in_use_is_named_once_for_all_engines(fused, level, text):
    trials = (replace(GOOD_TRIAL, fused=fused), replace(GOOD_TRIAL, engine="mpi", fused=fused))
    (finding,) = said("fused_at_run_time", replace(GOOD, trials=trials))
    assert (finding.level, text in finding.what) == (level, True)


@pytest.mark.parametrize(
    ("version", "bounds", "holds"),
    [
        ("8.1", ">=8.1,<9", True),
        ("8.1.0", "==8.1", True),  # missing places count as zero
        ("9", ">=8.1,<9", False),
        ("9.0.0", "<9", False),
        ("10.2", ">=9", True),  # numbers, not letters
        ("2.15.0+cu132", "==2.15.0", True),  # a build does not matter to a bound
        ("2.15.1", "==2.15.*", True),
        ("2.16.0", "==2.15.*", False),
        ("2.16.0", "!=2.15.*", True),
        ("1.4.5", "~=1.4.2", True),
        ("1.5.0", "~=1.4.2", False),
        ("1.0", "", True),
        ("1.0", "@ file:///somewhere", True),
    ],
)
def test_bounds_are_read_as_pip_reads_them(version, bounds, holds):
    assert satisfies(version, bounds) is holds


def test_release_takes_the_numbers_only():
    assert [release(text) for text in ("2.15.0+cu132", "4", "unknown")] == [(2, 15, 0), (4,), ()]


def test_facts_are_frozen():
    assert all(
        type(getattr(GOOD, field.name)).__dataclass_params__.frozen for field in fields(GOOD) if field.name != "trials"
    )
