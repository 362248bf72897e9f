"""What a person sees of a set-up, and the log that keeps the rest."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bootstrap.errors import SetupError, cure_for, lines_that_matter


class Console:
    """Prints one line a step, and writes every command with its whole output to a log.

    Args:
        log: the file; the one of the set-up before is kept beside it as NAME.previous.
        steps: how many steps will be announced.
    """

    def __init__(self, log: Path, steps: int):
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists():
            log.replace(log.with_name(log.name + ".previous"))
        self.path, self.steps, self.step_number = log, steps, 0
        self._log = log.open("ab", buffering=0)  # appending: commands write into the same file

    def say(self, text: str) -> None:
        """Print a line, and log it."""
        sys.stdout.write(f"setup: {text}\n")
        sys.stdout.flush()
        self.note(text)

    def note(self, text: str) -> None:
        """Write a line into the log only."""
        self._log.write(f"# {text}\n".encode())

    @contextlib.contextmanager
    def step(self, what: str, as_a_rule: str = "") -> Iterator[None]:
        """Announce a step, and say how long it took once it is done."""
        self.step_number += 1
        rule = f" (as a rule {as_a_rule})" if as_a_rule else ""
        sys.stdout.write(f"setup: {self.step_number}/{self.steps} {what}{rule} ... ")
        sys.stdout.flush()
        self.note(f"step {self.step_number}: {what}")
        started = time.monotonic()
        try:
            yield
        except BaseException:
            sys.stdout.write("stopped\n")
            sys.stdout.flush()
            raise
        took = f"{time.monotonic() - started:.1f} s"
        sys.stdout.write(took + "\n")
        sys.stdout.flush()
        self.note(took)

    def run(self, command: Sequence[str | Path], environment: Mapping[str, str], doing: str) -> str:
        """Run a command with its output in the log, and return the output.

        Raises:
            SetupError: it failed; with the lines of its output that matter.
        """
        words = [str(word) for word in command]
        self.note("$ " + shlex.join(words))
        start = self.path.stat().st_size
        try:
            code = subprocess.run(
                words, env=dict(environment), stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
            ).returncode
        except OSError as error:
            raise SetupError(f"{doing} failed", f"{words[0]} cannot be run: {error.strerror}", "make setup") from None
        with self.path.open("rb") as log:
            log.seek(start)
            output = log.read().decode(errors="replace")
        if code:
            why, cure = cure_for(output)
            lines = [*lines_that_matter(output), f"(everything: {shown(self.path)})"]
            raise SetupError(f"{doing} failed (exit {code})", why, cure, lines)
        return output


def shown(path: Path) -> str:
    """Return a path as a person would type it here."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
