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
    # One that ends at once is over before anybody has attached: its log says what it saw.
    k debug nginx --image=localhost/tools:1 --target=nginx --container=baseline --profile=baseline --quiet -- ps
    expect_soon 'nginx: master' k logs nginx -c baseline
    # What the other container has in its root is its own.
    k debug nginx --image=localhost/tools:1 --target=nginx --container=root --profile=baseline --quiet -- ls /proc/1/root/
    expect_soon 'Permission denied' k logs nginx -c root
    remove pod nginx
}

# The other profiles, and a copy.
case_debug_profiles() {
    apply nginx
    ready nginx
    k debug nginx --image=localhost/tools:1 --target=nginx --container=sysadmin --profile=sysadmin --quiet -- sleep 1
    expect_soon 'refused \[devices.allow-all\]: .*--profile=baseline' events nginx
    k debug nginx --image=localhost/tools:1 --target=nginx --container=netadmin --profile=netadmin --quiet -- sleep 1
    expect_soon 'capability CAP_NET_ADMIN is asked for' events nginx
    k debug nginx --copy-to=copy --set-image=nginx=localhost/tools:1 --profile=baseline --quiet
    ready copy
    expect 'hello from /var/www' inside copy 'wget -qO- http://127.0.0.1:8080/'
    remove pod nginx copy
}

# What docs/DEBUGGING.md opens for one container of one pod: that one has SYS_PTRACE, and no other.
case_debug_by_exception() {
    local name
    apply nginx
    ready nginx
    keep_policy
    cat >>/etc/gabion/policy.toml <<'END'
[[exception]]
reason = "a case of hack/cluster"
match = { namespace = "default", name = "ngin*", container = "debugger" }
capabilities.allow = ["CAP_SYS_PTRACE"]
seccomp.allow = ["ptrace"]
expires = 2099-12-04
END
    for name in debugger another; do
        k debug nginx --image=localhost/tools:1 --target=nginx --container="$name" --profile=general --quiet -- grep CapEff /proc/self/status
    done
    expect_soon '^CapEff:[[:space:]]00000000000804fb$' k logs nginx -c debugger
    expect_soon 'spec.ephemeralContainers\{another\}.*refused \[capabilities.not-allowed\]' events nginx
    give_policy_back
    remove pod nginx
}
