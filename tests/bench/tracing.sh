#!/bin/sh
# What tracing costs a cold run, and what looking for changes costs: one line each.
set -eu
cd "$(dirname "$0")/../.."
exec cargo test --release --quiet -p rootbuild-playbooks --test overhead -- --ignored --nocapture --test-threads 1
