#!/usr/bin/env bash
# Runs the benchmark on a Linux x86-64 machine that has g++ but no package registry. Carry there (see bench/README.md):
#   package.json dist src scripts bench wasm node_modules/{node-api-headers,valibot,@huggingface/tokenizers}
# and a `node` binary, 20.19 or later. Two cores are used: CORES says which.
#   NODE=./node CORES=0,1 bench/remote.sh [options of npm run bench]
set -euo pipefail
cd "$(dirname "$0")/.."
node=${NODE:-$(command -v node || echo ./node)}
cores=${CORES:-0,1}

ELAPID_REQUIRE_NATIVE=1 "$node" scripts/build-native.mjs
exec taskset -c "$cores" "$node" bench/run.mjs --threads "$(tr ',' '\n' <<<"$cores" | wc -l)" --json build/bench.json "$@"
