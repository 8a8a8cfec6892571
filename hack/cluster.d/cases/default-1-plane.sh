# gabion runs whatever asks for no RuntimeClass, the control plane among it, by the policy for kubeadm.
# shellcheck shell=bash disable=SC2154

plane=(etcd kube-apiserver kube-controller-manager kube-scheduler)

kube_system() { k -n kube-system "$@"; }

# Each static pod of the control plane runs, and is hardened where the policy does not name it. The kubelet shows some of them to the API server only
# a minute later: it came up before that did. So containerd is asked.
case_static_control_plane() {
    local name pid runs
    for name in "${plane[@]}"; do
        # One that was restarted has left another container.
        runs=$(ctr -n k8s.io containers ls -q "labels.\"io.kubernetes.container.name\"==$name")
        [[ $(wc -w <<<"$runs") -eq 1 ]]
        pid=$(ctr -n k8s.io task ls | awk -v id="$runs" '$1 == id { print $2 }')
        [[ $(tr '\0' ' ' <"/proc/$pid/cmdline") == "$name "* ]]
        [[ $(status_of "$pid" NoNewPrivs) == 1 ]]
        [[ $(status_of "$pid" Seccomp) == 2 ]]
        [[ $(status_of "$pid" CapEff) == 00000000000004fb ]]
    done
    expect '^ok$' k get --raw /readyz
    expect_soon '^ok$' curl -sSk https://127.0.0.1:10257/healthz
    expect_soon '^ok$' curl -sSk https://127.0.0.1:10259/healthz
}

# A pod that says nothing of a runtime runs, hardened.
case_default_runtime() {
    pod plain 'del(.spec.runtimeClassName)'
    ready plain
    [[ $(status_of "$(process_of plain)" NoNewPrivs) == 1 ]]
    expect 'Read-only file system' inside plain 'touch /x'
    remove pod plain
}

# What the policy lets the control plane do, it lets nobody else do: not by its name in another namespace, and not by another name in its own.
case_intruders() {
    local host_network='del(.spec.runtimeClassName) | .spec.hostNetwork = true'
    pod kube-apiserver-node "$host_network"
    pod other "$host_network | .metadata.namespace = \"kube-system\""
    refused kube-apiserver-node 'namespaces.host-(network|uts)'
    expect_soon 'namespaces.host-(network|uts)' kube_system describe pod other
    remove pod kube-apiserver-node
    remove -n kube-system pod other
}
