#!/bin/sh
# The first process of a cluster in a box: controller, network, and one box inside for each node. Run by cluster.py in
# namespaces of its own; all that it starts and mounts ends with it.    init.sh FOLDER NODES PACKAGES
set -eu
folder=$1 nodes=$2 packages=$3
here=$(cd "$(dirname "$0")" && pwd)

mount -t tmpfs tmpfs /run
mkdir /run/netns /run/sshd
ln -s "$packages/usr/lib/x86_64-linux-gnu/pmix2/lib" /run/pmix # where packages.py has told Slurm to look for it
mount --bind "$folder/hosts" /etc/hosts
mount --bind "$folder/passwd" /etc/passwd
mount --bind "$folder/resolv.conf" "$(readlink -f /etc/resolv.conf)"
hostname ctl
ip link set lo up
ip link add eth0 type bridge forward_delay 0
ip address add 10.77.0.254/24 dev eth0
ip link set eth0 up

munged --force --socket="$folder/munge/socket" --key-file="$folder/munge/key" --pid-file="$folder/munge/pid" \
    --log-file="$folder/log/munge" --seed-file="$folder/munge/seed" --num-threads=4
if [ -e "$folder/slurmdbd.conf" ]; then
    # A database that asks nobody who he is, behind a socket in this box's own /run.
    mkdir /run/mysqld
    mariadbd --no-defaults --user=root --datadir="$folder/database" --lc-messages-dir="$packages/usr/share/mysql" \
        --character-sets-dir="$packages/usr/share/mysql/charsets" --plugin-dir="$packages/usr/lib/mysql/plugin" \
        --socket=/run/mysqld/mysqld.sock --skip-networking --skip-grant-tables --innodb-buffer-pool-size=64M \
        >"$folder/log/database" 2>&1 &
    while [ ! -S /run/mysqld/mysqld.sock ]; do sleep 0.1; done
    slurmdbd -D >"$folder/log/slurmdbd.out" 2>&1 &
    until sacctmgr -i add cluster box >"$folder/log/sacctmgr" 2>&1; do sleep 0.2; done
fi
slurmctld -D -i >"$folder/log/slurmctld.out" 2>&1 &

k=1
while [ "$k" -le "$nodes" ]; do
    ip netns add "n$k"
    ip link add "v$k" type veth peer name eth0 netns "n$k"
    ip link set "v$k" master eth0 up
    ip -n "n$k" link set lo up
    ip -n "n$k" address add "10.77.0.$k/24" dev eth0
    ip -n "n$k" link set eth0 up
    sh "$here/power_on.sh" "$folder" "n$k"
    k=$((k + 1))
done
: >"$folder/up"
while :; do wait; sleep 1; done
