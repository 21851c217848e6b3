#!/bin/sh
# compare.sh BENCH RESULTS: compares the brokers of peers/brokers.txt whose programs are on PATH, with the generator BENCH.
# SCENARIOS, ROUNDS and DURATION say how. The results are written to RESULTS, one a line; the tables go to standard output.
set -eu
bench=$(realpath "$1")
results=$(realpath -m "$2")
scenarios=${SCENARIOS:-qos0-pairs,qos0-fanout,qos1-pairs,qos1-fanout,qos1-fanin,qos2-pairs,offline-drain,latency}
peers=$(realpath "$(dirname "$0")/peers")

work=$(mktemp -d "$(dirname "$results")/bench.XXXXXX") # beside the results, since /tmp may be no disk
trap 'rm -rf "$work"' EXIT
cp -r "$peers" "$work/peers"
cd "$work"
grep -v '^#' peers/brokers.txt | while IFS='|' read -r name port dir command; do
	if command -v "${command%% *}" >/dev/null; then
		echo "$name|$port|$dir|$command"
	else
		echo "without $name: no ${command%% *} on PATH" >&2
	fi
done >brokers.txt

rm -f "$results"
status=0
"$bench" compare -brokers brokers.txt -rounds "${ROUNDS:-3}" -out "$results" \
	-scenarios "$(echo "$scenarios" | sed -E "s/(^|,)([^ ,]+)/\1\2 -dur ${DURATION:-3s}/g")" || status=$?
printf '\n## Summary\n\n'
"$bench" summary "$results"
exit $status
