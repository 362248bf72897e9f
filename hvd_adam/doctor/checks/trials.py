"""What two ranks that were really started have shown."""

from __future__ import annotations

import re

from hvd_adam.doctor.environment import Environment, Timing, Trial
from hvd_adam.doctor.findings import Finding, fault, note, ok

SLOW_SMALL = 0.01  # seconds for 4 B: a healthy pair on one host needs far less than 1 ms, Horovod's cycle adds 1
SLOW_LARGE = 0.2  # seconds for 4 MB: a 1 Gbit/s network takes about 0.07

# the last phase that was reached -> (why, cure)
_STUCK_AFTER = {
    "nothing": (
        "no rank has begun to run: mpirun itself waits, as a rule for another host or for its own sockets",
        "look at the lines below; try: launchers/mpirun -n 2 -- hostname",
    ),
    "started": (
        "importing torch has not ended: a slow file system, or a machine without free memory",
        "try: python -c 'import torch'",
    ),
    "imported": (
        "the ranks do not find each other: mpirun and the library are of different MPIs, or a firewall or a wrong "
        "interface lies between them",
        "see mpirun above; on several nodes: export OMPI_MCA_btl_tcp_if_include=INTERFACE (ip -brief address)",
    ),
    "connected": (
        "the ranks have met, and a sum does not come back: the network drops what is sent, or the cores are taken",
        "on several nodes: export OMPI_MCA_btl_tcp_if_include=INTERFACE; "
        "on one: export OMPI_MCA_btl=self,tcp to go round shared memory",
    ),
    "timed": (
        "the ranks have summed, and do not end: MPI hangs while it closes",
        "make setup with a newer MPI; runs still end, since rank 0 has what it needs",
    ),
}

# found in the output -> (why, cure); the first that fits is said
_FAILURES = (
    (
        "undefined symbol",
        "a compiled part was made for another torch or another MPI than the one that is loaded",
        "make setup",
    ),
    (
        r"able to reach|[Uu]nreachable",
        "no transport of MPI's connects the ranks",
        "unset OMPI_MCA_btl OMPI_MCA_pml, or let them name one that reaches: OMPI_MCA_btl=self,vader,tcp",
    ),
    (
        "sees a job of",
        "what starts ranks and the MPI library do not speak to each other: each rank is a job of size 1",
        "make setup, with the mpirun that you mean first on PATH",
    ),
    (
        "not enough slots",
        "mpirun counts fewer slots than two: the allocation or the host has one",
        "ask Slurm for two tasks; on one core: export OMPI_MCA_rmaps_base_oversubscribe=1",
    ),
    (
        r"No space left|Bus error|signal 7\b",
        "the folder for temporary files or shared memory is full",
        "free space in TMPDIR and /dev/shm, or name another folder: export TMPDIR=...",
    ),
    (
        r"MemoryError|Cannot allocate memory|signal 9\b",
        "the memory of the host, the container or the allocation is used up",
        "ask for more (sbatch --mem=8G), or end what uses it",
    ),
    ("ModuleNotFoundError", "the ranks' Python lacks a package", "make setup"),
)


def judge_trial(trial: Trial) -> Finding:
    """One engine's two ranks."""
    if trial.code is None:
        why, cure = _STUCK_AFTER.get(trial.reached, _STUCK_AFTER["connected"])
        return fault(
            f"{trial.engine}: 2 ranks hung, and were ended after {trial.seconds:.0f} s{_lines(trial)}", why, cure
        )
    if trial.code != 0:
        why, cure = _reason(trial)
        return fault(f"{trial.engine}: 2 ranks ended with exit code {trial.code}{_lines(trial)}", why, cure)
    if trial.size != 2:
        return fault(
            f"{trial.engine}: 2 ranks were started, and they saw a job of {trial.size}",
            "what starts ranks and the MPI library do not speak to each other",
            "make setup, with the mpirun that you mean first on PATH",
        )
    if not trial.right:
        return fault(
            f"{trial.engine}: the sum over 2 ranks is wrong",
            "every gradient would be wrong",
            "make setup, with another MPI where it stays so",
        )
    return _speed(trial)


def trials(env: Environment) -> tuple[Finding, ...]:
    """One finding for each engine."""
    return tuple(judge_trial(trial) for trial in env.trials)


def fused_at_run_time(env: Environment) -> Finding | None:
    """The kernel that GenericAdam takes, tried on one element of each kind."""
    tried = next((trial.fused for trial in env.trials if trial.fused), None)
    if tried is None:
        return None
    works = [name for name, there in tried.items() if there]
    fails = [name for name, there in tried.items() if not there]
    if not fails:
        return ok(f"GenericAdam runs the fused kernel for {', '.join(works)}")
    return note(
        f"GenericAdam runs foreach for {', '.join(fails)}, the fused kernel for {', '.join(works) or 'none'}",
        "this torch's fused kernel does not take them; foreach makes more passes over memory",
        "make setup, which installs a torch that does",
    )


def _reason(trial: Trial) -> tuple[str, str]:
    text = "\n".join(trial.lines)
    for pattern, why, cure in _FAILURES:
        if re.search(pattern, text):
            return why, cure
    return "the engine does not work here", f"a finding above may say why; by hand: {trial.command}"


def _speed(trial: Trial) -> Finding:
    small, large = trial.small, trial.large
    hosts = " and ".join(dict.fromkeys(trial.hosts))
    what = f"{trial.engine}: 2 ranks on {hosts}, allreduce of 4 B in {_time(small)}, of 4 MB in {_time(large)}"
    if small and small.median > SLOW_SMALL:
        return note(
            what,
            "so long for 4 B means that ranks wait for a core: they spin, or others use the cores",
            "start with launchers/mpirun, which lets waiting ranks yield; look at top",
        )
    if large and large.median > SLOW_LARGE:
        return note(
            what,
            "4 MB take longer than over a 1 Gbit/s network",
            "look at top, and at which network the ranks use (OMPI_MCA_btl_tcp_if_include)",
        )
    return ok(what)


def _time(timing: Timing | None) -> str:
    if timing is None:
        return "unknown time"
    scale, unit = (1e6, "us") if timing.median < 1e-3 else (1e3, "ms")
    median, low, high = (f"{value * scale:.3g}" for value in (timing.median, timing.low, timing.high))
    return f"{median} {unit} (median of {timing.n}, middle half {low} to {high})"


def _lines(trial: Trial) -> str:
    return "".join(f"\n    | {line}" for line in trial.lines)


CHECKS = (trials, fused_at_run_time)
