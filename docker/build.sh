#!/usr/bin/env bash
# Installs what the images need and builds the binaries. The Dockerfiles run this script, and so does
# `cargo xtask test --only image-build`: what continuous integration proves is what an image does.
#
#   build.sh build-packages      what is needed to compile
#   build.sh runtime-packages    what the dataplane needs to run: DPDK's drivers
#   build.sh binaries            compiles the three binaries into $OUT
#   build.sh all                 all of the above
#
# PROFILE is cargo's profile (release), OUT the folder for the binaries (none: they stay in cargo's).
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${PROFILE:-release}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    # What is there stays as it is: on a developer's machine this is no upgrade.
    apt-get install -y -q --no-upgrade --no-install-recommends "$@"
    # In an image the lists are dead weight; elsewhere they are somebody's.
    if [ -n "${IMAGE:-}" ]; then rm -rf /var/lib/apt/lists/*; fi
}

build_packages() {
    install_packages build-essential ca-certificates clang libclang-dev libdpdk-dev pkg-config
}

runtime_packages() {
    install_packages dpdk ethtool iproute2 librte-meta-bus librte-meta-mempool librte-meta-net
}

binaries() {
    cargo build --locked --profile "$profile" -p millrace-worker -p millrace-daemon -p millrace-cli
    if [ -n "${OUT:-}" ]; then
        mkdir -p "$OUT"
        local built=${CARGO_TARGET_DIR:-target}/$profile
        install -m 0755 "$built/millrace-dataplane" "$built/millrace-control" "$built/millrace" "$OUT"
    fi
}

case "${1:-}" in
    build-packages) build_packages ;;
    runtime-packages) runtime_packages ;;
    binaries) binaries ;;
    all)
        build_packages
        runtime_packages
        binaries
        ;;
    *)
        echo "usage: $0 build-packages|runtime-packages|binaries|all" >&2
        exit 2
        ;;
esac
