# Sourced by what runs in the node of hack/cluster.
# shellcheck shell=bash disable=SC2154,SC2034  # variables of hack/lib.sh, and for those who source this

cluster=$target/cluster
logs=$cluster/logs
node_name=node
node_address=10.88.0.1
pods_network=10.88.1.0/24
services_network=10.96.0.0/16
pki=/etc/kubernetes/pki

export PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin
export KUBECONFIG=/etc/kubernetes/admin.conf
# Not in the caller's home, which is this machine's.
export KUBECACHEDIR=/run/cluster/kubectl

# Waits until a command, which has an end of its own, succeeds; says what did not come, and fails, after so many seconds.
within() {
    local limit=$1 what=$2 until=$((SECONDS + $1))
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < until)) || { printf '%s: not within %s s\n' "$what" "$limit" >&2; return 1; }
        sleep 0.2
    done
}

# Starts a program that stays: its number in /run/cluster/NAME, what it says in NAME.log.
daemon() {
    local name=$1
    shift
    setsid "$@" >>"$logs/$name" 2>&1 </dev/null &
    printf '%s\n' "$!" >"/run/cluster/$name"
}

# Ends it: by this signal, and after twenty seconds by SIGKILL.
stop_daemon() {
    local pid signal=${2:-TERM} until=$((SECONDS + 20))
    pid=$(<"/run/cluster/$1")
    kill -s "$signal" "$pid"
    while [[ -d /proc/$pid ]]; do
        ((SECONDS < until)) || kill -KILL "$pid" || true
        sleep 0.1
    done
}

# With its shims and their runtimes it has a cgroup of its own, in which their time is counted.
start_containerd() {
    local at=/sys/fs/cgroup
    [[ -e $at/cgroup.controllers ]] || at=$at/cpuacct
    # shellcheck disable=SC2016  # for the inner shell
    daemon containerd bash -euc 'mkdir -p "$0/engine"; echo $$ >"$0/engine/cgroup.procs"; exec containerd --log-level info' "$at"
    within 30 containerd ctr --timeout 5s --connect-timeout 5s version
}

# The kubelet wants some settings of the kernel's that no namespace has: in its own view they are so already, and this machine's stay.
start_kubelet() {
    # shellcheck disable=SC2016  # for the inner shell
    daemon kubelet unshare --mount --propagation unchanged bash -euc '
        mount --make-private /proc
        while read -r name value; do
            mkdir -p "$(dirname "/run/cluster/sys/$name")"
            echo "$value" >"/run/cluster/sys/$name"
            mount --bind "/run/cluster/sys/$name" "/proc/sys/$name"
        done <<<"$0"
        exec kubelet --config=/etc/kubernetes/kubelet.yaml --kubeconfig=/etc/kubernetes/kubelet.conf --hostname-override="$1" --node-ip="$2" --v=2' \
        'vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000' "$node_name" "$node_address"
    within 60 'the kubelet' curl -fsS --max-time 5 http://127.0.0.1:10248/healthz
}
