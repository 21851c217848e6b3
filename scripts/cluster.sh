#!/usr/bin/env bash
# cluster.sh up|down: the topology of docker-compose.yml as processes on this machine's loopback address, without the balancer:
# three NATS servers that are one cluster, and three brokers that use it.
#
# The programs dunlin and nats-server are in CLUSTER_BIN (./bin). CLUSTER_DATA (./cluster-data) holds the data and the logs, which
# stay, and the file "pids" while the cluster is up. CLUSTER_PORT (18830) is what the ports are counted from.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${CLUSTER_BIN:-$root/bin}
mkdir -p "${CLUSTER_DATA:=$root/cluster-data}"
data=$(cd "$CLUSTER_DATA" && pwd)
port=${CLUSTER_PORT:-18830}
pids=$data/pids
patience=60 # seconds until everything is up, or one process has ended

mqtt() { echo "127.0.0.1:$((port + $1))"; }
websocket() { echo "127.0.0.1:$((port + 10 + $1))"; }
nats() { echo "127.0.0.1:$((port + 20 + $1))"; }
route() { echo "127.0.0.1:$((port + 30 + $1))"; }
monitoring() { echo "127.0.0.1:$((port + 40 + $1))"; }

# three SCHEME FUNCTION: the URLs of all three, separated by commas.
three() { echo "$1://$($2 1),$1://$($2 2),$1://$($2 3)"; }

# ours PID: whether the process runs and is of this cluster. Each has a directory of it among its arguments, which no process
# that was given the same identifier later has.
ours() { [[ $(ps -o args= -p "$1" 2>/dev/null) == *"$data/"* ]]; }

# begin NAME COMMAND...: starts a process that outlives this script and its terminal.
begin() {
	local name=$1
	shift
	set -m # a process group of its own
	"$@" >"$data/$name.log" 2>&1 </dev/null &
	set +m
	echo "$! $name" >>"$pids"
}

# await NAME COMMAND...: waits until the command succeeds, while the process lives.
await() {
	local name=$1 pid
	shift
	pid=$(awk -v name="$name" '$2 == name { print $1 }' "$pids")
	until "$@" >/dev/null 2>&1; do
		if ! ours "$pid" || ((SECONDS > patience)); then
			{
				echo "$name does not come up; the end of $data/$name.log:"
				tail -n 5 "$data/$name.log"
			} >&2
			down
			exit 1
		fi
		sleep 0.2
	done
}

# accepts ADDRESS: whether somebody listens there.
accepts() (exec 3<>"/dev/tcp/${1/://}") 2>/dev/null

# nats_is_healthy N: whether the server takes part in the JetStream of its cluster.
nats_is_healthy() (
	at=$(monitoring "$1")
	exec 3<>"/dev/tcp/${at/://}"
	printf 'GET /healthz?js-meta-only=true HTTP/1.0\r\n\r\n' >&3
	read -r -t 2 _ status _ <&3
	[ "$status" = 200 ]
)

up() {
	if [ -e "$pids" ]; then
		while read -r pid name; do
			if ours "$pid"; then
				echo "$name runs already (process $pid); end the cluster with: make cluster-down" >&2
				exit 1
			fi
		done <"$pids"
		rm "$pids"
	fi
	local n kind
	for n in 1 2 3; do
		for kind in mqtt websocket nats route monitoring; do
			if accepts "$($kind $n)"; then
				echo "somebody else listens on $($kind $n); count the ports from another one with CLUSTER_PORT" >&2
				exit 1
			fi
		done
	done
	for n in 1 2 3; do
		begin "nats-$n" "$bin/nats-server" --name "nats-$n" --jetstream --store_dir "$data/nats-$n" \
			--addr 127.0.0.1 --port "$((port + 20 + n))" --http_port "$((port + 40 + n))" \
			--cluster_name dunlin --cluster "nats://$(route $n)" --routes "$(three nats route)"
	done
	for n in 1 2 3; do
		await "nats-$n" nats_is_healthy $n
	done
	for n in 1 2 3; do
		mkdir -p "$data/dunlin-$n"
		echo "dunlin-$n" >"$data/dunlin-$n/node" # what it calls itself
		begin "dunlin-$n" "$bin/dunlin" serve --nats "$(three nats nats)" --data-dir "$data/dunlin-$n" \
			--mqtt-listen "$(mqtt $n)" --ws-listen "$(websocket $n)" --set storage.replicas=3
	done
	for n in 1 2 3; do
		await "dunlin-$n" "$bin/dunlin" health --mqtt "$(mqtt $n)" --timeout 2s
	done
	for n in 1 2 3; do
		echo "dunlin-$n  mqtt $(mqtt $n)  ws://$(websocket $n)/mqtt    nats-$n  nats://$(nats $n)  monitoring http://$(monitoring $n)"
	done
	echo "data, logs and process identifiers: $data"
}

# gone PID: waits ten seconds until the process has ended.
gone() {
	local tries
	for ((tries = 0; tries < 100; tries++)); do
		ours "$1" || return 0
		sleep 0.1
	done
	return 1
}

# down ends the brokers before the servers that they use.
down() {
	if [ ! -e "$pids" ]; then
		echo "no cluster is up in $data" >&2
		return
	fi
	local kind pid name
	for kind in dunlin nats; do
		while read -r pid name; do
			if [[ $name == "$kind"-* ]] && ours "$pid"; then
				kill "$pid"
			fi
		done <"$pids"
		while read -r pid name; do
			[[ $name == "$kind"-* ]] || continue
			if gone "$pid"; then
				continue
			fi
			kill "$pid" # of a broker that waits until its clients have left, a second signal is the end
			if ! gone "$pid"; then
				echo "$name (process $pid) does not end, and is killed" >&2
				kill -KILL "$pid"
			fi
		done <"$pids"
	done
	rm "$pids"
}

case ${1:-} in
up) up ;;
down) down ;;
*)
	echo "usage: $0 up|down" >&2
	exit 2
	;;
esac
