"""Are the installed packages the ones that were made for each other?"""

from __future__ import annotations

from hvd_adam.doctor.checks.versions import release, satisfies
from hvd_adam.doctor.environment import Environment
from hvd_adam.doctor.findings import Finding, fault, note, ok

OLDEST_PYTHON = (3, 10)
FUSED_ON_CPU = (2, 4)  # the first torch whose fused Adam runs on CPUs


def python_is_supported(env: Environment) -> Finding:
    """hvd_adam's own floor."""
    version = env.software.python
    if release(version) >= OLDEST_PYTHON:
        return ok(f"Python {version}")
    return fault(f"Python {version}", "hvd_adam needs 3.10 or newer", "make setup PYTHON=/path/to/python3.12")


def requirements_are_met(env: Environment) -> Finding | None:
    """Every package that hvd_adam asks for, within its bounds."""
    asked = env.software.requirements
    wrong = [
        f"{r.name}{r.bounds} ({r.installed or 'not'} installed)"
        for r in asked
        if r.installed is None or not satisfies(r.installed, r.bounds)
    ]
    if wrong:
        return fault(
            f"these packages are missing or outside their bounds: {', '.join(wrong)}",
            "hvd_adam is tested with versions inside the bounds of its setup.cfg",
            "make setup",
        )
    return (
        ok(f"the {len(asked)} packages that hvd_adam asks for are here, numpy {env.software.numpy} among them")
        if asked
        else None
    )


def torch_is_whole(env: Environment) -> Finding:
    """What pip recorded and what Python imports are the same torch."""
    imported, recorded = env.software.torch, env.software.torch_installed
    if imported is None:
        return fault(
            "torch is not installed here", "everything that trains needs it", "make setup (or: . .venv/bin/activate)"
        )
    if recorded is None or release(imported) != release(recorded):
        return fault(
            f"an import finds torch {imported}, pip recorded {recorded or 'none'}",
            "two installations are mixed, and compiled parts fit one of them only",
            "unset PYTHONPATH; where that does not help: rm -r .venv && make setup",
        )
    build = f"for CUDA {env.software.torch_cuda}" if env.software.torch_cuda else "for CPUs"
    return ok(f"torch {imported}, built {build}")


def torchvision_fits_torch(env: Environment) -> Finding | None:
    """torchvision's compiled operators load into the torch that it was made for."""
    vision, wants, torch = env.software.torchvision, env.software.torchvision_wants, env.software.torch
    if vision is None or torch is None:
        return None
    if satisfies(torch, wants):
        return ok(f"torchvision {vision} fits torch {torch}")
    return fault(
        f"torchvision {vision} wants torch{wants}, but torch {torch} is installed",
        "its compiled operators fit that torch alone: 'operator torchvision::nms does not exist'",
        "make setup",
    )


def horovod_fits_torch(env: Environment) -> Finding:
    """A C++ extension loads only into the torch that it was compiled with."""
    horovod, built, torch = env.software.horovod, env.software.horovod_built_against, env.software.torch
    if horovod is None:
        return fault("Horovod is not installed", "it is the engine that averages gradients by default", "make setup")
    if env.software.horovod_extension is None:
        return fault(
            f"Horovod {horovod} was built without its part for torch",
            "pip leaves a framework out, without a word, when compiling for it fails",
            "make setup",
        )
    if built is None:
        return note(
            f"Horovod {horovod} does not say which torch it was built against",
            "after an upgrade of torch nobody can tell whether it still fits",
            "make setup; and hvd-adam doctor --run tries whether it loads",
        )
    if built == torch:
        return ok(f"Horovod {horovod} is built against torch {built}")
    return fault(
        f"Horovod {horovod} is built against torch {built}, but torch {torch or 'none'} is installed",
        "a C++ extension only loads into the torch it was compiled with",
        "make setup",
    )


def horovod_fits_python(env: Environment) -> Finding | None:
    """The extension's file name carries the Python that it was compiled for."""
    extension = env.software.horovod_extension
    if extension is None or env.software.horovod_extension_fits:
        return None
    return fault(
        f"Horovod's compiled part is {extension}, and this is Python {env.software.python}",
        "an extension loads only into the Python version that it was compiled for",
        "make setup",
    )


def mpi4py_is_here(env: Environment) -> Finding:
    """Both engines open MPI through it."""
    version, trouble = env.software.mpi4py, env.mpi.mpi4py_trouble
    if version is None:
        return fault("mpi4py is not installed", "both engines open MPI through it", "make setup")
    if trouble is None:
        return ok(f"mpi4py {version} loads")
    if trouble.startswith("no answer"):
        return note(
            f"mpi4py {version} took too long to load: {trouble}",
            "the doctor waits no longer; a slow file system or a busy machine are the usual reasons",
            "hvd-adam doctor --run waits a minute",
        )
    return fault(
        f"mpi4py {version} does not load: {trouble}",
        "it finds no libmpi, or one that it was not made for",
        "unset LD_LIBRARY_PATH, or load the MPI that it was built with (module load ...); else: make setup",
    )


def fused_kernel(env: Environment) -> Finding | None:
    """Which kernel GenericAdam's step will run."""
    torch, listed = env.software.torch, env.software.torch_fused_adam
    if torch is None:
        return None
    if listed and release(torch) >= FUSED_ON_CPU:
        return ok(f"torch {torch} offers the fused Adam kernel: GenericAdam uses it (--run tries it)")
    if listed is None:
        return note(
            f"torch {torch} does not list its native functions",
            "whether the fused Adam kernel is there shows only at run time; GenericAdam takes foreach where it is not",
            "hvd-adam doctor --run says which one is used",
        )
    return note(
        f"torch {torch} has no fused Adam kernel with the arguments that GenericAdam passes",
        "GenericAdam takes foreach instead: the same numbers up to rounding, more passes over memory",
        "make setup, which installs a torch that has it",
    )


CHECKS = (
    python_is_supported,
    requirements_are_met,
    torch_is_whole,
    torchvision_fits_torch,
    horovod_fits_torch,
    horovod_fits_python,
    mpi4py_is_here,
    fused_kernel,
)
