#!/bin/sh
# The first process of a node: its own name, /dev/shm and /tmp, then sshd and slurmd.    node.sh FOLDER NAME
set -eu
folder=$1 name=$2
hostname "$name"
mount -t tmpfs tmpfs /dev/shm
# A /tmp of its own; folders that all nodes share are put back into it.
mkdir -p "$folder/hold/$name"
mount --rbind /tmp "$folder/hold/$name"
mount -t tmpfs tmpfs /tmp
while read -r shared; do
    case $shared in
        /tmp/*) mkdir -p "$shared" && mount --bind "$folder/hold/$name/${shared#/tmp/}" "$shared" ;;
    esac
done <"$folder/shared"
"$(command -v sshd)" -f "$folder/ssh/sshd_config" -E "$folder/log/sshd-$name" # it wants to be called by its whole path
slurmd -D -N "$name" -d "$(command -v slurmstepd)" & # not the first process: with that one the node would end
while :; do wait; sleep 1; done
