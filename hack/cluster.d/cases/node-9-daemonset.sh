# hack/manifests/install.yaml: gabion comes to a node by a label, and goes by another one. Last: it takes away what the other cases have.
# shellcheck shell=bash disable=SC2154,SC2016

# The node of hack/cluster has no systemd: what would restart containerd leaves a word instead, and the case does it.
restart_when_asked() {
    within "$soon" "$1" test -e /run/cluster/restart
    stop_daemon containerd
    rm /run/cluster/restart
    start_containerd
}

in_system() { k -n gabion-system "$@"; }

case_daemon_set() {
    local archive
    archive=$(mktemp /run/cluster/image.XXXXXX)
    # What a case left that failed.
    remove pod --all
    "$repo/hack/image" --from /usr/local/bin "$archive"
    "$repo/hack/uninstall" >/dev/null
    stop_daemon containerd
    start_containerd
    [[ ! -e /usr/local/bin/gabion ]]
    ctr -n k8s.io images import "$archive" >/dev/null
    sed 's|value: systemctl restart containerd|value: touch /run/cluster/restart|' "$repo/hack/manifests/install.yaml" | k apply -f - >/dev/null

    # The RuntimeClass knows where gabion is.
    pod early
    expect_soon "didn't match Pod's node affinity/selector" events early
    k label node "$node_name" gabion.dev/node=install >/dev/null
    restart_when_asked 'the installation'
    in_system rollout status daemonset/gabion-install --timeout="${soon}s" >/dev/null
    ready early
    [[ $(status_of "$(process_of early)" NoNewPrivs) == 1 ]]

    # It does not go before its last container.
    k label node "$node_name" gabion.dev/node=remove --overwrite >/dev/null
    expect_soon 'there are containers of gabion' in_system logs -l app=gabion-remove
    [[ -x /usr/local/bin/gabion ]]
    remove pod early
    restart_when_asked 'the removal'
    in_system rollout status daemonset/gabion-remove --timeout="${soon}s" >/dev/null
    for path in /usr/local/bin/gabion /usr/local/bin/containerd-shim-gabion-v2 /etc/containerd/conf.d/gabion.toml /var/lib/gabion-install /var/lib/gabion/installed; do
        [[ ! -e $path ]]
    done
    k label node "$node_name" gabion.dev/node- >/dev/null
    k delete namespace gabion-system --wait=true --timeout=80s >/dev/null
}
