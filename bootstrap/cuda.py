"""The CUDA toolkit for a GPU build: the site's where CUDA_HOME names one, else pip's own packages.

pip's packages lack what a build looks for: libraries without a version in their names, and a lib64. A *view* supplies
that: a folder of links to the installed files, laid out as a toolkit is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bootstrap.errors import SetupError


@dataclass(frozen=True)
class Toolkit:
    """A toolkit and an NCCL to compile against: their folders, and where their libraries lie at run time."""

    home: Path
    nccl: Path
    version: str
    folders_of_libraries: tuple[str, ...]

    def environment(self) -> dict[str, str]:
        """Return the variables that make Horovod's build find both."""
        nccl = self.nccl
        return {
            "CUDA_HOME": str(self.home),
            "HOROVOD_CUDA_HOME": str(self.home),
            "HOROVOD_GPU_OPERATIONS": "NCCL",
            "HOROVOD_NCCL_LINK": "SHARED",
            "HOROVOD_NCCL_HOME": str(nccl),
            "HOROVOD_NCCL_INCLUDE": str(nccl / "include"),
            "HOROVOD_NCCL_LIB": str(nccl / "lib"),
        }


def site_toolkit(cuda_of_torch: str, environ: Mapping[str, str] = os.environ) -> tuple[Path, str] | None:
    """Return (folder, version) of the toolkit that CUDA_HOME names; None where it names none.

    Raises:
        SetupError: torch has no CUDA, or the toolkit is of another major version.
    """
    if not cuda_of_torch:
        raise SetupError(
            found="GPU=1, but this torch is a build for CPUs",
            why="Horovod's NCCL part is compiled against a torch that knows CUDA",
            cure="Take torch from an index that has a CUDA build, such as the default:"
            " make setup GPU=1 TORCH_INDEX=default",
        )
    named = environ.get("CUDA_HOME") or environ.get("CUDA_PATH")
    if not named:
        return None
    home = Path(named)
    version = nvcc_version(home / "bin" / "nvcc")
    if version.partition(".")[0] != cuda_of_torch.partition(".")[0]:
        raise SetupError(
            found=f"CUDA_HOME={home} holds CUDA {version or '(no nvcc)'}, and torch has {cuda_of_torch}",
            why="both have to be of one major version",
            cure=f"Load a CUDA {cuda_of_torch.partition('.')[0]}, or unset CUDA_HOME to take pip's: make setup GPU=1",
        )
    return home, version


def nvcc_version(nvcc: Path) -> str:
    """Return the release that an nvcc says it is, such as 13.2; empty where it does not run."""
    try:
        text = subprocess.run([str(nvcc), "--version"], capture_output=True, text=True).stdout
    except OSError:
        return ""
    match = re.search(r"release (\d+\.\d+)", text)
    return match.group(1) if match else ""


def requirement(cuda_toolkit_version: str, cuda_of_torch: str) -> str:
    """Return what to install for pip's toolkit: nvcc and headers of the release that torch itself has brought."""
    if not cuda_toolkit_version:
        raise SetupError(
            found=f"torch with CUDA {cuda_of_torch} has not brought pip's cuda-toolkit",
            why="older builds of torch bring their libraries one by one, without a compiler that fits",
            cure=f"Load the site's CUDA {cuda_of_torch} (module load cuda; CUDA_HOME set), then: make setup GPU=1",
        )
    return f"cuda-toolkit[nvcc,cccl]=={cuda_toolkit_version}"


def pip_toolkit(site_packages: Path, view: Path, cuda_of_torch: str) -> Path:
    """Build the view of pip's toolkit, and return its folder."""
    source = site_packages / "nvidia" / f"cu{cuda_of_torch.partition('.')[0]}"
    home = view / "cuda"
    shutil.rmtree(home, ignore_errors=True)
    (home / "lib").mkdir(parents=True)
    # nvcc looks for its libraries beside the folder that it lies in, and follows links: bin has to be real.
    _linked_hard(source / "bin", home / "bin")
    for name in ("include", "nvvm"):
        (home / name).symlink_to(source / name)
    _with_plain_names(source / "lib", home / "lib")
    (home / "lib64").symlink_to("lib")
    return home


def nccl_view(site_packages: Path, view: Path) -> Path:
    """Build the view of pip's NCCL, and return its folder; a site's own is taken where HOROVOD_NCCL_HOME names it."""
    own = os.environ.get("HOROVOD_NCCL_HOME") or os.environ.get("NCCL_HOME")
    if own:
        return Path(own)
    source, home = site_packages / "nvidia" / "nccl", view / "nccl"
    if not (source / "include" / "nccl.h").is_file():
        raise SetupError(
            found="there is no NCCL among pip's packages",
            why="Horovod's NCCL part is compiled against its header",
            cure="Load the site's NCCL and name it: HOROVOD_NCCL_HOME=/path make setup GPU=1",
        )
    shutil.rmtree(home, ignore_errors=True)
    (home / "lib").mkdir(parents=True)
    (home / "include").symlink_to(source / "include")
    _with_plain_names(source / "lib", home / "lib")
    return home


def _linked_hard(source: Path, target: Path) -> None:
    for folder, _, files in os.walk(source):
        here = target / Path(folder).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for file in files:
            try:
                os.link(Path(folder, file), here / file)
            except OSError:  # another file system, or one without hard links
                shutil.copy2(Path(folder, file), here / file)


def _with_plain_names(source: Path, target: Path) -> None:
    for file in sorted(source.iterdir()):
        (target / file.name).symlink_to(file)
        plain = target / re.sub(r"\.so\..*$", ".so", file.name)
        if not plain.exists() and not plain.is_symlink():
            plain.symlink_to(file)
