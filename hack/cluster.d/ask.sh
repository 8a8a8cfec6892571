# Sourced by hack/cluster.d/tests: how its cases ask the cluster. Each wait has an end.
# shellcheck shell=bash disable=SC2154  # variables of hack/cluster.d/lib.sh

pods=$repo/hack/cluster.d/pods
# Seconds for what takes a moment: the machine may be busy.
soon=90

k() { timeout 120 kubectl "$@"; }

apply() {
    local name
    for name in "$@"; do k apply -f "$pods/$name.yaml" >/dev/null; done
}

# Ends pods at once, and waits until the kubelet has.
remove() { k delete --now --wait=true --timeout=80s "$@" >/dev/null; }

# Whether what a command says matches. One that ends with an error may, too: refusals do.
expect() {
    local want=$1 said
    shift
    said=$("$@" 2>&1) || true
    [[ $said =~ $want ]] || { printf 'wanted «%s» of: %s\nit said: %s\n' "$want" "$*" "$said"; return 1; }
}

# The same, once it comes to be so.
expect_soon() {
    local want=$1 until=$((SECONDS + soon))
    shift
    until expect "$want" "$@" >/dev/null; do
        ((SECONDS < until)) || { expect "$want" "$@"; return 1; }
        sleep 0.3
    done
}

ready() {
    local name
    for name in "$@"; do
        k wait --for=condition=Ready "pod/$name" --timeout="${soon}s" >/dev/null || { k describe "pod/$name" | tail -n 25; return 1; }
    done
}

of_pod() { k get pod "$1" -o "jsonpath=$2"; }

ended() { expect_soon "^${2:-Succeeded}\$" of_pod "$1" '{.status.phase}'; }

# Runs a line of shell in a pod's container.
inside() {
    local pod=$1
    shift
    k exec "$pod" -- sh -c "$@"
}

# What `kubectl describe` says below Events.
events() { k describe pod "$1" | sed -n '/^Events:/,$p'; }

# Whether gabion refused a pod with this code, and the event says why and what to do.
refused() {
    local pod=$1 code=$2
    expect_soon "\\[?$code" events "$pod"
    expect "remedy: " events "$pod"
}

# A pod of one container, for changes by jq: NAME [FILTER].
pod() {
    jq -n --arg name "$1" '{
        apiVersion: "v1", kind: "Pod", metadata: {name: $name},
        spec: {
            runtimeClassName: "gabion", terminationGracePeriodSeconds: 1,
            containers: [{name: "main", image: "localhost/tools:1", command: ["sleep", "10000"]}]
        }
    } | '"${2:-.}" | k apply -f - >/dev/null
}

# The number of a pod's first process, as the node sees it.
process_of() {
    local id
    id=$(of_pod "$1" '{.status.containerStatuses[0].containerID}')
    ctr -n k8s.io task ls | awk -v id="${id#containerd://}" '$1 == id { print $2 }'
}

status_of() { awk -v key="$2:" '$1 == key { print $2 }' "/proc/$1/status"; }

# The policy is given back when the case ends, however it does; or by the case itself.
keep_policy() {
    cp /etc/gabion/policy.toml /run/cluster/policy.kept
    trap give_policy_back EXIT
}
give_policy_back() {
    cat /run/cluster/policy.kept >/etc/gabion/policy.toml
    trap - EXIT
}

# HANDLER COUNT: so many pods that do nothing.
many() {
    jq -n --arg handler "$1" --argjson count "$2" '{
        apiVersion: "apps/v1", kind: "Deployment", metadata: {name: "many"},
        spec: {
            replicas: $count, selector: {matchLabels: {app: "many"}},
            template: {
                metadata: {labels: {app: "many"}},
                spec: {
                    runtimeClassName: $handler, terminationGracePeriodSeconds: 1,
                    containers: [{name: "main", image: "localhost/tools:1", command: ["sleep", "10050"]}]
                }
            }
        }
    }'
}
