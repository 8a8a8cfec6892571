# Sourced by the other scripts: what they share. Not run by itself.
# shellcheck shell=bash

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=$repo/target
host=$(uname -m)-unknown-linux-gnu

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

as_root() { [[ $EUID -eq 0 ]] || die "$0: needs root (containers with their own cgroups and mounts)"; }

# Installs only what is missing: a second run must not wait for apt.
need() {
    local missing=() package
    for package in "$@"; do
        [[ $(dpkg-query -Wf '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    [[ $EUID -eq 0 ]] || die "missing packages, and only root can install them: ${missing[*]}"
    say "apt-get install ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# rustup puts cargo where only a login shell finds it.
need_cargo() {
    [[ $(type -t cargo) ]] || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    [[ $(type -t cargo) ]] || die "no cargo: install the Rust toolchain from https://rustup.rs"
}

# libseccomp.a and its header, and a linker.
need_for_building() {
    need gcc libc6-dev libseccomp-dev pkg-config
    need_cargo
    # Its place is another one on each architecture; what stands in .cargo/config.toml is x86_64's.
    LIBSECCOMP_LIB_PATH=$(pkg-config --variable=libdir libseccomp)
    export LIBSECCOMP_LIB_PATH
}

# The static probe program of the integration tests, in $probe.
build_probe() {
    RUSTFLAGS="-C target-feature=+crt-static" cargo build -q --manifest-path "$repo/Cargo.toml" \
        --profile dist --target "$host" --target-dir "$target/probe" -p probe
    # shellcheck disable=SC2034  # for those who source this
    probe=$target/probe/$host/dist/probe
}

# crun refuses a hybrid machine whose hugetlb controller is only on cgroup v2. Runs a command with that controller mounted
# as v1 in a mount namespace of its own, and gives the controller back. Elsewhere just runs the command.
with_hugetlb() {
    local at=/sys/fs/cgroup/hugetlb code=0 try
    if [[ ! -d /sys/fs/cgroup/unified || -d $at ]]; then
        "$@"
        return
    fi
    mkdir "$at"
    # shellcheck disable=SC2016  # for the inner shell
    unshare --mount bash -c 'mount -t cgroup -o hugetlb cgroup "$0" && "$@"' "$at" "$@" || code=$?
    # The kernel gives it back a moment later; but a hierarchy that was unmounted while its last cgroup was still on its
    # way out stays: mounting and unmounting it once more frees it.
    for try in {1..30}; do
        [[ $(awk '$1 == "hugetlb" {print $2}' /proc/cgroups) != 0 ]] || break
        sleep 0.1
        [[ $((try % 10)) -ne 0 ]] || unshare --mount mount -t cgroup -o hugetlb cgroup "$at" || true
    done
    rmdir "$at"
    return "$code"
}
