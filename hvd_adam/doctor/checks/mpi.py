"""Is there one MPI, and does what starts ranks belong to it?"""

from __future__ import annotations

from hvd_adam.doctor.checks.versions import release
from hvd_adam.doctor.environment import Environment, Library
from hvd_adam.doctor.findings import Finding, fault, note, ok


def horovod_has_mpi(env: Environment) -> Finding | None:
    """Horovod is linked with a libmpi, and the loader finds it."""
    if env.software.horovod_extension is None:
        return None
    library = env.mpi.horovod
    if library is None:
        return fault(
            "Horovod is not linked with an MPI",
            "the launchers start ranks through MPI, and this Horovod would not see them",
            "make setup",
        )
    if library.path is None:
        return fault(
            f"Horovod needs {library.soname}, and the loader finds none",
            "the MPI that it was built with has moved, or its module is not loaded",
            "load that module (module load ...), or: make setup",
        )
    if library.trouble and not library.trouble.startswith("no answer"):
        return fault(
            f"Horovod is linked with {library.path}, which does not load: {library.trouble}",
            "LD_LIBRARY_PATH names another MPI, or the one that Horovod was built with is no longer whole",
            "unset LD_LIBRARY_PATH, or load the module of that MPI; else: make setup",
        )
    return ok(f"Horovod is linked with {_name(library)} ({library.path})")


def engines_share_an_mpi(env: Environment) -> Finding | None:
    """Horovod and mpi4py live in one process: they must take the same libmpi."""
    first, second = env.mpi.horovod, env.mpi.mpi4py
    if first is None or second is None or first.path is None or second.path is None:
        return None
    if first.path == second.path:
        return ok(f"mpi4py is linked with the same {_name(second)}")
    both = f"Horovod takes {_name(first)} ({first.path}), mpi4py takes {_name(second)} ({second.path})"
    if first.version == second.version and first.version and first.soname == second.soname:
        return note(
            both,
            "the versions agree, so it works; but two copies can be upgraded apart",
            "make setup, with the MPI that you mean first on PATH and in LD_LIBRARY_PATH",
        )
    return fault(
        both,
        "both live in one process, and MPI that one of them opens is closed for the other",
        "unset LD_LIBRARY_PATH or load one MPI module only, then: make setup",
    )


def mpirun_belongs_to_the_library(env: Environment) -> Finding:
    """An mpirun of another MPI starts N jobs of size 1, or ranks that hang."""
    mpirun = env.mpi.mpirun
    if mpirun is None:
        if env.job.srun:
            return note(
                "there is no mpirun on PATH",
                "launchers/mpirun and horovodrun need it",
                "use launchers/srun, or load your MPI's module",
            )
        return fault(
            "there is no mpirun on PATH",
            "nothing can start ranks",
            "load your site's MPI (module load ...), or take the one from PyPI: make setup",
        )
    library = env.mpi.horovod or env.mpi.mpi4py
    linked = library.version if library else None
    if mpirun.version is None or linked is None:
        return note(
            f"mpirun ({mpirun.path}) is {mpirun.version or 'unknown'}, the MPI library is {linked or 'unknown'}",
            "their versions could not be read, or they took too long to answer",
            "hvd-adam doctor --run tries them together",
        )
    if mpirun.version == linked:
        return ok(f"mpirun is {mpirun.version} ({mpirun.path}), the same as the library")
    if _kin(mpirun.version, linked):
        return note(
            f"mpirun is {mpirun.version} ({mpirun.path}), the library is {linked}",
            "releases of one line speak to each other as a rule; nobody promises it",
            "hvd-adam doctor --run tries them together",
        )
    return fault(
        f"mpirun is {mpirun.version} ({mpirun.path}), the library is {linked}",
        "they do not speak to each other: N ranks become N jobs of size 1, or hang at the start",
        "put the mpirun of that library first on PATH, or build against this one: make setup",
    )


def mpirun_by_hand(env: Environment) -> Finding | None:
    """What a bare `mpirun` gives, beside what the launchers take."""
    launchers, bare = env.mpi.mpirun, env.mpi.mpirun_by_hand
    if launchers is None or bare == launchers.path:
        return None
    if not bare:
        return note(
            "mpirun is not on PATH in this shell",
            f"the launchers find {launchers.path} by themselves; a bare mpirun or horovodrun is not found",
            ". .venv/bin/activate",
        )
    return note(
        f"a bare mpirun is {bare}, the launchers take {launchers.path}",
        "ranks that the other MPI starts do not find each other",
        ". .venv/bin/activate, or start with launchers/mpirun",
    )


def launchers_know_this_mpi(env: Environment) -> Finding | None:
    """launchers/mpirun speaks Open MPI's flags."""
    mpirun = env.mpi.mpirun
    if mpirun is None or mpirun.version is None or mpirun.version.startswith(("Open MPI", "Spectrum MPI")):
        return None
    return note(
        f"mpirun is {mpirun.version}",
        "launchers/mpirun is written for Open MPI's flags and variables, and tested with it alone",
        "start with launchers/srun, or copy launchers/mpirun and put this mpirun's flags in",
    )


def horovodrun_and_open_mpi_5(env: Environment) -> Finding | None:
    """horovodrun passes flags that Open MPI 5's prterun reads as a program's name."""
    version = env.mpi.mpirun.version if env.mpi.mpirun else None
    if env.mpi.horovodrun is None or version is None or not version.startswith("Open MPI"):
        return None
    if release(version.removeprefix("Open MPI ")) < (5,):
        return ok("horovodrun is here, and Open MPI is of the line that it understands")
    return note(
        f"horovodrun does not understand {version}",
        "its own flags end with 'prterun was unable to find the specified executable file'",
        'launchers/horovodrun, or: horovodrun --mpi --binding-args="--bind-to none --map-by slot" -np RANKS ...',
    )


def running_as_root(env: Environment) -> Finding | None:
    """Open MPI refuses root without two variables."""
    names = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
    version = env.mpi.mpirun.version if env.mpi.mpirun else None
    if not env.machine.root or not (version or "").startswith("Open MPI"):
        return None
    if all(env.machine.variables.get(name) for name in names):
        return ok("running as root, and Open MPI is told that it may")
    return note(
        "running as root, and OMPI_ALLOW_RUN_AS_ROOT is not set",
        "a bare mpirun or horovodrun refuses to start; the launchers set it themselves",
        "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
    )


def _name(library: Library) -> str:
    return library.version or library.soname


def _kin(left: str, right: str) -> bool:
    """Of one make and one major version; MPICH and those built from it share Hydra and its protocol."""
    (name, _, number), (other, _, another) = left.rpartition(" "), right.rpartition(" ")
    mpich = {"Hydra", "MPICH", "Cray MPICH", "MVAPICH", "Intel MPI"}
    if {name, other} <= mpich and "Hydra" in (name, other):
        return True
    return name == other and release(number)[:1] == release(another)[:1]


CHECKS = (
    horovod_has_mpi,
    engines_share_an_mpi,
    mpirun_belongs_to_the_library,
    mpirun_by_hand,
    launchers_know_this_mpi,
    horovodrun_and_open_mpi_5,
    running_as_root,
)
