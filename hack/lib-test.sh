# Sourced by hack/test: its suites. Each runs in a process of its own, with the tests' names in $@.
# shellcheck shell=bash disable=SC2154  # variables of hack/test
#
# A new one: a function suite_NAME, and NAME in one of hack/test's lists. It ends with 0 where all went well; what it cannot have here it leaves
# out by `left_out WHY`.

# A handful of real containers needs no more than this.
suite_build-quick() {
    need_for_building
    [[ $EUID -ne 0 ]] || need busybox-static util-linux
    build_probe
    build_gabion
}

suite_build() {
    need_for_building
    need busybox-static util-linux jq curl
    # The same cases run on these, and the real callers call gabion.
    need runc crun conmon podman containerd containernetworking-plugins uidmap
    build_probe
    build_for_tests
}

# Unit and golden tests: no container, and no root.
suite_unit() {
    local code=0
    cargo test -q --no-fail-fast --workspace --exclude integration --exclude probe --exclude containerd-shim-gabion -- "$@" || code=$?
    cargo test -q --no-fail-fast -p containerd-shim-gabion --lib --bins -- "$@" || code=$?
    return "$code"
}

# What most changes would break: a life, what an image and a caller may try, and the kernel's answer for some of the controls.
suite_handful() {
    [[ $EUID -eq 0 ]] || left_out "real containers need root"
    local names=("$@")
    [[ $# -gt 0 ]] || names=(life:: capabilities:: masked_paths:: no_new_privs:: rootfs:: seccomp::)
    cargo test -q --no-fail-fast -p integration --test lifecycle --test controls -- "${names[@]}"
}

# The shim on this machine's containerd, and on others.
suite_shim() { cargo test -q --no-fail-fast -p containerd-shim-gabion --test '*' -- "$@"; }
suite_shim-trixie() { shim_on trixie "$@"; }
suite_shim-sid() { shim_on sid "$@"; }
shim_on() {
    local containerd_bin
    fetch_containerd "$1" || left_out "containerd of Debian $1 cannot be had, or does not run here"
    GABION_CONTAINERD=$containerd_bin cargo test -q --no-fail-fast -p containerd-shim-gabion --test lifecycle --test cri -- "${@:2}"
}

# The real Docker of this machine's Debian is in the suite integration; these are others'. A day's commands beside runc take a minute each:
# hack/test --suite docker-trixie -- day
suite_docker-trixie() { docker_of trixie "$@"; }
suite_docker-sid() { docker_of sid "$@"; }
docker_of() {
    local docker_root tests=(stock remapped life)
    (need_stopped docker.io) || left_out "this machine has no Docker whose place another could take"
    fetch_docker "$1" || left_out "Docker of Debian $1 cannot be had, or does not run here"
    [[ $# -eq 1 ]] || tests=("${@:2}")
    GABION_DOCKER_ROOT=$docker_root cargo test -q --no-fail-fast -p integration --test docker -- "${tests[@]}"
}

# Stock services.
suite_services() {
    local services_root
    build_services_root || left_out "their root file system cannot be made from Debian's packages"
    GABION_SERVICES_ROOT=$services_root cargo test -q --no-fail-fast -p integration --test services -- "$@"
}

# All but the services, which have a suite of their own. --no-fail-fast: one broken control must not hide the others.
suite_integration() {
    local file programs=()
    # Its tests say so where it cannot be had.
    (need_stopped docker.io) || echo "docker.io cannot be had here" >&2
    for file in integration/tests/*; do
        [[ $file == */services ]] || programs+=(--test "$(basename "$file" .rs)")
    done
    cargo test -q --no-fail-fast -p integration --lib --bins "${programs[@]}" -- "$@"
}

# With the libc of what is shipped.
suite_shipped-unit() {
    local packages
    need_for_shipping
    [[ $shipped != "$host" ]] || left_out "what is shipped has the libc that all tests have"
    mapfile -t packages < <(runtime_libraries)
    # One at a time, as gabion has one thread: a clone beside others copies musl's allocator as one of them has it locked, and waits for ever.
    cargo test -q --no-fail-fast --target "$shipped" "${packages[@]/#/-p}" --lib -- --test-threads=1 "$@"
}

# Another libc, other optimisations: the same cases on the binary that nodes get.
suite_shipped() {
    hack/build
    GABION_BIN=$target/dist/gabion cargo test -q --no-fail-fast -p integration --test lifecycle --test controls --test attacks --test compat \
        --test crash --test remedies --test learn --test callers -- "$@"
}

# A Kubernetes node in namespaces of its own: the shipped programs, installed as docs/INSTALL.md says, under a real kubelet.
suite_cluster() {
    hack/build
    hack/cluster fetch || left_out "Kubernetes' programs cannot be had here; GABION_KUBE=DIR names them"
    hack/cluster test -- "$@"
}

# What this machine most often does not have: cgroup v2, systemd, AppArmor, SELinux; and Debian's newest of everything.
suite_node-trixie() { in_node trixie "$@"; }
suite_node-selinux() { in_node selinux "$@"; }
suite_node-sid() { in_node sid "$@"; }
suite_all-trixie() { in_node trixie --all "$@"; }
suite_all-selinux() { in_node selinux --all "$@"; }
suite_all-sid() { in_node sid --all "$@"; }

# An emulated machine dies now and then, which says nothing of gabion; one that does twice is a failure.
in_node() {
    local node=$1 code=0
    shift
    { need qemu-system-x86 mmdebstrap && hack/node build "$node"; } || left_out "no emulator or no image of the node can be had here"
    [[ ${1:-} != --all ]] || export GABION_NODE_LIMIT=${GABION_NODE_LIMIT:-14400}
    hack/node run "$node" -- hack/node.d/suite "$@" || code=$?
    if [[ $code -eq 125 ]]; then
        echo "THE NODE $node DIED, see above: once more" >&2
        code=0
        hack/node run "$node" -- hack/node.d/suite "$@" || code=$?
    fi
    return "$code"
}

# Half an hour of new inputs for each parser.
suite_soak() {
    [[ $# -eq 0 ]] || left_out "it knows no names of tests"
    hack/fuzz 1800
}
