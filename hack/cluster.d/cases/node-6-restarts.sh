# Many pods at once, and pods that outlive who started them.
# shellcheck shell=bash disable=SC2154,SC2016

# Fifty pods come up at once, and go, and nothing of them is left.
case_fifty_pods() {
    local before began=$SECONDS
    before=$(ctr -n k8s.io task ls -q | wc -l)
    many gabion 50 | k apply -f - >/dev/null
    k rollout status deployment/many --timeout=170s >/dev/null
    printf 'fifty pods after %s s\n' "$((SECONDS - began))"
    [[ $(pgrep -c -f '^sleep 10050$') -eq 50 ]]
    k delete deployment many --wait=true --cascade=foreground --timeout=100s >/dev/null
    expect_soon '^0$' pgrep -c -f '^sleep 10050$'
    expect_soon "^$before\$" bash -c 'ctr -n k8s.io task ls -q | wc -l'
}

begin() {
    pod stays '.spec.containers[0].command = ["sh", "-c", "while :; do date +%s; sleep 0.2; done"]'
    ready stays
    stays=$(process_of stays)
}

# Whether the same process still runs, talks, and can be entered; and another pod can be started.
goes_on() {
    local lines
    lines=$(k logs stays | wc -l)
    # shellcheck disable=SC2317  # called by within
    more_than() { [[ $(k logs stays | wc -l) -gt $1 ]]; }
    within "$soon" "more of the pod's log" more_than "$lines"
    expect_soon '^0$' of_pod stays '{.status.containerStatuses[0].restartCount}'
    expect_soon '^inside$' inside stays 'echo inside'
    [[ $(process_of stays) == "$stays" && -d /proc/$stays ]]
    pod next
    ready next
    remove pod next
}

ended_by() {
    begin
    stop_daemon "$1" "$2"
    [[ -d /proc/$stays ]]
    "start_$1"
    within "$soon" 'the node' k wait --for=condition=Ready "node/$node_name" --timeout=2s
    # The API server comes to the logs by the kubelet.
    within "$soon" "the kubelet's server" timeout 10 kubectl logs stays --tail=1
    goes_on
    remove pod stays
}

case_containerd_restarted() { ended_by containerd TERM; }
case_containerd_killed() { ended_by containerd KILL; }
case_kubelet_restarted() { ended_by kubelet TERM; }
case_kubelet_killed() { ended_by kubelet KILL; }

# A pod whose shim is killed is started anew.
case_shim_killed() {
    begin
    kill -KILL "$(awk '/^PPid:/ { print $2 }' "/proc/$stays/status")"
    expect_soon '^[1-9]' of_pod stays '{.status.containerStatuses[0].restartCount}'
    ready stays
    expect '^inside$' inside stays 'echo inside'
    [[ ! -d /proc/$stays ]]
    remove pod stays
}
