# shellcheck shell=sh
# Copy to slurm/site.sh and keep the lines that your cluster needs. Every job reads it before its ranks start; read it
# yourself before sbatch (". slurm/site.sh"), so that the SBATCH_ lines count too: sbatch has read its options before
# the job runs.

# Where jobs go, and who pays: the same as --partition and --account on sbatch's line, which come before these.
# export SBATCH_PARTITION=normal
# export SBATCH_ACCOUNT=my-project

# What the programs need. The environment that make setup has made beside the source tree is found without a line.
# module load gcc openmpi
# . "$HOME/envs/hvd_adam/bin/activate"

# How ranks are started: mpirun (the default), srun (by PMIx), horovodrun, or the path of a launcher of your own.
# export HVD_ADAM_LAUNCHER=srun
# export HVD_ADAM_PMI=pmix_v4                       # for srun; srun --mpi=list shows what there is

# The network between the nodes, where the fastest is not found by itself: ip -brief address lists the interfaces.
# Reaches Open MPI, UCX, NCCL and Gloo. InfiniBand's own devices: say also export UCX_NET_DEVICES=mlx5_0:1
# export HVD_ADAM_NIC=ib0

# An image that the ranks run in (Apptainer); it holds the environment, and the MPI inside fits the one outside.
# export HVD_ADAM_CONTAINER=/shared/images/hvd_adam.sif
# export HVD_ADAM_CONTAINER_OPTIONS="--nv"          # GPUs

# How often a job may be queued again in all, and in a row after faults that brought no new checkpoint.
# export HVD_ADAM_RESTARTS=100
# export HVD_ADAM_TRIES=3
:
