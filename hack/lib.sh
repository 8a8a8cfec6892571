# Sourced by the other scripts: what they share. Not run by itself.
# shellcheck shell=bash

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=$repo/target
host=$(uname -m)-unknown-linux-gnu

# How what is shipped is linked. Relocations packed: they are a twelfth of the file otherwise, and every start reads and touches them.
# Names with the types in them, which layout.ld goes by.
# shellcheck disable=SC2034  # for those who source this
static="-C symbol-mangling-version=v0 -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs"
musl=$(uname -m)-unknown-linux-musl

# Bold for people; in a log the escapes would be noise.
say() {
    local bold='' plain=''
    [[ ! -t 1 ]] || bold=$'\033[1m' plain=$'\033[0m'
    printf '\n%s== %(%T)T %s%s\n' "$bold" -1 "$*" "$plain"
}
die() { printf '%s\n' "$*" >&2; exit 1; }

# A command line that is wrong.
misuse() { printf '%s\n' "$*" >&2; exit 2; }

# Ends for an option that there is not; the other words are those that there are.
unknown_option() {
    local word=$1 near
    shift
    near=$(printf '%s\n' "$@" | awk -v word="$word" '
        function least(a, b) { return a < b ? a : b }
        function distance(a, b,    i, j, row, last, kept) {
            for (j = 0; j <= length(b); j++) row[j] = j
            for (i = 1; i <= length(a); i++) {
                last = row[0]; row[0] = i
                for (j = 1; j <= length(b); j++) {
                    kept = row[j]
                    row[j] = least(last + (substr(a, i, 1) != substr(b, j, 1)), least(row[j], row[j - 1]) + 1)
                    last = kept
                }
            }
            return row[length(b)]
        }
        { d = distance(word, $0); if (d <= 1 + length($0) / 4 && (near == "" || d < best)) { near = $0; best = d } }
        END { print near }')
    misuse "$0: unknown option $word${near:+; did you mean $near?} ($0 --help)"
}

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
    # A machine that has just come up may be at it by itself.
    local wait=(-o DPkg::Lock::Timeout=300)
    apt-get "${wait[@]}" update -qq
    DEBIAN_FRONTEND=noninteractive apt-get "${wait[@]}" install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# The same for packages that start a service: it stays down. Debian's packages ask policy-rc.d; where the machine has one, that has the word.
need_stopped() {
    local policy=/usr/sbin/policy-rc.d
    if [[ $EUID -ne 0 || -e $policy || -L $policy ]]; then
        need "$@"
        return
    fi
    (
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 0755 "$policy"
        need "$@"
    )
}

# Where this machine has Debian's packages from, in $mirror; GABION_MIRROR says otherwise. apt itself is asked, which knows each form of its
# configuration, and only of what it has seen to be Debian's own. There may be a password in the address: it is not for printing.
find_mirror() {
    mirror=${mirror:-${GABION_MIRROR:-}}
    [[ -z $mirror ]] || return 0
    mirror=$(first_mirror)
    # It has seen nothing before its first update.
    if [[ -z $mirror && $EUID -eq 0 ]]; then
        apt-get -o DPkg::Lock::Timeout=300 update -qq || true
        mirror=$(first_mirror)
    fi
    [[ -n $mirror ]] || { echo "apt has no Debian mirror here: GABION_MIRROR=ADDRESS names one" >&2; return 1; }
}

first_mirror() {
    # shellcheck disable=SC2016  # for apt
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 'Component: main' | sed -n 1p
}

# mmdebstrap's apt is one of its own. While it works it is told what this machine's apt is told about the way to a mirror: proxies,
# certificates, passwords. None of that stays in the root file system.
# shellcheck disable=SC2016,SC2034  # for the hooks' shell; for those who source this
as_machines_apt=(
    --setup-hook='umask 077 && { apt-config dump Acquire | grep -E "^Acquire::(http|https|ftp|Retries|ForceIPv)" || true
        printf "Dir::Etc::%s;\n" "netrc \"/etc/apt/auth.conf\"" "netrcparts \"/etc/apt/auth.conf.d\""
        } >"$1/etc/apt/apt.conf.d/00machine"'
    --customize-hook='rm "$1/etc/apt/apt.conf.d/00machine"'
)

# The last lines of a log of such work, for a message.
last_of() { tail -n 3 "$1" | sed -E 's#//[^/@[:space:]]*@#//#g'; }

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

# gabion is shipped with musl: glibc's start asks the processor some forty times what it can do, each of which a virtual machine traps, and
# takes 0.27 ms longer (docs/BUDGETS.md). The shim starts seldom and stays; glibc gives memory back better.
# Leaves what to build for and with in $shipped and $shipped_flags, and sets what cargo needs for it.
# shellcheck disable=SC2034  # for those who source this
need_for_shipping() {
    local lld
    need_for_building
    shipped=$host shipped_flags=$static
    if ! have_musl || ! fetch_libseccomp; then
        # A slower start is all the difference.
        echo "gabion is built with glibc: for musl it takes \`rustup target add $musl\` and libseccomp's source" >&2
        return
    fi
    build_libseccomp
    shipped=$musl
    # Build scripts, which are for this machine, link the same library: it calls nothing that differs from libc to libc.
    LIBSECCOMP_LIB_PATH=$libseccomp
    # lld, as for $host: layout.ld is by its names.
    lld=$(rustc --print sysroot)/lib/rustlib/$host/bin/gcc-ld
    [[ ! -d $lld ]] || shipped_flags="$static -C link-arg=-fuse-ld=lld -C link-arg=-B$lld"
}

have_musl() {
    [[ ! -d $(rustc --print target-libdir --target "$musl") ]] || return 0
    [[ $(type -t rustup) ]] && rustup -q target add "$musl"
}

# The source of Debian 12's libseccomp, patches and all: what tests are linked with there. Where it goes, and what is made of it, in $libseccomp.
# For a newer one: the version, Debian's revision, both sums.
fetch_libseccomp() {
    local version=2.5.4 revision=1+deb12u1 apt dir
    libseccomp=$target/libseccomp-$version-$revision-$musl
    [[ ! -e $libseccomp/libseccomp.a ]] || return 0
    dir=$libseccomp/apt
    mkdir -p "$libseccomp" || die "$libseccomp cannot be made"
    private_apt bookworm "$dir" deb-src || return 1
    if ! timeout 120 "${apt[@]}" update >&2 ||
        ! (cd "$dir/archives" && timeout 120 "${apt[@]}" source --download-only "libseccomp=$version-$revision" >&2); then
        echo "libseccomp's source cannot be fetched from here" >&2
        return 1
    fi
    mv "$dir/archives/libseccomp_$version.orig.tar.gz" "$libseccomp/source" &&
        mv "$dir/archives/libseccomp_$version-$revision.debian.tar.xz" "$libseccomp/debian" &&
        rm -rf "$dir" &&
        sha256sum --quiet -c - <<END
d82902400405cf0068574ef3dc1fe5f5926207543ba1ae6f8e7a1576351dcbdb  $libseccomp/source
665fc6ad1b9887207b0af1a293a2d7975e2df503a2618d1808b970081f9672f6  $libseccomp/debian
END
}

# libseccomp.a for musl.
build_libseccomp() {
    [[ ! -e $libseccomp/libseccomp.a ]] || return 0
    need musl-tools make gcc gperf patch linux-libc-dev xz-utils
    say "libseccomp for musl"
    compile_libseccomp >"$libseccomp/log" 2>&1 || die "libseccomp for musl does not build: $libseccomp/log"
}

# One chain: where a caller asks how it ended, `set -e` is off. Unpacked anew each time, as ours: an archive's owner is somebody else here.
compile_libseccomp() {
    local from=$libseccomp/unpacked multiarch name
    multiarch=$(gcc -print-multiarch) && rm -rf "$from" && mkdir -m 0700 "$from" &&
        tar -C "$from" --no-same-owner --strip-components=1 -xf "$libseccomp/source" &&
        tar -C "$from" --no-same-owner -xf "$libseccomp/debian" || return 1
    while read -r name; do
        patch -d "$from" -p1 --no-backup-if-mismatch <"$from/debian/patches/$name" || return 1
    done <"$from/debian/patches/series"
    # The kernel's headers are no libc's: after musl's own.
    (cd "$from" && ./configure -q --host="$(uname -m)-linux-musl" --disable-shared --enable-static --disable-python CC=musl-gcc \
        CFLAGS="-O2 -fPIC -fstack-protector-strong -idirafter /usr/include -idirafter /usr/include/$multiarch") &&
        make -s -C "$from/include" &&
        make -s -C "$from/src" libseccomp.la &&
        mv "$from/src/.libs/libseccomp.a" "$libseccomp/libseccomp.a" &&
        rm -rf "$from"
}

# The static probe program of the integration tests, in $probe.
build_probe() {
    RUSTFLAGS="-C target-feature=+crt-static" cargo build -q --manifest-path "$repo/Cargo.toml" \
        --profile dist --target "$host" --target-dir "$target/probe" -p probe
    # shellcheck disable=SC2034  # for those who source this
    probe=$target/probe/$host/dist/probe
}

# Whether gabionctl, the program for people, is a package of its own here.
has_ctl() { [[ -f $repo/runtime/ctl/Cargo.toml ]]; }

# gabion and gabionctl, which gabion looks for beside itself; with more words for cargo.
build_gabion() {
    local packages=(-p gabion)
    ! has_ctl || packages+=(-p gabionctl)
    cargo build -q "${packages[@]}" "$@"
}

# These, their build with faults to inject, and the shim, for tests. The build with faults stands beside the other's libraries, which both share, and
# is put away before that takes its place again.
build_for_tests() {
    local name
    build_gabion --features gabion/faults
    mkdir -p "$target/faults/debug"
    for name in gabion gabionctl; do
        [[ $name == gabion ]] || has_ctl || continue
        cp "$target/debug/$name" "$target/faults/debug/.$name.new"
        mv "$target/faults/debug/.$name.new" "$target/faults/debug/$name"
    done
    build_gabion
    cargo build -q -p containerd-shim-gabion
}

# The runtime's libraries, one a line.
runtime_libraries() {
    cargo metadata --format-version 1 --no-deps --locked --offline |
        jq -r --arg below "$repo/runtime/" '.packages[] | select((.manifest_path | startswith($below)) and (.name | startswith("gabion")))
            | select(any(.targets[]; .kind | index("lib"))) | .name'
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

# Fills $apt with an apt-get of its own for a Debian suite (`deb`, or `deb-src` for sources), which keeps everything below a new directory.
# Its way to the mirror is the machine's. No mirror is known: the function says so and fails.
private_apt() {
    local suite=$1 dir=$2 kind=${3:-deb} mirror=''
    need dpkg debian-archive-keyring
    find_mirror || return 1
    rm -rf "$dir"
    mkdir -p "$dir"/{lists/partial,archives/partial,root}
    : >"$dir/status"
    printf '%s [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$kind" "$mirror" "$suite" >"$dir/sources.list"
    # A mirror's index of sid may be a few days old.
    apt=(apt-get -qq -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$dir/lists"
        -o Dir::Cache::archives="$dir/archives" -o Dir::State::status="$dir/status" -o Acquire::Check-Valid-Until=false
        -o APT::Sandbox::User=root -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
}

# Unpacks what was fetched into the directory's root.
unpack() {
    local dir=$1 package
    for package in "$dir"/archives/*.deb; do dpkg-deb -x "$package" "$dir/root"; done
}

# crun of Debian sid beside its libraries, in target/bench: the path of a program that needs nothing of this machine's, in $crun_sid.
# Not reachable: the function says so and fails.
fetch_crun_sid() {
    local dir=$target/bench/sid apt
    crun_sid=$dir/crun-sid
    [[ ! -x $crun_sid ]] || return 0
    need patchelf
    private_apt sid "$dir" || return 1
    if ! timeout 120 "${apt[@]}" update >&2 || ! timeout 120 "${apt[@]}" -y --no-install-recommends --download-only install crun >&2; then
        echo "crun of Debian sid cannot be fetched from here" >&2
        return 1
    fi
    unpack "$dir"
    local libraries=$dir/root/usr/lib/x86_64-linux-gnu
    cp "$dir/root/usr/bin/crun" "$crun_sid.new"
    # The kernel loads its own loader, and that its own libraries: no wrapper to be timed.
    patchelf --set-interpreter "$libraries/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$libraries" "$crun_sid.new"
    mv "$crun_sid.new" "$crun_sid"
}

# containerd of another Debian suite, in target/containerd: its programs' directory in $containerd_bin.
# Not reachable, or not for this machine's libc: the function says so and fails.
fetch_containerd() {
    local suite=$1 dir=$target/containerd/$1 apt
    containerd_bin=$dir/root/usr/bin
    if [[ ! -x $containerd_bin/containerd ]]; then
        private_apt "$suite" "$dir" || return 1
        if ! timeout 120 "${apt[@]}" update >&2 || ! (cd "$dir/archives" && timeout 120 "${apt[@]}" download containerd >&2); then
            echo "containerd of Debian $suite cannot be fetched from here" >&2
            return 1
        fi
        unpack "$dir"
    fi
    "$containerd_bin/containerd" --version
}

# Docker of another Debian suite with its containerd, its clients and their plugins, in target/docker: where they are unpacked in $docker_root.
# runc stays this machine's. Not reachable, or not for this machine's libc: the function says so and fails.
fetch_docker() {
    local suite=$1 dir=$target/docker/$1 apt
    docker_root=$dir/root
    if [[ ! -x $docker_root/usr/sbin/dockerd ]]; then
        private_apt "$suite" "$dir" || return 1
        if ! timeout 120 "${apt[@]}" update >&2 ||
            ! (cd "$dir/archives" && timeout 300 "${apt[@]}" download docker.io docker-cli docker-compose docker-buildx containerd >&2); then
            echo "Docker of Debian $suite cannot be fetched from here" >&2
            return 1
        fi
        unpack "$dir"
    fi
    "$docker_root/usr/sbin/dockerd" --version && "$docker_root/usr/bin/containerd" --version
}

# The root file system with stock services that their tests share, below target/services: its directory in $services_root.
# No package can be had: the function says so and fails.
build_services_root() {
    local image=$repo/integration/tests/services/image key new cache=$target/services
    key=$(tar -C "$image" --sort=name --mtime=@0 --owner=0 --group=0 -cf - . | sha256sum | cut -c1-16)
    services_root=$cache/$key
    [[ ! -d $services_root ]] || return 0
    need mmdebstrap debian-archive-keyring
    mkdir -p "$cache"
    # Two runs that start together make it once.
    exec 9>"$cache/lock"
    flock 9
    if [[ ! -d $services_root ]]; then
        say "making a root file system with stock services (two minutes, once)"
        new=$(mktemp -d "$cache/new.XXXXXX")
        # In a mount namespace of its own: interrupted, it leaves no mount.
        # shellcheck disable=SC2016  # for the inner shell
        if ! unshare --mount timeout "${GABION_SERVICES_LIMIT:-900}" bash -c 'set -euo pipefail; source "$1/hack/lib.sh"; source "$2/recipe"; make_services_root "$3"' \
            services "$repo" "$image" "$new/root" >"$cache/log" 2>&1; then
            echo "the services' root file system could not be made: $(last_of "$cache/log") (all of it: $cache/log)" >&2
            rm -rf --one-file-system "$new"
            exec 9>&-
            return 1
        fi
        # Those of older recipes.
        find "$cache" -mindepth 1 -maxdepth 1 -type d ! -path "$new" -exec rm -rf --one-file-system {} +
        mv "$new/root" "$services_root"
        rmdir "$new"
    fi
    exec 9>&-
    [[ -d $services_root ]]
}

# The static program that does the kernel's share of a start, in $floor.
build_floor() {
    RUSTFLAGS="-C target-feature=+crt-static" cargo build -q --manifest-path "$repo/Cargo.toml" \
        --profile dist --target "$host" --target-dir "$target/probe" -p floor
    # shellcheck disable=SC2034  # for those who source this
    floor=$target/probe/$host/dist/floor
}
