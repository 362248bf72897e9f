# shellcheck shell=sh
# What every batch script of this project does: sourced by them, with `home` set to the folder
# that this file lies in, and `complain FOUND WHY CURE`.
#
# HVD_ADAM_LAUNCHER   mpirun (default), srun or horovodrun, or the path of a launcher of your own
# HVD_ADAM_NIC        the network interface between the nodes, for Open MPI, UCX, NCCL and Gloo alike
# HVD_ADAM_CONTAINER  an Apptainer image that the ranks run in; HVD_ADAM_CONTAINER_OPTIONS: words before it, as in --nv
# HVD_ADAM_RESTARTS   how often the job may be queued again, 100 by default
# HVD_ADAM_TRIES      how often in a row without a new checkpoint after a fault, 3 by default
# HVD_ADAM_SITE       the site's file, by default site.sh beside this one

say() { printf 'hvd-adam job %s: %s\n' "${SLURM_JOB_ID-}" "$1" >&2; }

# forget_outer_job: a job that is submitted from inside another inherits that one's variables. What Slurm gives to every
# job is fresh; what belongs to a step of the other, or was meant for another sbatch or srun, would lead ours astray.
forget_outer_job() {
    for name in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
        case $name in
            SBATCH_* | SRUN_* | SALLOC_* | SLURM_STEP* | SLURM_SRUN_* | SLURM_MPI_TYPE | SLURM_PMI* | SLURM_CPU_BIND* | \
                SLURM_MEM_BIND* | SLURM_DISTRIBUTION | SLURM_LAUNCH_NODE_IPADDR | SLURM_HOSTFILE | SLURM_EXCLUSIVE | \
                SLURM_OVERLAP | SLURM_TIMELIMIT | SLURM_UMASK | SLURM_PTY_* | PMI_* | PMI2_* | PMIX_* | \
                SLURM_MEM_PER_* | SLURM_HINT | SLURM_THREADS_PER_CORE | SLURM_NTASKS_PER_SOCKET | SLURM_NTASKS_PER_CORE | \
                OMPI_COMM_* | OMPI_MCA_orte_* | OMPI_MCA_ess_* | PRTE_MCA_ess_* | HYDRA_* | HOROVOD_RANK | \
                HOROVOD_SIZE | HOROVOD_LOCAL_* | HOROVOD_CROSS_*) unset "$name" ;;
        esac
    done
    export SLURM_EXPORT_ENV=ALL # after sbatch --export=NONE the steps would get nothing of what is set here
    export SLURM_CPU_BIND=none  # mpirun starts its daemons by srun, which would bind them, and the ranks, to one core
}

# find_module: the command that loads modules is a function of login shells, which sh does not inherit
find_module() {
    command -v module >/dev/null && return
    for start in "$LMOD_PKG/init/sh" "$MODULESHOME/init/sh" /etc/profile.d/lmod.sh /etc/profile.d/modules.sh; do
        # shellcheck disable=SC1090 # each site has its own
        if [ -r "$start" ]; then . "$start"; fi
        command -v module >/dev/null && return
    done
    return 0 # the shell then says that module is not found
}

# run_of ARGUMENTS...: the folder that --run names, else one of this job's own
run_of() {
    named='' config=$1
    while [ $# -gt 0 ]; do
        case $1 in
            --run) named=${2-} ;;
            --run=*) named=${1#--run=} ;;
        esac
        shift
    done
    while [ "${named%/}" != "$named" ] && [ "$named" != / ]; do named=${named%/}; done # files lie beside it
    config=${config##*/}
    printf '%s' "${named:-runs/${config%.*}/job-${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}"
}

# newest RUN: the name of its newest checkpoint; of one that stands for several in turn, also which it is now
newest() { printf '%s %s' "$(readlink "$1")" "$(find "$1/checkpoints" -name 'step-*.ckpt' 2>/dev/null | sort | tail -n 1)"; }

# hearers: who hands signals on to the ranks: the launcher, or what a shell in its place has started; such a shell, as
# horovodrun leaves behind, would die of them and leave its ranks alone
hearers() {
    case $(cat "/proc/$launched/comm" 2>/dev/null) in
        sh | dash | bash) ps -o pid= --ppid "$launched" ;;
        *) echo "$launched" ;;
    esac
}

# pass_on: the request to stop goes to the launcher, which hands it to all ranks; again and again, since ranks that are
# still starting do not hear it
pass_on() {
    asked=1
    [ -n "$launched" ] && [ -z "$nagger" ] || return 0
    say "asked to stop: the ranks save themselves at the next step"
    # shellcheck disable=SC2046 # numbers of processes are words
    (while kill -0 "$launched" 2>/dev/null; do kill -USR2 $(hearers); sleep 5; done) >/dev/null 2>&1 &
    nagger=$!
}

# watch_over: ranks that were cut off end by their watchdogs, and the launcher may wait for ever for those that it cannot
# reach. Once rank 0 has been heard in this start, it is not silent for longer than its own watchdog allows.
watch_over() {
    heard=$run/heartbeats/rank-0.json first=$(cat "$run/heartbeats/rank-0.json" 2>/dev/null) last='' silent=0
    while sleep 5 >/dev/null 2>&1 && kill -0 "$launched" 2>/dev/null; do
        now=$(cat "$heard" 2>/dev/null)
        limit=$(printf '%s' "$now" | sed -n 's/.*"stall_limit": \([0-9]*\).*/\1/p')
        silent=$((silent + 5))
        if [ -z "$limit" ] || [ "$now" = "$first" ] || [ "$now" != "$last" ]; then silent=0; fi
        last=$now
        if [ -n "$limit" ] && [ "$silent" -gt $((limit + 10)) ]; then
            say "rank 0 has been silent for $silent s: the launcher is ended"
            # shellcheck disable=SC2046 # as above
            kill -KILL $(hearers) "$launched" 2>/dev/null
        fi
    done
}

# requeue WHY: the job goes back into the queue, and Slurm ends this script
requeue() {
    restarts=${SLURM_RESTART_COUNT:-0}
    if [ "$restarts" -ge "${HVD_ADAM_RESTARTS:-100}" ]; then
        say "$1; it was queued again $restarts times, and HVD_ADAM_RESTARTS allows no more: $onward"
        exit 75
    fi
    say "$1; queued again, for the time number $((restarts + 1))"
    trap '' TERM # of the end that this brings about: scontrol is to say what came of it
    scontrol requeue "$own" && exit 75
    say "Slurm does not queue it again: $onward"
    exit 75
}

# end_by_slurm: limit, yes or nothing: whether Slurm is ending the job, all of which then has a few seconds. Its signal may
# have reached the ranks before this script, or not yet reached it; what scontrol says stands since before either.
end_by_slurm() {
    case $status in 0 | 2 | 3 | 4 | 5 | 6 | 75 | 130) [ -n "$terminated" ] || return 0 ;; esac
    case $(scontrol show job "$own" 2>/dev/null) in
        *JobState=TIMEOUT* | *Reason=TimeLimit*) echo limit ;;
        *JobState=PREEMPTED* | *JobState=CANCELLED* | *JobState=COMPLETING* | *JobState=PENDING*) echo yes ;;
        *JobState=RUNNING*) ;; # a signal that was meant for the start before this one, or sent by hand: a fault like others
        *) echo "${terminated:+yes}" ;;
    esac
}

# after_a_fault STATUS: again, as long as the run gets on
after_a_fault() {
    now=$(newest "$run") tries=1
    if [ -r "$run.tries" ] && [ "$(sed -n 2p "$run.tries")" = "$now" ]; then
        tries=$(($(sed -n 1p "$run.tries") + 1))
    fi
    if ! printf '%s\n%s\n' "$tries" "$now" >"$run.tries"; then
        say "ended with $1, and $run.tries, which counts such ends, cannot be written: $onward"
        exit "$1"
    fi
    if [ "$tries" -gt "${HVD_ADAM_TRIES:-3}" ]; then
        say "ended with $1, and so did the $((tries - 1)) starts before it without a new checkpoint: given up"
        exit "$1"
    fi
    requeue "ended with $1"
}

# supervise RUN ONWARD COMMAND...: the command on all ranks, until it is done or the job is queued again. Where the program
# itself says that it failed, it would fail again: srun, for one, ends with the signal that it sent to the other ranks.
supervise() {
    run=$1 onward=$2 launched='' nagger='' # onward: how a person goes on where Slurm does not
    shift 2
    mkdir -p "$(dirname "$run")"
    export HVD_ADAM_VERDICT="$run.verdict"
    HVD_ADAM_BEGAN=$(date +%s)
    export HVD_ADAM_BEGAN # how long an allocation takes to start: what the next study of its kind will cost
    rm -f "$HVD_ADAM_VERDICT"
    trap pass_on USR1 USR2
    if [ -n "${HVD_ADAM_CONTAINER-}" ]; then
        # shellcheck disable=SC2086 # options are words
        set -- apptainer exec ${HVD_ADAM_CONTAINER_OPTIONS-} "$HVD_ADAM_CONTAINER" "$@"
    fi
    "$launcher" -n "$ranks" -- "$@" &
    launched=$!
    watch_over &
    watcher=$!
    [ -z "$asked" ] || pass_on
    while :; do # a signal interrupts wait
        wait "$launched"
        status=$?
        kill -0 "$launched" 2>/dev/null || break
    done
    kill "$watcher" ${nagger:+"$nagger"} 2>/dev/null
    if [ -s "$HVD_ADAM_VERDICT" ]; then
        status=$(cat "$HVD_ADAM_VERDICT")
        rm -f "$HVD_ADAM_VERDICT"
        exit "$status"
    fi
    case $(end_by_slurm) in
        limit)
            [ "$status" != 75 ] || requeue "stopped at a checkpoint"
            requeue "the time limit came before the ranks had saved themselves"
            ;;
        yes) exit 143 ;; # preempted, cancelled or queued again by hand: what comes next is Slurm's to do
    esac
    case $status in
        0 | 2 | 3 | 4 | 5 | 6 | 130)
            rm -f "$run.tries"
            exit "$status"
            ;;
        75) requeue "stopped at a checkpoint" ;;
    esac
    [ -z "$asked" ] || requeue "ended with $status while it was asked to stop"
    after_a_fault "$status"
}

unset CDPATH # with which cd prints where it went
home=$(cd "$home" && pwd)
# Of an array, the number of one element is that of the whole: scontrol would queue all of them again.
own=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID-}}
own=${own:-$SLURM_JOB_ID}
terminated=''
asked=${asked-}
trap 'terminated=1' TERM # from here on, so that nothing ends this script without a word
forget_outer_job
site=${HVD_ADAM_SITE:-$home/site.sh}
if [ -r "$site" ]; then
    set +u # what a site sources may ask for variables that are not set
    find_module
    # shellcheck source=slurm/site.example.sh
    . "$site" || complain "$site ended with $?" "It sets up the environment of the job" "Correct it; slurm/site.example.sh explains each line"
    set -u +e # a site's own set -e would end this script where the ranks end
elif [ -n "${HVD_ADAM_SITE-}" ]; then
    complain "HVD_ADAM_SITE: $site" "This file cannot be read" "Name a file that all nodes see"
fi

case ${HVD_ADAM_LAUNCHER:=mpirun} in
    */*) launcher=$HVD_ADAM_LAUNCHER ;;
    *) launcher=$home/../launchers/$HVD_ADAM_LAUNCHER ;;
esac
[ -x "$launcher" ] || complain "HVD_ADAM_LAUNCHER: $HVD_ADAM_LAUNCHER" "There is no such launcher: $launcher" "Say mpirun, srun or horovodrun, or the path of your own"
# The launchers put the environment beside the source tree, or the one that they were installed into, first on PATH.
if [ -z "${HVD_ADAM_CONTAINER-}" ] && [ ! -x "$home/../.venv/bin/hvd-adam" ] && [ ! -x "$home/../../../bin/hvd-adam" ] &&
    ! command -v hvd-adam >/dev/null; then
    complain "there is no hvd-adam on $(hostname)" "Neither $(cd "$home/.." && pwd)/.venv nor PATH has it, as seen from there" \
        "Put the environment on a disk that all nodes see: make setup there; or activate it in site.sh"
fi
ranks=${SLURM_NTASKS:-$((${SLURM_JOB_NUM_NODES:-1} * ${SLURM_NTASKS_PER_NODE:-1}))}
