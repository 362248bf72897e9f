"""How Horovod and mpi4py are compiled: the environment of each build, and the key of each wheel.

Horovod 0.28.1 asks for C++14, and torch's headers need C++17 or 20. Its source stays as released: CMake takes a
toolchain file from the environment, and that changes what "C++14" means (cmake/).
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bootstrap import prerequisites
from bootstrap.cuda import Toolkit
from bootstrap.mpi import Mpi

RECIPE = 1  # raise it when a change here makes another wheel from the same versions
CMAKE = Path(__file__).parent / "cmake"
COMPILER_VARIABLES = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "HOROVOD_BUILD_CUDA_CC_LIST")
# Where the extension lies below site-packages, and from there .venv/lib, where PyPI's MPI has its libraries.
FROM_HOROVOD = ("$ORIGIN/../../torch/lib", "$ORIGIN/../../../..")
FROM_MPI4PY = "$ORIGIN/../../.."


@dataclass(frozen=True)
class Build:
    """What a compilation of Horovod depends on, and where it happens.

    Attributes:
        horovod: requirement of the source release; torch: version with its build; mpi: what it links.
        toolkit: the CUDA toolkit of a GPU build, else None.
    """

    horovod: str
    torch: str
    mpi: Mpi
    toolkit: Toolkit | None
    nccl: str = ""

    def name(self) -> str:
        """Return a readable name for the cache."""
        kind = "nccl" if self.toolkit else "cpu"
        return f"{self.horovod.replace('==', '-')}-torch{self.torch}-{self.mpi.kind}mpi-{kind}"

    def key(self) -> dict[str, object]:
        """Return everything that the wheel depends on."""
        gpu = (
            {"cuda": self.toolkit.version, "nccl": self.nccl, "folders": _outside(self.toolkit)} if self.toolkit else {}
        )
        return {
            "horovod": self.horovod,
            "torch": self.torch,
            "mpi": self.mpi.key(),
            "gpu": gpu,
            "standard": cxx_standard(self.torch),
            "vector": vector_flags(),
            "recipe": recipe_hash(),
            **machine(),
        }


def _outside(toolkit: Toolkit) -> list[str]:
    return [folder for folder in toolkit.folders_of_libraries if not folder.startswith("$ORIGIN")]


def machine() -> dict[str, object]:
    """Return what any compiled wheel depends on: Python, system library, compiler and its flags."""
    return {
        "python": sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag,
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "compiler": prerequisites.compiler_version(),
        "variables": {name: os.environ[name] for name in COMPILER_VARIABLES if os.environ.get(name)},
    }


def recipe_hash() -> str:
    """Return a hash of the recipe: its number and the CMake files, less comments."""
    lines = [line for file in sorted(CMAKE.rglob("*.cmake")) for line in file.read_text(encoding="utf-8").splitlines()]
    text = "\n".join(line for line in lines if line and not line.startswith("#"))
    return f"{RECIPE}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def cxx_standard(torch: str) -> int:
    """Return the C++ standard that a torch's headers need: 20 since 2.14, 17 before."""
    major, minor = (int(part) for part in torch.split(".")[:2])
    return 20 if (major, minor) >= (2, 14) else 17


def vector_flags() -> str:
    """Return the vector instructions of this processor that Horovod can use; HOROVOD_BUILD_ARCH_FLAGS overrides it.

    Horovod asks the compiler for them at build time. Written down here, they belong to the key.
    """
    own = os.environ.get("HOROVOD_BUILD_ARCH_FLAGS")
    if own is not None:
        return own
    try:
        known = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split())
    except OSError:
        known = set()
    return " ".join(f"-m{flag}" for flag in ("f16c", "avx", "fma") if flag in known)


def horovod_environment(build: Build, base: Mapping[str, str], jobs: int) -> dict[str, str]:
    """Return the environment in which pip compiles Horovod."""
    environment = {name: value for name, value in base.items() if not name.startswith("HOROVOD_")}
    rpath = [*FROM_HOROVOD, *build.mpi.folders_of_libraries]
    environment |= {
        "CMAKE_TOOLCHAIN_FILE": str(CMAKE / "toolchain.cmake"),
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",  # the gloo inside asks for less than CMake 4 gives
        "CMAKE_GENERATOR": "Unix Makefiles",  # Horovod's setup.py hands make's options on
        "HOROVOD_WITH_PYTORCH": "1",
        "HOROVOD_WITH_MPI": "1",
        "HOROVOD_WITHOUT_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_WITHOUT_NVTX": "1",
        "HOROVOD_CPU_OPERATIONS": "MPI",
        "HOROVOD_BUILD_ARCH_FLAGS": vector_flags(),
        "BOOTSTRAP_CXX_STANDARD": str(cxx_standard(build.torch)),
        "BOOTSTRAP_MPICXX": str(build.mpi.mpicxx),
        "MPI_HOME": str(build.mpi.mpicc.parent.parent),  # the gloo inside looks for an mpicc of its own
        "BOOTSTRAP_GPU": "1" if build.toolkit else "0",
        "MAKEFLAGS": f"-j{jobs}",
        "PIP_NO_CACHE_DIR": "1",
    }
    if build.toolkit:
        environment |= build.toolkit.environment()
        environment["PATH"] = f"{build.toolkit.home / 'bin'}{os.pathsep}{environment['PATH']}"
        rpath += build.toolkit.folders_of_libraries
        architectures = os.environ.get("HOROVOD_BUILD_CUDA_CC_LIST")
        if architectures:
            environment["HOROVOD_BUILD_CUDA_CC_LIST"] = architectures
    environment["BOOTSTRAP_RPATH"] = ";".join(rpath)
    return environment


def mpi4py_key(requirement: str, mpi: Mpi) -> dict[str, object]:
    """Return everything that a wheel of mpi4py depends on."""
    return {"mpi4py": requirement, "mpi": mpi.key(), "recipe": RECIPE, **machine()}


def mpi4py_environment(mpi: Mpi, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which pip compiles mpi4py from source, against the MPI that Horovod links."""
    # It only hands calls on: without debug symbols the wheel has 1 MB instead of 5, and optimising gains nothing.
    environment = {"CFLAGS": "-O1 -g0", **base, "MPICC": str(mpi.mpicc), "PIP_NO_CACHE_DIR": "1"}
    if mpi.kind == "pypi":
        # Open MPI's wrapper would write .venv's own path into the wheel; the cache needs a relative one.
        environment["OMPI_LDFLAGS"] = f"-L{mpi.mpicc.parent.parent / 'lib'} -Wl,-rpath,{FROM_MPI4PY}"
    return environment
