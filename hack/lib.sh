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
}

# The static probe program of the integration tests, in $probe.
build_probe() {
    RUSTFLAGS="-C target-feature=+crt-static" cargo build -q --manifest-path "$repo/Cargo.toml" \
        --profile dist --target "$host" --target-dir "$target/probe" -p probe
    # shellcheck disable=SC2034  # for those who source this
    probe=$target/probe/$host/dist/probe
}
