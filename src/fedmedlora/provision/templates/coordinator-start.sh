#!/bin/sh
# Runs the coordinator. Ctrl-C or SIGTERM ends it; a service manager may call it as it is.
set -eu
cd "$(dirname "$0")"
PATH="$PWD/.venv/bin:$PATH"
export PATH
exec fedmedlora coordinator start coordinator.toml
