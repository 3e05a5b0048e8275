#!/usr/bin/env bash
# Starts one of the two processes from one configuration file.
#
#   entrypoint.sh dataplane|control [FILE]
set -euo pipefail

role=${1:?which process: dataplane or control}
file=${2:-/etc/millrace/millrace.toml}

# A mistake in the file is told with its line before anything starts.
millrace check "$file"

case "$role" in
    dataplane)
        mapfile -t arguments < <(millrace dataplane-args --config "$file")
        exec millrace-dataplane "${arguments[@]}"
        ;;
    control)
        exec millrace-control --config "$file"
        ;;
    *)
        echo "entrypoint.sh: no process is called $role" >&2
        exit 2
        ;;
esac
