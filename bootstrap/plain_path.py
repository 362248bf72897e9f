"""Compiling in a source tree whose path has blanks: compilers' wrappers and makefiles take a blank for an end."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bootstrap.mpi import Mpi

# Speaks as Open MPI's wrapper does where CMake asks; paths in it have no blanks, unlike those that the real one prints.
_WRAPPER = """#!/bin/sh
case "${{1-}}" in
    -showme:compile) echo "-I{prefix}/include -pthread" ;;
    -showme:link) echo "-pthread -L{prefix}/lib -lmpi" ;;
    -show*) exit 1 ;;
    *) exec {compiler} -I{prefix}/include -pthread "$@" -L{prefix}/lib -Wl,-rpath,'$ORIGIN/../../..' -lmpi ;;
esac
"""


@contextlib.contextmanager
def for_compiling(tree: Path, mpi: Mpi) -> Iterator[tuple[Path, Mpi]]:
    """Yield the tree and the MPI under paths without blanks: as they are, or through a link while it lasts."""
    if not any(character.isspace() for character in str(tree)):
        yield tree, mpi
        return
    with tempfile.TemporaryDirectory(prefix="hvd_adam-") as folder:
        link = Path(folder, "tree")
        link.symlink_to(tree)
        if mpi.kind == "pypi":
            wrappers = Path(folder, "bin")
            wrappers.mkdir()
            (wrappers / "mpiexec").symlink_to(link / ".venv/bin/mpiexec")
            for name, compiler in (("mpicc", "${CC:-cc}"), ("mpicxx", "${CXX:-c++}")):
                wrapper = wrappers / name
                wrapper.write_text(_WRAPPER.format(prefix=link / ".venv", compiler=compiler), encoding="utf-8")
                os.chmod(wrapper, 0o755)
            mpi = replace(mpi, mpicc=wrappers / "mpicc", mpicxx=wrappers / "mpicxx")
        yield link, mpi
