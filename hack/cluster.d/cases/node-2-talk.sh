# What people do with a running pod.
# shellcheck shell=bash disable=SC2154,SC2016

case_exec() {
    pod exec
    ready exec
    expect 'exit code 7' inside exec 'exit 7'
    [[ $(printf 'over stdin' | k exec -i exec -- cat) == 'over stdin' ]]
    expect '/dev/pts/' script -qec 'kubectl exec -it exec -- tty' /dev/null
    # It is as hardened as the container is.
    expect '^CapEff:[[:space:]]00000000000004fb$' inside exec 'grep CapEff /proc/self/status'
    expect '^NoNewPrivs:[[:space:]]1$' inside exec 'grep NoNewPrivs /proc/self/status'
    remove pod exec
}

# Long logs come whole, those of a container that has ended at once among them.
case_logs() {
    pod logs '.spec.restartPolicy = "Never" | .spec.containers[0].command = ["sh", "-c", "seq 1 100000; echo to stderr >&2; printf no-newline"]'
    ended logs
    # What comes by two pipes is in no order.
    [[ $(k logs logs | grep -c '^[0-9]*$') -eq 100000 ]]
    [[ $(k logs logs | grep -c -x -e 'to stderr' -e no-newline) -eq 2 ]]
    remove pod logs
}

case_cp() {
    local work
    work=$(mktemp -d /run/cluster/cp.XXXXXX)
    pod cp '.spec.volumes = [{name: "v", emptyDir: {}}] | .spec.containers[0].volumeMounts = [{name: "v", mountPath: "/data"}]'
    ready cp
    head -c 300000 /dev/urandom >"$work/there"
    k cp "$work/there" cp:/data/file
    k cp cp:/data/file "$work/back" >/dev/null
    cmp "$work/there" "$work/back"
    expect 'Read-only file system' k cp "$work/there" cp:/usr/file
    remove pod cp
    rm -r "$work"
}

case_attach() {
    pod attach '.spec.restartPolicy = "Never" | .spec.containers[0] += {stdin: true, stdinOnce: true, command: ["sh", "-c", "read line; echo heard $line"]}'
    ready attach
    echo words | k attach -i attach >/run/cluster/attached
    ended attach
    expect 'heard words' k logs attach
    remove pod attach
}

case_port_forward() {
    local forwarder
    apply nginx
    ready nginx
    timeout 60 kubectl port-forward pod/nginx 18080:8080 &
    forwarder=$!
    expect_soon 'hello from /var/www' curl -sS http://127.0.0.1:18080/
    kill "$forwarder"
    wait "$forwarder" || true
}

# `kubectl debug` adds SYS_PTRACE by its default profile, which is refused; the event says which one works, and that one does.
case_debug() {
    apply nginx
    ready nginx
    k debug nginx --image=localhost/tools:1 --target=nginx --container=general --profile=general --quiet -- sleep 1
    expect_soon 'refused \[capabilities.not-allowed\]: .*--profile=baseline' events nginx
    expect 'nginx: master' k debug nginx --image=localhost/tools:1 --target=nginx --container=baseline --profile=baseline --quiet -i -- ps
    # What the other container has in its root is its own.
    expect 'Permission denied' k debug nginx --image=localhost/tools:1 --target=nginx --container=root --profile=baseline --quiet -i -- ls /proc/1/root/
    remove pod nginx
}
