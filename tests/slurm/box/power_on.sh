#!/bin/sh
# Starts a node in the network that it has had from the start.    power_on.sh FOLDER NAME
set -eu
folder=$1 name=$2
here=$(cd "$(dirname "$0")" && pwd)
setsid ip netns exec "$name" unshare --uts --ipc --mount --pid --fork --kill-child --mount-proc \
    sh "$here/node.sh" "$folder" "$name" </dev/null >>"$folder/log/$name.out" 2>&1 &
echo $! >"$folder/pids/$name"
