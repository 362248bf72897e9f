"""Engines in a process that no launcher has started, and what is said where an engine or other ranks are missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
BARE = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1"}


def python(*words: str, path: Path = TREE, **environment: str) -> subprocess.CompletedProcess[str]:
    """This Python by its path, as a scheduler or an editor calls it: nothing activated, nothing inherited."""
    search = os.pathsep.join(dict.fromkeys((str(path), str(TREE))))
    return subprocess.run(
        [sys.executable, *words],
        env={**BARE, "PYTHONPATH": search, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def train(folder: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = ("-m", "hvd_adam", "train", str(TREE / "configs/digits.yaml"), "steps=2", *overrides)
    return python(*words, "--run", str(folder / "run"), path=folder, **environment)


@pytest.mark.parametrize("engine", ["mpi", "horovod"])
def test_an_engine_opens_without_a_launcher_and_without_an_activated_environment(engine: str) -> None:
    code = f"import hvd_adam; w = hvd_adam.init({engine!r}); print(w.engine, w.rank, w.size); w.close()"
    done = python("-c", code)
    assert (done.returncode, done.stdout) == (0, f"{engine} 0 1\n"), done.stderr


@pytest.mark.parametrize(
    ("package", "engine"), [("mpi4py", "mpi"), ("mpi4py", "horovod"), ("horovod", "horovod")], ids=str
)
def test_an_engine_that_is_not_installed_is_named_with_its_cure(package: str, engine: str, tmp_path: Path) -> None:
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{package}'\")\n")
    done = train(tmp_path, f"engine={engine}")
    assert done.returncode == 1
    assert f"engine {engine} cannot be loaded: No module named '{package}'" in done.stderr
    assert "make setup" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_horovod_built_for_another_torch_is_named_with_its_cure(tmp_path: Path) -> None:
    stub = tmp_path / "horovod"
    stub.mkdir()
    (stub / "__init__.py").write_text("")
    (stub / "torch.py").write_text('raise ImportError("mpi_lib_v2.so: undefined symbol: _ZN2at4")\n')
    done = train(tmp_path, "engine=horovod")
    assert done.returncode == 1
    assert "undefined symbol" in done.stderr and "make setup" in done.stderr and "Traceback" not in done.stderr


def test_a_job_of_one_where_two_were_asked_for_is_refused_with_the_flag_to_give(tmp_path: Path) -> None:
    """As where mpirun belongs to another MPI than the library: each process is a job of its own."""
    done = train(tmp_path, OMPI_COMM_WORLD_SIZE="2", OMPI_COMM_WORLD_RANK="0")
    assert done.returncode == 1
    assert "mpirun was asked for 2 ranks, and this rank sees a job of 1" in done.stderr
    assert "make setup" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_srun_without_a_common_pmi_is_refused_with_the_flag_to_give(tmp_path: Path) -> None:
    done = train(tmp_path, "engine=mpi", SLURM_STEP_ID="0", SLURM_STEP_NUM_TASKS="4", SLURM_PROCID="0")
    assert done.returncode == 1
    assert "srun was asked for 4 ranks, and this rank sees a job of 1" in done.stderr
    assert "srun --mpi=pmix" in done.stderr and "Traceback" not in done.stderr
