"""The one exception of the set-up, and what to do about failures of the tools that it calls."""

from __future__ import annotations

import re


class SetupError(Exception):
    """A set-up cannot go on. Printed as: what was found, why that stops it, what to change, the lines that matter."""

    def __init__(self, found: str, why: str, cure: str, lines: list[str] | None = None):
        super().__init__(found)
        self.found, self.why, self.cure, self.lines = found, why, cure, lines or []

    def __str__(self) -> str:
        shown = [f"setup: {self.found}.", f"  {self.why}.", f"  {self.cure}"]
        if self.lines:
            shown += ["  The lines that matter:", *(f"    {line}" for line in self.lines)]
        return "\n".join(shown)


# Found in the output of a failed command -> (why, what to change). The first that matches is shown.
CURES = (
    (
        r"No space left on device|Disk quota exceeded",
        "the disk or the quota is full",
        "Free 10 GB where .venv lies, or take the small CPU build of torch: make setup TORCH_INDEX=...",
    ),
    (
        r"Killed signal terminated program|signal 9|MemoryError|virtual memory exhausted",
        "the compiler ran out of memory: each job needs about 2 GB",
        "Compile one file at a time: make setup JOBS=1",
    ),
    (r"Python\.h: No such file", "Python's headers are missing", "Install them (apt: python3-dev), then: make setup"),
    (
        r"name resolution|NewConnectionError|ConnectionError|Connection (refused|reset)|timed out|unreachable",
        "the package index cannot be reached from here",
        "Check the network or the proxy, or name your site's index: PIP_INDEX_URL=... make setup",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "the package index's certificate is not trusted here",
        "Name your site's certificates: PIP_CERT=/path/to/ca.crt make setup",
    ),
    (
        r"No matching distribution|Could not find a version|ResolutionImpossible|conflicting dependencies",
        "the package index has no release that fits",
        "Check TORCH_VERSION and TORCH_INDEX against the bounds in setup.cfg, and that this Python has wheels there",
    ),
    (
        r"Could NOT find MPI|mpi\.h: No such file",
        "the MPI that was found cannot be compiled against",
        "Load an MPI with headers (module load ...), or take the one from PyPI: make setup MPI=pypi",
    ),
    (
        r"unsupported GNU version|unsupported (host )?compiler",
        "this g++ is too new for the CUDA toolkit",
        "Name an older one: CXX=g++-12 make setup GPU=1",
    ),
    (
        r"Permission denied|Read-only file system",
        "a folder is not writable",
        "Make it writable; the cache of wheels can be elsewhere: HVD_ADAM_CACHE=/path make setup",
    ),
)

_MATTERS = re.compile(
    r"(\berror\b|\bERROR\b|\bfatal\b|CMake Error|undefined reference|No space left|Killed|not found)", re.I
)
_NOISE = re.compile(
    r"subprocess-exited-with-error|not a problem with pip|exit code:|See above for output|-Werror|ignored: it is"
)


def lines_that_matter(output: str, at_most: int = 10) -> list[str]:
    """Return the lines of a failed command's output that tell why: its first errors, else its last lines."""
    lines = [line.rstrip()[:200] for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if _MATTERS.search(line) and not _NOISE.search(line)]
    return (telling or lines[-at_most:])[:at_most]


def cure_for(output: str) -> tuple[str, str]:
    """Return (why, what to change) for a failed command's output."""
    for pattern, why, cure in CURES:
        if re.search(pattern, output):
            return why, cure
    return (
        "the command stopped with an error",
        "Correct what the lines below say, then: make setup (it goes on where it stopped)",
    )
