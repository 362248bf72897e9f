"""Cores, variables, network names, clock and GPUs of this host."""

from __future__ import annotations

from hvd_adam.doctor.checks.versions import release
from hvd_adam.doctor.environment import Environment
from hvd_adam.doctor.findings import Finding, fault, note, ok

OLDEST_DRIVER = {11: (450, 80, 2), 12: (525, 60, 13), 13: (580, 65, 6)}  # CUDA major -> driver, NVIDIA's release notes

# variable -> how its value names interfaces
_INTERFACE_VARIABLES = {
    "OMPI_MCA_btl_tcp_if_include": "exact",
    "OMPI_MCA_oob_tcp_if_include": "exact",
    "GLOO_SOCKET_IFNAME": "exact",
    "HOROVOD_GLOO_IFACE": "exact",
    "NCCL_SOCKET_IFNAME": "prefix",
}


def cores(env: Environment) -> Finding:
    """The cores that ranks started from here would share."""
    machine = env.machine
    if machine.usable_cores == 1 and machine.cores > 1:
        return note(
            f"this process may use 1 of {machine.cores} cores",
            "ranks inherit that where the launcher does not bind them anew: all of them would share one core",
            "inside Slurm ask for more (--cpus-per-task); elsewhere look for taskset, or start with --bind-to none",
        )
    if machine.quota is not None and machine.quota < machine.usable_cores:
        return note(
            f"the container allows {machine.quota:g} cores' worth of time, and shows {machine.usable_cores} cores",
            "threads are counted by the cores that are shown: more of them than may run slow each other down",
            f"export OMP_NUM_THREADS={max(1, int(machine.quota / 2))} for 2 ranks",
        )
    bound = "" if machine.usable_cores == machine.cores else f" of {machine.cores}"
    return ok(f"{machine.usable_cores}{bound} cores on {machine.host}")


def threads(env: Environment) -> Finding:
    """OpenMP's thread count, and pinning that would put every rank on the same cores."""
    variables, cores = env.machine.variables, env.machine.usable_cores
    pinned = next((name for name in ("GOMP_CPU_AFFINITY", "KMP_AFFINITY") if name in variables), None)
    if variables.get("OMP_PROC_BIND", "false").lower() not in ("false", "0"):
        pinned = "OMP_PROC_BIND"
    if pinned:
        return note(
            f"{pinned}={variables[pinned]} is set",
            "every rank pins its threads to the same first cores when several share a host",
            f"unset {pinned}",
        )
    text = variables.get("OMP_NUM_THREADS")
    if text is None:
        return ok("OMP_NUM_THREADS is not set: the launchers divide the cores among the ranks")
    count = text.partition(",")[0]
    if not count.isdigit() or int(count) == 0:
        return fault(f"OMP_NUM_THREADS={text}", "it is a number of threads, 1 or more", "unset OMP_NUM_THREADS")
    if int(count) > cores:
        return note(
            f"OMP_NUM_THREADS={text} on {cores} cores",
            "each rank would run more threads than there are cores",
            "unset OMP_NUM_THREADS: the launchers divide the cores among the ranks",
        )
    return ok(f"OMP_NUM_THREADS={text}: each rank runs so many threads")


def settings(env: Environment) -> Finding:
    """The variables that the launchers set, where somebody has set them otherwise."""
    variables = env.machine.variables
    against = {
        "OMPI_MCA_mpi_yield_when_idle": (
            "0",
            "Horovod's thread spins while it waits, and takes a core from the computation",
        ),
        "MALLOC_MMAP_THRESHOLD_": (None, "large temporaries come from mmap, and cost page faults in every step"),
    }
    for name, (bad, why) in against.items():
        value = variables.get(name)
        if value is not None and (value == bad or (bad is None and value.isdigit() and int(value) < 1 << 25)):
            return note(f"{name}={value} is set, and the launchers leave it so", why, f"unset {name}")
    return ok("waiting and malloc: left to the launchers (docs/troubleshooting.md says what a bare mpirun misses)")


def interfaces(env: Environment) -> Finding | None:
    """Network interfaces that variables name must exist."""
    there, named = env.machine.interfaces, 0
    for variable, way in _INTERFACE_VARIABLES.items():
        for name in filter(None, env.machine.variables.get(variable, "").split(",")):
            plain = name.lstrip("=")
            if name.startswith("^") or "/" in name or not there:  # excluded ones, subnets: nothing to look up
                continue
            named += 1
            exact = way == "exact" or name.startswith("=")
            if plain not in there if exact else not any(known.startswith(plain) for known in there):
                return fault(
                    f"{variable} names {plain}, and {env.machine.host} has {', '.join(there)}",
                    "ranks on several nodes would wait for a network that is not there",
                    f"unset {variable}, or name one of these",
                )
    return ok("the network interfaces that variables name are there") if named else None


def host_address(env: Environment) -> Finding | None:
    """On several nodes a host's own name must not mean the host itself alone."""
    machine = env.machine
    if env.job.nodes < 2:
        return None
    if machine.address is None:
        return note(
            f"{machine.host} has no address that can be looked up",
            "horovodrun and Gloo look it up; mpirun goes by interfaces and does not need it",
            "start with launchers/mpirun, or have the host's name put into DNS or /etc/hosts",
        )
    if machine.address.startswith("127.") or machine.address == "::1":
        return note(
            f"{machine.host} resolves to {machine.address}",
            "horovodrun and Gloo would offer that address to other nodes, and wait for ever",
            "start with launchers/mpirun, or give the host its own address in /etc/hosts",
        )
    return ok(f"{machine.host} resolves to {machine.address}")


def clock(env: Environment) -> Finding | None:
    """Against the newest installed file, and against the file system that holds the runs."""
    machine, runs = env.machine, env.storage.runs
    if machine.installed_at is not None and machine.now < machine.installed_at - 60:
        return note(
            f"the clock is {machine.installed_at - machine.now:.0f} s behind the time at which packages were installed",
            "certificates seem invalid, and times in traces are wrong",
            "set the clock, or ask for time synchronisation on this host",
        )
    if abs(runs.clock_ahead) > 2:
        return note(
            f"the file system of {runs.path} is {runs.clock_ahead:+.0f} s from this host's clock",
            "file times and times in traces cannot be compared",
            "ask for time synchronisation on this host and on the file server",
        )
    return None


def gpus(env: Environment) -> Finding:
    """GPUs, and whether torch and the driver can use them."""
    names, driver, cuda = env.gpus.names, env.gpus.driver, env.software.torch_cuda
    if not names:
        return ok("no GPU: training runs on CPUs")
    shown = ", ".join(dict.fromkeys(f"{names.count(name)} x {name}" for name in names))
    if cuda is None:
        return note(f"{shown}, and torch is built for CPUs", "the GPUs stay idle", "make setup GPU=1")
    oldest = OLDEST_DRIVER.get(release(cuda)[0])
    if oldest and driver and release(driver) < oldest:
        return fault(
            f"{shown} with driver {driver}, and torch is built for CUDA {cuda}",
            f"CUDA {release(cuda)[0]} needs driver {'.'.join(map(str, oldest))} or newer: torch sees no GPU",
            "update the driver, or take a torch for an older CUDA: make setup TORCH_INDEX=... GPU=1",
        )
    if env.machine.variables.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1", "NoDevFiles"):
        return note(
            f"{shown}, and CUDA_VISIBLE_DEVICES hides them", "training runs on CPUs", "unset CUDA_VISIBLE_DEVICES"
        )
    return ok(f"{shown}, driver {driver or 'unknown'}, torch is built for CUDA {cuda}")


def nccl(env: Environment) -> Finding | None:
    """Gradients on GPUs go fastest through NCCL."""
    if not env.gpus.names or env.software.horovod_extension is None:
        return None
    if env.mpi.horovod_nccl:
        return ok("Horovod is built with NCCL")
    return note(
        "Horovod is built without NCCL",
        "gradients of GPUs would go through the host's memory",
        "make setup GPU=1",
    )


CHECKS = (cores, threads, settings, interfaces, host_address, clock, gpus, nccl)
