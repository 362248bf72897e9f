"""Makes the figures of docs/performance.md, or compares this machine's ratios with the recorded ones.

    python benchmarks/table.py                       all of it, on two quiet cores: `make bench`
    python benchmarks/table.py --only step,start     some of it; the other figures stay
    python benchmarks/table.py --only none           only writes the table again
    python benchmarks/table.py --only step --on epyc
                                                     the same on another kind of machine, in a table of its own
    python benchmarks/table.py --check               fewer rounds, kept nowhere: `make bench-check`; exit code 1 where
                                                     a ratio got worse than its recorded interval

What was measured lies in benchmarks/recorded/, a file for each command of `hvd-adam bench`, and of other kinds of
machines in folders there.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hvd_adam.bench.allreduce import Exchange, lines
from hvd_adam.bench.figures import READERS, figures, headlines, limits, table, unmatched, worse

TREE = Path(__file__).resolve().parents[1]
RECORDED, PAGE, README = TREE / "benchmarks" / "recorded", TREE / "docs" / "performance.md", TREE / "README.md"
BEGIN, END = "<!-- made by benchmarks/table.py -->", "<!-- end -->"
PEERS = "bare,hvd_adam-exact,hvd_adam-mpi,hvd_adam-horovod,parts,horovod,horovod-fused,horovod-tuned,ddp-fused"
FEWER = "parts,horovod,ddp-fused"
SIZES = "--parameters lenet --parameters resnet18 --parameters transformer --parameters 1e8 --parameters 1000x10"
ADAMS = "--peers 'torch fused,torch default'"
LARGE = "--model resnet18 --model transformer"
INTERRUPTED = 130  # exit code of a benchmark that was
COMMANDS = {  # in the order of what a user asks first; (full, check), each one command or some that are kept as one
    "optimizer": (f"{SIZES} {ADAMS} --rounds 9", f"{SIZES} {ADAMS} --rounds 5"),
    "step": (  # a turn holds as many steps of each as the slowest peer makes in it, and those of LeNet are short
        (f"--model lenet --peers {PEERS} --rounds 7 --turn 2 --fresh",
         f"{LARGE} --peers {PEERS} --rounds 5 --turn 0.5 --fresh"),
        f"--peers {FEWER} --rounds 5 --turn 0.3 --fresh",
    ),
    "allreduce": ("--largest 512M --rounds 5", "--largest 64M --rounds 5"),
    "start": ("--rounds 7", "--rounds 5"),
    "scale": ("--rounds 5", "--model lenet --parameters 1e6 --parameters 1e7 --parameters 1e8 --rounds 5"),
    "study": ("--rounds 5", ""),
    "memory": ("--rounds 5", "--model resnet18 --rounds 5"),
}  # fmt: skip


def measure(kind: str, arguments: str | tuple[str, ...], folder: Path) -> bool:
    """Runs one command of the benchmark, or some; whether all went through. What they find is kept as one, at once."""
    through, kept = True, {}
    folder.mkdir(parents=True, exist_ok=True)
    for line in (arguments,) if isinstance(arguments, str) else arguments:
        words = ["bench", kind, *shlex.split(line)]
        command = shlex.join(["hvd-adam", *words])
        print(command, flush=True)
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as place:
            made = Path(place) / f"{kind}.json"
            code = _ended([sys.executable, "-m", "hvd_adam", *words, "--out", str(made)])
            found = json.loads(made.read_text()) if made.is_file() else None
        if found and kept:
            kept["comparisons"] += found["comparisons"]
            kept["command"] += f" && {command}"
        elif found:
            kept = {**found, "command": command}
        through &= code == 0
        print(f"  {kind}: {time.monotonic() - started:.0f} s, exit code {code}", flush=True)
        if kept:
            file = folder / f"{kind}.json"
            file.write_text(json.dumps(kept, indent=1) + "\n")
            print(f"  {kind}: kept in {file}", flush=True)
        if code in (INTERRUPTED, -signal.SIGTERM):
            sys.exit(INTERRUPTED)
    return through


def _ended(command: list[str]) -> int:
    """The exit code of a benchmark. Ctrl-C reaches it, too, and SIGTERM is passed on: it ends its jobs by itself."""
    process = subprocess.Popen(command, cwd=TREE)
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
    code = process.wait()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return code


def write_page() -> None:
    """Puts the tables between their markers in docs/performance.md and README.md."""
    blocks = [_block(RECORDED, details())]
    for folder in sorted(path for path in RECORDED.iterdir() if path.is_dir()):
        blocks += [f"### On another machine: {folder.name}", _block(folder, [])]
    _put(PAGE, "\n\n".join(blocks))
    _put(README, headlines(figures(RECORDED)))


def _block(folder: Path, further: list[str]) -> str:
    """The table of one machine, what made it, and what else is to be said."""
    parts = []
    for kind in READERS:
        file = folder / f"{kind}.json"
        if file.is_file():
            kept = json.loads(file.read_text())
            versions = ", ".join(f"{name} {v}" for name, v in kept["versions"].items() if v and name != "hvd_adam")
            parts.append(f"* `{kept.get('command', f'hvd-adam bench {kind}')}`: {kept['host_cores']} cores, "
                         f"{kept['processor']}, {versions}")  # fmt: skip
    parts += [f"* {line}" for line in further]
    blocks = [table(figures(folder)), "\n".join(parts)]
    if least := limits(folder):
        blocks += ["Each goal beside a peer, with the parts of a step and with forward and backward alone:", least]
    return "\n\n".join(blocks)


def _put(page: Path, made: str) -> None:
    text = page.read_text()
    page.write_text(f"{text[: text.index(BEGIN)]}{BEGIN}\n\n{made}\n\n{text[text.index(END) :]}")


def details() -> list[str]:
    """Sentences on the sums: latency and bandwidth of each way, and which raw algorithm is the fastest where."""
    file = RECORDED / "allreduce.json"
    if not file.is_file():
        return []
    kept = json.loads(file.read_text())
    seconds = {int(size): by for size, by in kept["seconds"].items()}
    found = Exchange(kept["ranks"], list(next(iter(seconds.values()), {})), seconds, kept["left_out"])
    return [line for line in lines(found) if "GB/s" in line or line.startswith("the fastest")]


def check(recorded: Path) -> int:
    """Measures with fewer rounds, and says which ratios got worse than the recorded ones there, or have none."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        through = [measure(kind, few, folder) for kind, (_, few) in COMMANDS.items() if few]
        now, before = figures(folder), figures(recorded)
    for name in unmatched(now, before):
        print(f"not recorded, so not compared: {name}")
    found = worse(now, before)
    for line in found:
        print(f"worse: {line}")
    print(f"{len(found)} ratios are worse than recorded in {recorded}")
    return 1 if found or not all(through) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(COMMANDS), help="which, separated by commas; none")
    parser.add_argument("--on", default=".", metavar="NAME", help="another kind of machine, kept by that name")
    parser.add_argument("--check", action="store_true", help="compare with what is recorded")
    asked = parser.parse_args()
    if asked.check:
        if not (RECORDED / asked.on).is_dir():
            parser.error(f"nothing is recorded on {asked.on}, so that nothing could be worse")
        return check(RECORDED / asked.on)
    chosen = [] if asked.only == "none" else asked.only.split(",")
    if unknown := set(chosen) - set(COMMANDS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; choose from {', '.join(COMMANDS)}")
    through = True
    for kind in chosen:
        through &= measure(kind, COMMANDS[kind][0], RECORDED / asked.on)
        write_page()  # after each: what is measured stands, whatever comes of the next
    if not chosen:
        write_page()
    return 0 if through else 1


if __name__ == "__main__":
    sys.exit(main())
