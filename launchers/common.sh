# shellcheck shell=sh
# Sourced by every launcher: reads -n RANKS [-H host:slots,...] [--dry-run] -- COMMAND..., and sets ranks, hosts, dry
# and the environment of the ranks. What a user or a site has set is never overridden.

usage() {
    printf 'usage: %s -n RANKS [-H host:slots,...] [--dry-run] -- COMMAND...\n  %s\n' "$0" "$1" >&2
    exit 2
}

# default NAME VALUE: exports it unless it is set already
default() {
    eval "[ -n \"\${$1+set}\" ]" || export "$1=$2"
}

# shown WORD: the word as one would type it in a shell
shown() {
    case $1 in
        '' | *[!A-Za-z0-9_./:=,@%+-]*) printf " '%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" ;;
        *) printf ' %s' "$1" ;;
    esac
}

# start COMMAND...: prints the line and becomes it; with --dry-run it prints only
start() {
    {
        printf '+'
        for word in "$@"; do shown "$word"; done
        printf '\n'
    } >&2 || : # a log on a full disk keeps no rank from starting
    [ -z "$dry" ] || exit 0
    command -v "$1" >/dev/null || {
        printf 'hvd-adam: there is no %s on PATH.\n  The ranks are started by it.\n  %s\n' "$1" \
            "Load your site's module for it, or, for Open MPI: make setup" >&2
        exit 1
    }
    exec "$@"
}

# mpi_kind: which MPI the mpirun on PATH belongs to; openmpi where there is none to ask
mpi_kind() {
    case $(mpirun --version 2>/dev/null) in
        *'Intel(R) MPI'*) echo intel ;;
        *HYDRA* | *MPICH*) echo mpich ;;
        *) echo openmpi ;;
    esac
}

ranks='' hosts='' dry=''
while [ $# -gt 0 ]; do
    case $1 in
        -n) [ $# -gt 1 ] || usage "-n needs a number"; ranks=$2; shift 2 ;;
        -H) [ $# -gt 1 ] || usage "-H needs hosts"; hosts=$2; shift 2 ;;
        --dry-run) dry=1; shift ;;
        --) shift; break ;;
        *) usage "'$1' is not known; the command comes after --" ;;
    esac
done
case $ranks in
    '') usage "say how many ranks: -n RANKS" ;;
    *[!0-9]* | 0*) usage "-n needs a whole number of ranks above zero, not '$ranks'" ;;
esac
[ $# -gt 0 ] || usage "there is no command after --"

# The project's programs come first on PATH: from .venv beside the source tree, or from the environment that this
# file was installed into (share/hvd_adam/launchers).
unset CDPATH # with which cd prints where it went
here=$(cd "$(dirname "$0")/.." && pwd)
if [ -d "$here/.venv/bin" ]; then
    PATH=$here/.venv/bin:$PATH
elif [ -x "$here/../../bin/hvd-adam" ]; then
    PATH=$(cd "$here/../../bin" && pwd):$PATH
fi

# Ranks share the cores of their machine. nproc itself would obey OMP_NUM_THREADS.
cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || echo 1)
case $hosts in
    '') ranks_here=$ranks ;;
    *:*) ranks_here=${hosts%%,*} ranks_here=${ranks_here##*:} ;;
    *) ranks_here=1 ;;
esac
case $ranks_here in '' | *[!0-9]* | 0*) usage "-H wants host:slots,..., not '$hosts'" ;; esac
threads=${SLURM_CPUS_PER_TASK:-$((cores / ranks_here))}
[ "$threads" -gt 0 ] || threads=1
default OMP_NUM_THREADS "$threads"
# HVD_ADAM_PLAIN=1 leaves out these three, to see what they are worth: hvd-adam bench step.
if [ -z "${HVD_ADAM_PLAIN-}" ]; then
    # Horovod's background thread spins inside MPI while it waits, and takes the core from the compute: a step of
    # ResNet-18 took 137 to 155 ms without this and 101 to 105 with it (2 ranks on 2 cores, ranges of single runs).
    default OMPI_MCA_mpi_yield_when_idle 1
    # torch's large temporaries stay in the heap instead of being mapped anew each step: a bare step took 83 and 62 ms.
    default MALLOC_MMAP_THRESHOLD_ 1073741824
    default MALLOC_TRIM_THRESHOLD_ 4294967296
fi
# Ranks cannot see what this output is: mpirun gives them a terminal of its own. The columns, where it is one.
if [ -t 1 ]; then
    exec 3>&1
    size=$(stty size <&3 2>/dev/null || echo 24 80)
    exec 3>&-
    [ "$size" != "0 0" ] || size="24 80"
    default HVD_ADAM_TERMINAL "${size#* }"
fi
# HVD_ADAM_NIC: the network interface between the machines, said once for all that would look for one.
if [ -n "${HVD_ADAM_NIC-}" ]; then
    # What starts the ranks is a part of Open MPI up to 4 (oob), and PRRTE from 5 on (prte).
    for name in OMPI_MCA_btl_tcp_if_include OMPI_MCA_oob_tcp_if_include PRTE_MCA_prte_if_include UCX_NET_DEVICES \
        NCCL_SOCKET_IFNAME GLOO_SOCKET_IFNAME HOROVOD_GLOO_IFACE; do
        default "$name" "$HVD_ADAM_NIC"
    done
fi
if [ "$(id -u)" = 0 ]; then
    default OMPI_ALLOW_RUN_AS_ROOT 1
    default OMPI_ALLOW_RUN_AS_ROOT_CONFIRM 1
fi
