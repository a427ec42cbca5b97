#!/usr/bin/env bash
# Instructions a message on the hot path, counted by callgrind: repeatable on any machine, whatever else it does.
# Arguments: how many messages (200000).
set -euo pipefail
cd "$(dirname "$0")/.."
messages=${1:-200000}
if ! command -v valgrind >/dev/null; then
    echo "valgrind is missing: install it with your system's package manager (Debian: apt-get install valgrind)" >&2
    exit 1
fi
cargo build -q --release --locked -p barewire-engine --example cost
printf '%-10s %s\n' part 'instructions a message'
for part in decode book publish packets; do
    counted=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect='cost::measured*' \
        target/release/examples/cost "$part" "$messages" 2>&1)
    total=$(sed -n 's/.*Collected : //p' <<<"$counted")
    count=$(sed -n 's/.*: \([0-9]*\) messages$/\1/p' <<<"$counted")
    printf '%-10s %s\n' "$part" $((total / count))
done
