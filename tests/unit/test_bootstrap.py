"""The set-up, as far as it can be seen without installing anything: choices, keys, the cache, messages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bootstrap import cuda, errors, mpi, plain_path, prerequisites, recipe, setup, steps, wheels
from bootstrap.__main__ import parser
from bootstrap.console import Console
from bootstrap.errors import SetupError
from bootstrap.facts import Environment
from bootstrap.requirements import Requirements, name_of

TREE = Path(__file__).resolve().parents[2]
KEY = {
    "horovod": "horovod==0.28.1",
    "torch": "2.15.0+cu132",
    "python": "cpython-311",
    "mpi": {"kind": "pypi", "version": "4.1.8"},
    "gpu": {},
    "standard": 20,
    "recipe": "1-abc",
}


def program(path: Path, prints: str = "") -> Path:
    """An executable that prints a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nprintf '%s\\n' '{prints}'\n")
    path.chmod(0o755)
    return path


def site_mpi(folder: Path, version: str = "mpirun (Open MPI) 4.1.4") -> Path:
    program(folder / "mpirun", version)
    program(folder / "mpicxx", "g++ -I/opt/mpi/include -L/opt/mpi/lib -lmpi")
    return program(folder / "mpicc")


def installed(folder: Path, name: str, version: str, record: bool = True) -> Path:
    """A package in a made-up virtual environment; returns its dist-info."""
    info = folder / "lib/python3.11/site-packages" / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    if record:
        (info / "RECORD").write_text(f"{name}/lib.so,sha256=1234,99\n")
    return info


def given(**options: str) -> SimpleNamespace:
    return SimpleNamespace(**{"torch_version": "", "torch_index": "", "gpu": "", "mpi": "", "jobs": "", **options})


@pytest.mark.parametrize(
    ("changed", "to"),
    [
        ("horovod", "horovod==0.29.0"),
        ("torch", "2.15.0+cpu"),  # another build of the same release
        ("torch", "2.14.1+cu130"),
        ("python", "cpython-312"),
        ("mpi", {"kind": "pypi", "version": "5.0.11"}),
        ("mpi", {"kind": "site", "version": "4.1.8", "path": "/opt/mpi/bin/mpicc"}),
        ("gpu", {"cuda": "13.2", "nccl": "2.30.7"}),
        ("standard", 17),
        ("recipe", "2-abc"),
    ],
)
def test_a_wheel_is_taken_from_the_cache_only_where_all_that_it_depends_on_agrees(tmp_path, changed, to):
    made = tmp_path / "horovod-0.28.1-cp311.whl"
    made.write_bytes(b"compiled")
    kept = wheels.keep(tmp_path / "cache", "horovod", KEY, made)

    assert wheels.find(tmp_path / "cache", "horovod", dict(reversed(KEY.items()))) == kept
    assert wheels.find(tmp_path / "cache", "horovod", {**KEY, changed: to}) is None


@pytest.mark.parametrize("damage", ["cut", "no key", "gone"])
def test_a_damaged_wheel_is_not_taken_and_is_replaced(tmp_path, damage):
    made = tmp_path / "horovod-0.28.1-cp311.whl"
    made.write_bytes(b"compiled")
    kept = wheels.keep(tmp_path / "cache", "horovod", KEY, made)
    if damage == "cut":
        kept.write_bytes(b"comp")
    elif damage == "gone":
        kept.unlink()
    else:
        (kept.parent / "key.json").write_text("{")

    assert wheels.find(tmp_path / "cache", "horovod", KEY) is None
    assert wheels.keep(tmp_path / "cache", "horovod", KEY, made).read_bytes() == b"compiled"
    assert not list((tmp_path / "cache").glob(".new-*"))


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HVD_ADAM_CACHE", str(tmp_path))
    assert wheels.folder() == tmp_path / "wheels"
    monkeypatch.delenv("HVD_ADAM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert wheels.folder() == tmp_path / "hvd_adam/wheels"


def test_a_home_that_nobody_knows_is_said_with_what_to_set(monkeypatch):
    monkeypatch.delenv("HVD_ADAM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "~no-such-user-here/cache")
    with pytest.raises(SetupError) as refused:
        wheels.folder()
    assert "export HVD_ADAM_CACHE=" in str(refused.value)


def test_an_environment_on_another_disk_is_made_anew_there(tmp_path):
    disk, folder = tmp_path / "disk", tmp_path / ".venv"
    folder.symlink_to(disk)
    steps.remove(folder, is_ours=False)  # it points nowhere yet
    (disk / "bin").mkdir()
    (disk / "bin/python").write_text("")
    (disk / "lib64").symlink_to("bin")
    (disk / "pyvenv.cfg").write_text("")
    with pytest.raises(SetupError, match=r"is a link to .*disk"):
        steps.remove(folder, is_ours=False)
    assert len(list(disk.iterdir())) == 3
    steps.remove(folder, is_ours=True)
    assert folder.is_symlink() and disk.is_dir() and not list(disk.iterdir())
    folder.unlink()
    (folder / "bin").mkdir(parents=True)
    steps.remove(folder, is_ours=False)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("torch", "standard"),
    [("2.13.0+cpu", 17), ("2.14.1+cu130", 20), ("2.15.0", 20), ("3.0.0a1", 20)],
)
def test_horovod_is_compiled_with_the_standard_that_torch_needs(torch, standard):
    assert recipe.cxx_standard(torch) == standard


def test_a_wheel_for_pypis_mpi_finds_its_libraries_relative_to_itself():
    chosen = mpi.of_pypi(Path("/tree/.venv"), "4.1.8")
    build = recipe.Build("horovod==0.28.1", "2.15.0+cu132", chosen, None)
    made = recipe.horovod_environment(build, {"PATH": "/bin", "HOROVOD_GPU_OPERATIONS": "MPI"}, jobs=3)

    assert made["BOOTSTRAP_RPATH"].split(";") == ["$ORIGIN/../../torch/lib", "$ORIGIN/../../../.."]
    assert made["MAKEFLAGS"] == "-j3"
    assert made["MPI_HOME"] == "/tree/.venv"
    assert "HOROVOD_GPU_OPERATIONS" not in made  # the key says CPU, so nothing else may decide


def test_the_site_s_mpi_is_part_of_the_key_by_its_path(tmp_path):
    chosen = mpi.find_site(tmp_path / ".venv", "", "", path=str(site_mpi(tmp_path / "mpi").parent))
    assert chosen is not None
    assert chosen.key() == {"kind": "site", "version": "mpirun (Open MPI) 4.1.4", "path": str(tmp_path / "mpi/mpicc")}
    assert chosen.folders_of_libraries == ("/opt/mpi/lib",)


@pytest.mark.parametrize(
    ("wanted", "on_path", "last", "kind"),
    [
        ("", ["site"], "", "site"),
        ("", [".venv/bin", "site"], "", "site"),  # an activated environment comes first on PATH
        ("", [".venv/bin"], "", "pypi"),
        ("", [], "site", "site"),  # no module loaded today: the MPI of the last set-up stays
        ("", [], "gone", "pypi"),
        ("pypi", ["site"], "site", "pypi"),
    ],
)
def test_the_site_s_mpi_is_taken_where_there_is_one(tmp_path, wanted, on_path, last, kind):
    site_mpi(tmp_path / "site")
    site_mpi(tmp_path / ".venv/bin")
    path = ":".join(str(tmp_path / one) for one in on_path)
    chosen = mpi.find_site(tmp_path / ".venv", wanted, str(tmp_path / last / "mpicc") if last else "", path=path)
    assert (chosen.kind if chosen else "pypi") == kind


def test_an_mpi_without_its_cxx_wrapper_is_refused_with_the_package_to_ask_for(tmp_path):
    program(tmp_path / "mpicc")
    with pytest.raises(SetupError, match="has no mpicxx beside it") as refused:
        mpi.find_site(tmp_path / ".venv", str(tmp_path / "mpicc"), "")
    assert "apt: libopenmpi-dev" in refused.value.cure


def test_every_missing_prerequisite_is_named_on_a_line_of_its_own():
    wanted = [
        prerequisites.Prerequisite("git", "git", lambda: True),
        prerequisites.Prerequisite("a C++ compiler", "g++", lambda: False),
        prerequisites.Prerequisite("headers", "python3-dev", lambda: False),
    ]
    with pytest.raises(SetupError) as refused:
        prerequisites.check(wanted)
    assert str(refused.value).splitlines()[-2:] == ["    apt install g++", "    apt install python3-dev"]
    assert "apt install git" not in str(refused.value)


def test_a_compiler_that_is_too_old_is_named(monkeypatch):
    monkeypatch.setattr(prerequisites, "compiler_version", lambda: "9.4.0")
    with pytest.raises(SetupError, match=r"is version 9\.4\.0"):
        prerequisites.check([])


@pytest.mark.parametrize(
    ("output", "cure"),
    [
        ("x.cc:1:10: fatal error: Python.h: No such file or directory", "python3-dev"),
        ("OSError: [Errno 28] No space left on device", "TORCH_INDEX"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "JOBS=1"),
        ("ERROR: No matching distribution found for torch==9", "TORCH_VERSION"),
        ("CMake Error: Could NOT find MPI (missing: MPI_CXX_FOUND)", "MPI=pypi"),
        ("error -- unsupported GNU version! gcc versions later than 15", "CXX="),
        ("something else", "make setup"),
    ],
)
def test_a_failure_says_what_to_change(output, cure):
    assert cure in errors.cure_for(output)[1]


def test_the_lines_that_matter_are_the_first_errors_and_ten_at_most():
    log = "fine\n" * 50 + "a.cc:1: error: first\n" + "note: x\n" + "b.cc:2: error: next\n" * 20 + "fine\n" * 50
    lines = errors.lines_that_matter(log)
    assert lines[0] == "a.cc:1: error: first"
    assert len(lines) == 10
    assert errors.lines_that_matter("one\n\ntwo\n") == ["one", "two"]


def test_a_failed_command_shows_its_error_and_the_log_keeps_all(tmp_path, capsys):
    console = Console(tmp_path / "setup.log", 1)
    script = "echo fine; echo 'x.cc: error: no member' >&2; exit 3"
    with pytest.raises(SetupError, match=r"compiling failed \(exit 3\)") as refused, console.step("Horovod", "3 min"):
        console.run(["/bin/sh", "-c", script], {}, "compiling")
    assert refused.value.lines[0] == "x.cc: error: no member"
    assert "fine" in (tmp_path / "setup.log").read_text()
    assert capsys.readouterr().out == "setup: 1/1 Horovod (as a rule 3 min) ... stopped\n"


def test_what_is_installed_is_read_from_its_files(tmp_path):
    environment = Environment(tmp_path)
    assert environment.torch() == ("", "")
    installed(tmp_path, "torch", "2.15.0")
    installed(tmp_path, "horovod", "0.28.1")
    site = tmp_path / "lib/python3.11/site-packages"
    (site / "torch").mkdir()
    (site / "torch/version.py").write_text("__version__ = '2.15.0+cu132'\ncuda: Optional[str] = '13.2'\n")
    (site / "horovod").mkdir()
    (site / "horovod/metadata.json").write_text('{"pytorch": "2.14.1+cu130", "dummy": "none"}')

    assert environment.torch() == ("2.15.0+cu132", "13.2")
    assert environment.torch_of_horovod() == "2.14.1+cu130"
    assert environment.packages() == {"torch": "2.15.0", "horovod": "0.28.1"}


def test_an_installation_that_was_cut_off_does_not_count_and_is_cleared_away(tmp_path):
    environment = Environment(tmp_path)
    cut_off = installed(tmp_path, "torch", "2.15.0", record=False)
    (cut_off.parent / "~orch").mkdir()

    assert environment.version("torch") == ""
    assert sorted(environment.remove_remains()) == ["torch-2.15.0.dist-info", "~orch"]
    assert not cut_off.exists()


FACTS = {
    "torch": "2.15.0+cu132",
    "horovod_torch": "2.15.0+cu132",
    "missing": [],
    "python": "3.11",
    "mpi": {"kind": "pypi"},
}


@pytest.mark.parametrize(
    ("change", "nothing_to_do"),
    [
        ({}, True),
        ({"python": "3.12"}, False),
        ({"mpi": {"kind": "site"}}, False),
        ({"torch": "2.14.1+cu130", "horovod_torch": "2.15.0+cu132"}, False),
        ({"missing": ["rich"]}, False),
    ],
)
def test_a_second_set_up_does_nothing_unless_a_fact_has_changed(tmp_path, change, nothing_to_do):
    file = tmp_path / "setup.json"
    file.write_text(json.dumps({**FACTS, "wheels": {"horovod": {}}}))
    assert setup.in_place(setup.Stamp(file), {**FACTS, **change}) is nothing_to_do


def test_a_horovod_for_another_torch_never_counts_as_in_place(tmp_path):
    facts = {**FACTS, "torch": "2.14.1+cu130"}
    file = tmp_path / "setup.json"
    file.write_text(json.dumps(facts))
    assert not setup.in_place(setup.Stamp(file), facts)


@pytest.mark.parametrize(
    ("now", "before", "joined"),
    [
        (given(), {"gpu": "1", "mpi": "pypi"}, {"gpu": "1", "mpi": "pypi"}),  # asked for once, kept
        (given(gpu="0"), {"gpu": "1"}, {"gpu": ""}),
        (given(torch_index="default"), {"torch_index": "file:///x"}, {"torch_index": ""}),
        (given(torch_version="latest"), {"torch_version": "2.13.0"}, {"torch_version": ""}),
        (given(torch_version="2.14.1"), {"torch_version": "2.13.0"}, {"torch_version": "2.14.1"}),
    ],
)
def test_what_was_asked_for_is_remembered_until_it_is_taken_back(now, before, joined):
    options = setup.read_options(now, before)
    assert {name: getattr(options, name) for name in joined} == joined


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "yes"], "setup: GPU=yes: 1 compiles Horovod with NCCL, 0 for CPUs."),
        (["--torch-version", "new"], "setup: TORCH_VERSION=new: give a release such as 2.15.0, or latest."),
        (["--jobs", "0"], "setup: JOBS=0: give the number of compile jobs at a time, 1 or more."),
        (["--extra", "tset"], "setup: --extra tset: setup.cfg has build, dev, mpi, test."),
    ],
)
def test_a_wrong_argument_is_one_message_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, message):
    (tmp_path / "setup.cfg").write_text((TREE / "setup.cfg").read_text())
    monkeypatch.chdir(tmp_path)
    assert setup.main(parser().parse_args(arguments), tmp_path) == 2
    assert capsys.readouterr().err == message + "\n"


def test_the_command_line_needs_the_standard_library_only(tmp_path):
    (tmp_path / "setup.cfg").write_text((TREE / "setup.cfg").read_text())
    (tmp_path / "bootstrap").symlink_to(TREE / "bootstrap")
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        "import sys; sys.path.insert(0, '.'); import bootstrap.setup, bootstrap.steps",
    ]
    assert subprocess.run(command, cwd=tmp_path).returncode == 0


def test_a_view_of_pips_toolkit_has_what_a_build_looks_for(tmp_path):
    source = tmp_path / "nvidia/cu13"
    for name in ("bin/nvcc", "include/cuda.h", "nvvm/bin/cicc", "lib/libcudart.so.13", "lib/libcudart_static.a"):
        program(source / name)
    home = cuda.pip_toolkit(tmp_path, tmp_path / "view", "13.2")

    assert (home / "lib64/libcudart.so").resolve() == source / "lib/libcudart.so.13"
    assert (home / "lib64/libcudart_static.a").is_file()
    assert not (home / "bin").is_symlink()  # nvcc looks for bin/../lib64 and follows links
    assert (home / "bin/nvcc").samefile(source / "bin/nvcc")
    assert (home / "include/cuda.h").is_file()


@pytest.mark.parametrize(
    ("of_torch", "environ", "message"),
    [
        ("", {}, "this torch is a build for CPUs"),
        ("13.2", {"CUDA_HOME": "HERE"}, "holds CUDA 12.8, and torch has 13.2"),
    ],
)
def test_a_toolkit_that_does_not_fit_torch_is_refused(tmp_path, of_torch, environ, message):
    program(tmp_path / "bin/nvcc", "Cuda compilation tools, release 12.8, V12.8.1")
    environ = {name: str(tmp_path) for name in environ}
    with pytest.raises(SetupError, match=message):
        cuda.site_toolkit(of_torch, environ)


def test_the_site_s_toolkit_of_torch_s_major_version_is_taken(tmp_path):
    program(tmp_path / "bin/nvcc", "Cuda compilation tools, release 13.0, V13.0.1")
    assert cuda.site_toolkit("13.2", {"CUDA_HOME": str(tmp_path)}) == (tmp_path, "13.0")
    assert cuda.site_toolkit("13.2", {}) is None


def test_a_path_with_blanks_is_hidden_from_the_compilers(tmp_path):
    tree = tmp_path / "a b"
    tree.mkdir()
    with plain_path.for_compiling(tree, mpi.of_pypi(tree / ".venv", "4.1.8")) as (link, chosen):
        assert " " not in f"{link}{chosen.mpicc}{chosen.mpicxx}"
        assert link.samefile(tree)
        shown = subprocess.run([chosen.mpicxx, "-showme:link"], capture_output=True, text=True).stdout
        assert shown == f"-pthread -L{link}/.venv/lib -lmpi\n"
    with plain_path.for_compiling(tmp_path, mpi.of_pypi(tmp_path / ".venv", "4.1.8")) as (same, _):
        assert same == tmp_path


def test_setup_cfg_names_everything_that_the_set_up_installs():
    read = Requirements(TREE / "setup.cfg")
    assert [name_of(line) for line in read.torch()] == ["torch", "torchvision"]
    assert read.one("mpi", "horovod") == "horovod==0.28.1"
    assert {"test", "dev", "build", "mpi"} <= set(read.extras)
    assert read.fingerprint(["test"]) != read.fingerprint(["test", "dev"])
    assert name_of("Foo_Bar.baz[extra] >= 1; python_version < '4'") == "foo-bar-baz"
