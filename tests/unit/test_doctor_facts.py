"""Facts read from stub programs on PATH and stub files in place of /proc, /sys and site-packages."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sysconfig
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hvd_adam.doctor.elf import find_library, read_dynamic
from hvd_adam.doctor.facts import Places, gather
from hvd_adam.doctor.facts.machine import gpus, job, machine
from hvd_adam.doctor.facts.mpi import mpi_name
from hvd_adam.doctor.facts.places import working_folder
from hvd_adam.doctor.facts.software import software
from hvd_adam.doctor.facts.storage import folder
from hvd_adam.doctor.probes import Answer, ask

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
FUSED = """
def _fused_adam_(
    self: list[Tensor], *, lr: _float, beta1: _float, beta2: _float, weight_decay: _float, eps: _float,
    amsgrad: _bool, maximize: _bool, grad_scale: Tensor | None = None, found_inf: Tensor | None = None,
) -> None: ...
"""


def write(path: Path, text: str | bytes, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def stub(tmp_path: Path, name: str, script: str) -> None:
    write(tmp_path / "bin" / name, f"#!/bin/sh\n{script}\n", 0o755)


def distribution(tmp_path: Path, name: str, version: str, *requires: str) -> None:
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    write(tmp_path / "packages" / f"{name}-{version}.dist-info" / "METADATA", "\n".join(lines) + "\n")


def elf(needed: list[str], runpath: str = "", rpath: str = "", symbols: tuple[str, ...] = ()) -> bytes:
    """A shared object with nothing but a dynamic section, written down from the ELF-64 specification."""
    names, offsets = b"\0", {}
    for text in [*needed, runpath, rpath, *symbols]:
        offsets[text] = len(names)
        names += text.encode() + b"\0"
    base = 0x1000  # addresses differ from offsets in real files
    tags = [(1, offsets[name]) for name in needed] + [(5, base + 176), (10, len(names))]
    tags += [(29, offsets[runpath])] * bool(runpath) + [(15, offsets[rpath])] * bool(rpath) + [(0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *tag) for tag in tags)
    at, size = 176 + len(names), 176 + len(names) + len(dynamic)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return (
        head
        + load
        + struct.pack("<IIQQQQQQ", 2, 6, at, base + at, base + at, len(dynamic), len(dynamic), 8)
        + names
        + dynamic
    )


@pytest.fixture
def places(tmp_path):
    """An empty machine: nothing installed, no program on PATH."""
    for name in ("bin", "packages", "tree", "work", "root/dev/shm", "data"):
        (tmp_path / name).mkdir(parents=True)
    return Places(
        environ={"PATH": str(tmp_path / "bin"), "HVD_ADAM_DATA": str(tmp_path / "data"), "TMPDIR": str(tmp_path)},
        root=tmp_path / "root",
        packages=(str(tmp_path / "packages"),),
        tree=tmp_path / "tree",
        folder=tmp_path / "work",
        prefix=tmp_path / "prefix",
    )


def with_variables(places: Places, **variables: str) -> Places:
    return replace(places, environ={**places.environ, **variables})


def test_an_empty_machine_is_gathered_without_an_error(places):
    env = gather(places)
    assert (env.software.torch, env.software.horovod, env.mpi.horovod, env.mpi.mpirun) == (None, None, None, None)
    assert (env.gpus.names, env.job.job_id, env.job.srun, env.storage.runs.trouble) == ((), None, None, None)


def test_versions_come_from_the_packages_own_files(places, tmp_path):
    packages = tmp_path / "packages"
    distribution(tmp_path, "torch", "2.15.0")
    distribution(tmp_path, "torchvision", "0.29.2", "numpy", "torch (>=2.14.0)", "scipy ; extra == 'scipy'")
    distribution(tmp_path, "horovod", "0.28.1")
    distribution(tmp_path, "hvd_adam", "0.1.0", "click<9,>=8.1", "torchvision", "horovod==0.28.1; extra == 'mpi'")
    write(
        packages / "torch/version.py",
        "from typing import Optional\n__version__ = '2.15.0+cu132'\ncuda: Optional[str] = '13.2'\n",
    )
    write(packages / "torch/_C/_VariableFunctions.pyi", FUSED)
    write(packages / "horovod/metadata.json", '{"pytorch": "2.14.1+cpu", "dummy": "none"}')
    write(packages / "horovod/torch/__init__.py", "")
    write(packages / f"horovod/torch/mpi_lib_v2{SUFFIX}", elf([]))
    found = software(places)
    assert (found.torch, found.torch_installed, found.torch_cuda) == ("2.15.0+cu132", "2.15.0", "13.2")
    assert (found.torchvision, found.torchvision_wants) == ("0.29.2", ">=2.14.0")
    assert (found.horovod, found.horovod_built_against, found.horovod_extension_fits) == ("0.28.1", "2.14.1+cpu", True)
    assert found.torch_fused_adam is True
    assert [(r.name, r.bounds, r.installed) for r in found.requirements] == [
        ("click", "<9,>=8.1", None),
        ("torchvision", "", "0.29.2"),
    ]


@pytest.mark.parametrize(
    ("stubbed", "offered"),
    [
        (FUSED, True),
        (FUSED.replace("found_inf: Tensor | None = None,", ""), False),  # an argument that we pass is gone
        (FUSED.replace("lr: _float", "lr: Tensor"), False),
        (FUSED.replace("lr: _float", "lr: Tensor") + FUSED, True),  # one of two overloads is enough
        ("def _fused_sgd_(self) -> None: ...\n", False),
    ],
)
def test_the_fused_kernel_counts_only_with_the_arguments_that_are_passed(places, tmp_path, stubbed, offered):
    write(tmp_path / "packages/torch/_C/_VariableFunctions.pyi", stubbed)
    assert software(places).torch_fused_adam is offered


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"pytorch": null}'])
def test_a_record_of_horovods_that_cannot_be_read_counts_as_none(places, tmp_path, text):
    write(tmp_path / "packages/horovod/metadata.json", text)
    assert software(places).horovod_built_against is None


def test_an_extension_for_another_python_is_seen(places, tmp_path):
    write(tmp_path / "packages/horovod/torch/__init__.py", "")
    write(tmp_path / "packages/horovod/torch/mpi_lib_v2.cpython-27-x86_64-linux-gnu.so", elf([]))
    assert software(places).horovod_extension_fits is False


def test_horovods_mpi_and_nccl_are_read_from_its_compiled_part(places, tmp_path):
    inner = tmp_path / "packages/horovod/torch"
    write(inner / "__init__.py", "")
    content = elf(["libc.so.6", "libmpi.so.40"], runpath="/nowhere:$ORIGIN/../lib", symbols=("ncclAllReduce",))
    write(inner / f"mpi_lib_v2{SUFFIX}", content)
    library = write(tmp_path / "packages/horovod/lib/libmpi.so.40", b"")
    found = gather(places).mpi
    assert (found.horovod.soname, found.horovod.path) == ("libmpi.so.40", str(library))
    assert found.horovod.version is None
    assert "file too short" in found.horovod.trouble  # what the loader says of an empty file
    assert found.horovod_nccl is True


def test_a_damaged_extension_is_no_error(places, tmp_path):
    write(tmp_path / "packages/horovod/torch/__init__.py", "")
    write(tmp_path / f"packages/horovod/torch/mpi_lib_v2{SUFFIX}", b"cut off")
    assert gather(places).mpi.horovod is None


@pytest.mark.parametrize(
    ("elf_paths", "chosen", "winner"),
    [
        ({"runpath": "{run}"}, "", "run"),
        ({"runpath": "{run}"}, "{environ}", "environ"),  # LD_LIBRARY_PATH goes before RUNPATH
        ({"rpath": "{run}"}, "{environ}", "run"),  # and after RPATH
        ({"rpath": "{none}", "runpath": "{run}"}, "", "run"),  # RPATH does not count beside RUNPATH
        ({}, "", None),
    ],
)
def test_a_library_is_found_in_the_loaders_order(tmp_path, elf_paths, chosen, winner):
    folders = {name: str(tmp_path / name) for name in ("run", "environ", "none")}
    for name in ("run", "environ", "none"):
        write(tmp_path / name / "libmpi_of_this_test.so.40", b"")
    extension = elf(["libmpi_of_this_test.so.40"], **{key: value.format(**folders) for key, value in elf_paths.items()})
    environ = {"LD_LIBRARY_PATH": chosen.format(**folders)}
    found = find_library("libmpi_of_this_test.so.40", write(tmp_path / "x.so", extension), environ)
    assert (found.parent.name if found else None) == winner


@pytest.mark.skipif(not shutil.which("readelf"), reason="readelf is not installed")
def test_a_real_extension_reads_as_readelf_reads_it():
    import numpy.linalg._umath_linalg as extension

    shown = subprocess.run(["readelf", "-d", extension.__file__], capture_output=True, text=True).stdout
    truth = [line.rpartition("[")[2].rstrip("]") for line in shown.splitlines() if "(NEEDED)" in line]
    assert truth and list(read_dynamic(Path(extension.__file__)).needed) == truth


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF\x01" + bytes(80), b"\x7fELF\x02\x01" + bytes(80)])
def test_what_is_no_shared_object_is_refused(tmp_path, content):
    with pytest.raises(ValueError):
        read_dynamic(write(tmp_path / "x.so", content))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Open MPI v4.1.8, package: Open MPI user@localhost Distribution, ident: 4.1.8", "Open MPI 4.1.8"),
        ("Open MPI v5.0.11, package: ...", "Open MPI 5.0.11"),
        ("mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/", "Open MPI 4.1.4"),
        ("mpirun (Open MPI) 5.0.11rc1", "Open MPI 5.0.11rc1"),
        ("mpirun (IBM Spectrum MPI) 10.04.00.03", "Spectrum MPI 10.04.00.03"),
        ("HYDRA build details:\n    Version:                                 4.1.2", "Hydra 4.1.2"),
        ("MPICH Version:      4.2.0\nMPICH Release date: ...", "MPICH 4.2.0"),
        ("CRAY MPICH version 8.1.28.15 (ANL base 3.4a2)", "Cray MPICH 8.1.28.15"),
        ("Intel(R) MPI Library 2021.11 for Linux* OS\n", "Intel MPI 2021.11"),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.11 Build 20231005", "Intel MPI 2021.11"),
        ("MVAPICH2 Version      :\t2.3.7", "MVAPICH 2.3.7"),
        ("something else", None),
    ],
)
def test_an_mpi_is_known_by_what_it_says_of_itself(text, name):
    assert mpi_name(text) == name


def test_the_launchers_mpirun_and_the_bare_one_are_told_apart(places, tmp_path):
    stub(tmp_path, "mpirun", "echo 'mpirun (Open MPI) 4.1.4'")
    own = write(tmp_path / "tree/.venv/bin/mpirun", "#!/bin/sh\necho 'mpirun (Open MPI) 4.1.8'\n", 0o755)
    found = gather(places).mpi
    assert (found.mpirun.path, found.mpirun.version) == (str(own), "Open MPI 4.1.8")
    assert found.mpirun_by_hand == str(tmp_path / "bin/mpirun")


@pytest.mark.parametrize(
    ("package", "library", "trouble"),
    [
        ("class rc: pass", None, "RuntimeError: cannot load MPI library"),
        ("import nothing_of_this_name", None, "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    ],
)
def test_what_keeps_mpi4py_from_loading_is_told(places, tmp_path, package, library, trouble):
    distribution(tmp_path, "mpi4py", "4.1.2")
    write(tmp_path / "packages/mpi4py/__init__.py", package)
    write(tmp_path / "packages/mpi4py/MPI.py", "raise RuntimeError('cannot load MPI library')")
    found = gather(with_variables(places, PYTHONPATH=str(tmp_path / "packages")), patience=20).mpi
    assert (found.mpi4py, found.mpi4py_trouble) == (library, trouble)


@pytest.mark.parametrize(
    ("output", "kinds"),
    [
        ("MPI plugin types are...\n\tpmix\n\tpmi2\n\tnone\nspecific pmix plugin versions available: pmix_v4,pmix_v5",
         ("pmix", "pmi2", "none", "pmix_v4", "pmix_v5")),
        ("srun: MPI types are...\nsrun: pmi2\nsrun: none", ("pmi2", "none")),
        ("MPI plugin types are...\n\tcray_shasta\n\tnone", ("cray_shasta", "none")),
    ],
)  # fmt: skip
def test_sruns_list_is_read_in_its_forms(places, tmp_path, output, kinds):
    stub(tmp_path, "srun", f'[ "$*" = "--mpi=list" ] && printf "%b" "{output}"')
    assert gather(places).job.pmi == kinds


def test_programs_that_hang_cost_the_patience_once_and_are_ended(places, tmp_path):
    for name in ("srun", "nvidia-smi", "mpirun"):
        stub(tmp_path, name, f"echo $$ > {tmp_path}/{name}.pid; exec /bin/sleep 60")
    started = time.monotonic()
    env = gather(places, patience=0.5)
    assert time.monotonic() - started < 5
    assert (env.job.pmi, env.gpus.names, env.mpi.mpirun.version) == (None, (), None)
    for file in tmp_path.glob("*.pid"):
        assert not Path(f"/proc/{file.read_text().strip()}").exists()


def test_answers_keep_exit_code_and_both_streams(tmp_path):
    commands = {"a": ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], "b": [str(tmp_path / "missing")]}
    assert ask(commands, os.environ, 10) == {
        "a": Answer(3, "out\nerr\n"),
        "b": Answer(None, "No such file or directory"),
    }


def test_an_allocation_is_read_from_slurms_variables(places):
    environ = {
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NUM_NODES": "3",
        "SLURM_NTASKS": "6",
        "SLURM_TASKS_PER_NODE": "4,1(x2)",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_GPUS_ON_NODE": "4",
    }
    found = job(with_variables(places, **environ), {})
    assert (found.job_id, found.nodes, found.tasks, found.tasks_per_node) == ("77", 3, 6, "4,1(x2)")
    assert (found.cpus_per_task, found.gpus_on_node, found.step_tasks) == (2, "4", None)


@pytest.mark.parametrize(
    ("step", "tasks"), [("0", 4), ("4294967291", None), ("4294967290", None)]
)  # batch, interactive
def test_only_a_step_of_the_users_own_has_tasks(places, step, tasks):
    assert job(with_variables(places, SLURM_STEP_ID=step, SLURM_STEP_NUM_TASKS="4"), {}).step_tasks == tasks


def test_gpus_come_from_nvidia_smi_else_from_the_drivers_files(places, tmp_path):
    answer = Answer(0, "NVIDIA H100 80GB HBM3, 580.95.05\nNVIDIA H100 80GB HBM3, 580.95.05\n")
    assert gpus(places, {"gpus": answer}).names == ("NVIDIA H100 80GB HBM3",) * 2
    assert gpus(places, {"gpus": answer}).driver == "580.95.05"
    proc = tmp_path / "root/proc/driver/nvidia"
    write(proc / "gpus/0000:01:00.0/information", "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ:   12\n")
    write(
        proc / "version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
    )
    failed = {"gpus": Answer(9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")}
    found = gpus(places, failed)
    assert (found.names, found.driver) == (("NVIDIA A100-SXM4-40GB",), "535.104.05")


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_a_containers_share_of_time_is_read_in_both_versions(places, tmp_path, files, quota):
    for name, text in files.items():
        write(tmp_path / "root/sys/fs/cgroup" / name, text)
    assert machine(places, {}).quota == quota


def test_variables_that_may_hold_secrets_are_not_taken_up(places):
    found = machine(with_variables(places, SLURM_JWT="secret", OMP_NUM_THREADS="2"), {})
    assert set(found.variables) == {"OMP_NUM_THREADS", "TMPDIR", "HVD_ADAM_DATA"}


def test_cores_are_those_that_this_process_may_use(places):
    found = machine(places, {})
    assert found.usable_cores == len(os.sched_getaffinity(0)) <= found.cores


def test_a_folder_is_tried_by_writing_and_left_as_it_was(places, tmp_path):
    good = folder(tmp_path / "work", places)
    assert (good.trouble, good.free > 0, abs(good.clock_ahead) < 2) == (None, True, True)
    assert list((tmp_path / "work").iterdir()) == []
    assert folder(tmp_path / "absent", places).trouble == "No such file or directory"


def test_a_folders_file_system_is_that_of_the_longest_mount_above_it(places, tmp_path):
    (tmp_path / "far/deep er").mkdir(parents=True)
    points = {"/": "ext4", tmp_path: "nfs4", f"{tmp_path}/far/deep\\040er": "lustre", f"{tmp_path}/fa": "xfs"}
    write(tmp_path / "root/proc/mounts", "".join(f"dev {point} {kind} rw 0 0\n" for point, kind in points.items()))
    kinds = [folder(tmp_path / name, places).kind for name in ("far", "far/deep er")]
    assert kinds == ["nfs4", "lustre"]


def test_launchers_beside_the_tree_come_first(places, tmp_path):
    assert places.launcher("mpirun") is None
    installed = write(tmp_path / "prefix/share/hvd_adam/launchers/mpirun", "#!/bin/sh\n", 0o755)
    assert places.launcher("mpirun") == installed
    assert places.launcher("mpirun") != write(tmp_path / "tree/launchers/mpirun", "#!/bin/sh\n", 0o755)
    assert places.launcher("mpirun") == tmp_path / "tree/launchers/mpirun"


@pytest.mark.parametrize(
    ("beside", "installed", "first"),
    [
        ("tree/.venv/bin", True, "tree/.venv/bin"),  # a source tree that was set up
        ("tree/launchers", True, "bin"),  # a tree without an environment: PATH as it is
        (None, True, "prefix/bin"),  # installed: the programs beside the interpreter
        (None, False, "bin"),
    ],
)
def test_path_is_the_one_that_the_launchers_make(places, tmp_path, beside, installed, first):
    if beside:
        (tmp_path / beside).mkdir(parents=True)
    if installed:
        write(tmp_path / "prefix/bin/hvd-adam", "", 0o755)
    assert places.launcher_path().split(os.pathsep)[0] == str(tmp_path / first)


def test_a_working_folder_that_was_removed_is_known_by_its_last_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    monkeypatch.setenv("PWD", str(tmp_path / "gone"))
    assert working_folder() == tmp_path / "gone"
    (tmp_path / "gone").rmdir()
    assert working_folder() == tmp_path / "gone" and folder(working_folder(), Places(folder=tmp_path)).trouble
