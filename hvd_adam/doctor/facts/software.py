"""Versions from the packages' own files. Importing torch would take longer than all other facts together."""

from __future__ import annotations

import json
import platform
import re
import sysconfig
from importlib.metadata import Distribution, DistributionFinder, MetadataPathFinder
from pathlib import Path

from hvd_adam.doctor.environment import Requirement, Software
from hvd_adam.doctor.facts.places import Places

_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)\s*\(?([^;()]*)\)?\s*(?:;(.*))?$")
_FUSED = re.compile(r"^def _fused_adam_\((.*?)\) -> None", re.MULTILINE | re.DOTALL)
_FUSED_ARGUMENTS = (
    "lr: _float",
    "beta1",
    "beta2",
    "weight_decay",
    "eps",
    "amsgrad",
    "maximize",
    "grad_scale",
    "found_inf",
)


def software(places: Places) -> Software:
    """What is installed."""
    torch, cuda = _torch(places)
    vision = distribution(places, "torchvision")
    wants = dict(requirements(vision)) if vision else {}
    extension = horovod_extension(places)
    fits = extension is not None and extension.name.endswith((sysconfig.get_config_var("EXT_SUFFIX"), ".abi3.so"))
    return Software(
        python=platform.python_version(),
        requirements=tuple(Requirement(name, bounds, _version(places, name)) for name, bounds in _ours(places)),
        torch=torch,
        torch_installed=_version(places, "torch"),
        torch_cuda=cuda,
        torch_fused_adam=_fused_adam(places),
        torchvision=vision.version if vision else None,
        torchvision_wants=wants.get("torch", ""),
        horovod=_version(places, "horovod"),
        horovod_built_against=_built_against(places),
        horovod_extension=extension.name if extension else None,
        horovod_extension_fits=fits,
        mpi4py=_version(places, "mpi4py"),
        numpy=_version(places, "numpy"),
    )


def horovod_extension(places: Places) -> Path | None:
    """Horovod's compiled part for torch: the one for this Python, else any."""
    folder = places.find("horovod/torch/__init__.py")
    found = sorted(folder.parent.glob("mpi_lib_v2*.so")) if folder else []
    ours = [path for path in found if path.name.endswith(sysconfig.get_config_var("EXT_SUFFIX"))]
    return next(iter(ours or found), None)


def distribution(places: Places, name: str) -> Distribution | None:
    """The installed distribution of this name, as pip knows it."""
    context = DistributionFinder.Context(name=name, path=list(places.packages))
    return next(iter(MetadataPathFinder.find_distributions(context)), None)


def requirements(package: Distribution) -> list[tuple[str, str]]:
    """(name, bounds) of what a distribution asks for, extras left out."""
    matches = [_REQUIREMENT.match(line) for line in package.requires or []]
    return [(m[1], m[2].strip()) for m in matches if m and "extra" not in (m[3] or "")]


def _ours(places: Places) -> list[tuple[str, str]]:
    own = distribution(places, "hvd_adam")
    return requirements(own) if own else []


def _version(places: Places, name: str) -> str | None:
    found = distribution(places, name)
    return found.version if found else None


def _torch(places: Places) -> tuple[str | None, str | None]:
    path = places.find("torch/version.py")
    text = path.read_text(errors="replace") if path else ""
    version = re.search(r"^__version__\s*=\s*'([^']+)'", text, re.MULTILINE)
    cuda = re.search(r"^cuda\b[^=\n]*=\s*'([^']+)'", text, re.MULTILINE)
    return (version[1] if version else None), (cuda[1] if cuda else None)


def _fused_adam(places: Places) -> bool | None:
    """torch lists its native functions, with their arguments, for type checkers."""
    path = places.find("torch/_C/_VariableFunctions.pyi")
    if path is None:
        return None
    signatures = _FUSED.findall(path.read_text(errors="replace"))
    return any(all(argument in signature for argument in _FUSED_ARGUMENTS) for signature in signatures)


def _built_against(places: Places) -> str | None:
    """Horovod's wheel carries the versions of the frameworks that it was compiled with."""
    path = places.find("horovod/metadata.json")
    try:
        recorded = json.loads(path.read_text()) if path else {}
    except (OSError, ValueError):
        return None
    version = recorded.get("pytorch") if isinstance(recorded, dict) else None
    return version if isinstance(version, str) else None
