#!/usr/bin/env bash
# scale-nodes.sh BENCH: what a message costs, and where, when 1, 2 and 3 of three brokers on three NATS servers have clients. The
# cluster is that of cluster.sh, made anew; the load on each node is a generator BENCH of its own, with clients of that node only. So
# on the nodes without load it is seen what it costs to hear of messages that are for nobody there.
#
# SCENARIO (qos1-pairs) and DURATION (4s) are for the generator.
set -euo pipefail
bench=$(realpath "$1")
cd "$(dirname "$0")/.."
export CLUSTER_DATA=${CLUSTER_DATA:-$PWD/cluster-data/scale}
port=${CLUSTER_PORT:-18830}
scenario=${SCENARIO:-qos1-pairs}
tick=$(getconf CLK_TCK)

# ticks NAME: the CPU time, user and system, that a process of the cluster has used.
ticks() {
	local pid
	pid=$(awk -v name="$1" '$2 == name { print $1 }' "$CLUSTER_DATA/pids")
	awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$pid/stat"
}

processes=$(for i in 1 2 3; do echo "nats-$i dunlin-$i"; done)
printf '%-6s %-10s %10s %s\n' nodes process us/msg messages
for nodes in 1 2 3; do
	rm -rf "$CLUSTER_DATA"
	scripts/cluster.sh up >/dev/null
	trap 'scripts/cluster.sh down >/dev/null' EXIT
	declare -A before
	for p in $processes; do before[$p]=$(ticks "$p"); done
	generators=()
	for ((i = 1; i <= nodes; i++)); do
		"$bench" -addr "127.0.0.1:$((port + i))" -scenario "$scenario" -dur "${DURATION:-4s}" -json >"$CLUSTER_DATA/bench-$i.json" &
		generators+=($!)
	done
	for g in "${generators[@]}"; do wait "$g"; done
	messages=$(cat "$CLUSTER_DATA"/bench-*.json | grep -o '"delivered":[0-9]*' | awk -F: '{ n += $2 } END { print n }')
	for p in $processes; do
		awk -v t=$(($(ticks "$p") - before[$p])) -v hz="$tick" -v n="$messages" -v nodes="$nodes" -v p="$p" \
			'BEGIN { printf "%-6d %-10s %10.2f %d\n", nodes, p, t * 1e6 / hz / n, n }'
	done
	scripts/cluster.sh down >/dev/null
	trap - EXIT
done
