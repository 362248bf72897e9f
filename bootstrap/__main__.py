"""The command line of the set-up. Old Pythons can read this file, so that they get a message and no syntax error."""

import argparse
import sys

OLDEST = (3, 10)

OPTIONS = (
    # name, Makefile's name, default, help
    ("torch-version", "TORCH_VERSION", "a release of torch, or 'latest'; remembered"),
    ("torch-index", "TORCH_INDEX", "package index to take torch and torchvision from, or 'default'; remembered"),
    ("gpu", "GPU", "1: compile Horovod with NCCL; 0: for CPUs; remembered"),
    ("mpi", "MPI", "'pypi', 'site', or the path of an mpicc; remembered"),
    ("jobs", "JOBS", "compile jobs at a time"),
)


def parser():
    parsed = argparse.ArgumentParser(prog="python3 -m bootstrap", description="Set up .venv in this source tree.")
    for name, makefile_name, text in OPTIONS:
        parsed.add_argument("--" + name, default="", metavar=makefile_name, help=text)
    parsed.add_argument("--extra", action="append", default=[], help="an extra of setup.cfg to install, such as dev")
    return parsed


def main(arguments=None):
    """Run a set-up and return its exit code: 0 done, 1 failed, 2 wrong arguments, 130 interrupted."""
    given = parser().parse_args(arguments)
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        sys.stderr.write(
            f"setup: python3 here is {found}, and 3.10 is the oldest that works.\n"
            "  Install a newer one (apt: python3), or name one: make setup PYTHON=/path/to/python3.12\n"
        )
        return 1
    from bootstrap import setup

    return setup.main(given)


if __name__ == "__main__":
    sys.exit(main())
