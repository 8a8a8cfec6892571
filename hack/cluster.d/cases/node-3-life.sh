# How pods begin, change and end.
# shellcheck shell=bash disable=SC2154,SC2016

# Probes of each kind pass; and one that fails has the container restarted.
case_probes() {
    apply probes
    expect_soon '^[1-9]' of_pod probes '{.status.containerStatuses[?(@.name=="dies")].restartCount}'
    expect_soon '^true$' of_pod probes '{.status.containerStatuses[?(@.name=="good")].ready}'
    expect '^0$' of_pod probes '{.status.containerStatuses[?(@.name=="good")].restartCount}'
    remove pod probes
}

# A job whose init containers go one after the other, with a sidecar beside them that ends last.
case_job() {
    apply job
    k wait --for=condition=Complete job/job --timeout="${soon}s" >/dev/null
    expect $'one\nhello from /var/www' k logs job/job -c main
    expect 'the sidecar ends' k logs job/job -c sidecar
    expect '^2$' k get job parallel -o 'jsonpath={.spec.completions}'
    k wait --for=condition=Complete job/parallel --timeout="${soon}s" >/dev/null
    remove job job parallel
}

case_crash() {
    pod crash '.spec.containers[0].command = ["sh", "-c", "echo the reason > /dev/termination-log; exit 3"]'
    pod nothing '.spec.containers[0].command = ["/no/such/program"]'
    expect_soon '^[1-9]' of_pod crash '{.status.containerStatuses[0].restartCount}'
    expect_soon 'the reason' of_pod crash '{.status.containerStatuses[0]}'
    expect_soon 'no such file or directory' events nothing
    remove pod crash nothing
}

case_oom() {
    pod oom '.spec.restartPolicy = "Never" | .spec.containers[0] += {command: ["tail", "/dev/zero"], resources: {limits: {memory: "32Mi"}}}'
    ended oom Failed
    expect '^OOMKilled$' of_pod oom '{.status.containerStatuses[0].state.terminated.reason}'
    remove pod oom
}

memory_limit_of() {
    local at
    at=$(awk -F : '$2 == "memory" { print $3 }' "/proc/$1/cgroup")
    if [[ -n $at ]]; then cat "/sys/fs/cgroup/memory$at/memory.limit_in_bytes"; else cat "/sys/fs/cgroup$(cut -d : -f 3 "/proc/$1/cgroup")/memory.max"; fi
}

# In place: the same process has another limit.
case_resize() {
    local pid
    pod resize '.spec.containers[0].resources = {requests: {cpu: "50m", memory: "64Mi"}, limits: {cpu: "200m", memory: "64Mi"}}'
    ready resize
    pid=$(process_of resize)
    [[ $(memory_limit_of "$pid") == 67108864 ]]
    k patch pod resize --subresource resize --patch \
        '{"spec": {"containers": [{"name": "main", "resources": {"limits": {"cpu": "400m", "memory": "128Mi"}}}]}}' >/dev/null
    expect_soon '^134217728$' memory_limit_of "$pid"
    expect_soon '^128Mi$' of_pod resize '{.status.containerStatuses[0].resources.limits.memory}'
    expect '^0$' of_pod resize '{.status.containerStatuses[0].restartCount}'
    remove pod resize
}

# postStart, preStop and SIGTERM come, in this order; the emptyDir outlives the container, and what it says there goes out by the other one.
case_hooks() {
    apply hooks
    ready hooks
    k delete pod hooks --wait=false >/dev/null
    expect_soon $'postStart\npreStop\nTERM' k logs hooks -c witness
    k wait --for=delete pod/hooks --timeout="${soon}s" >/dev/null
}

case_shared_processes() {
    pod shared '.spec.shareProcessNamespace = true | .spec.containers += [{name: "other", image: "localhost/tools:1", command: ["sleep", "20002"]}]'
    ready shared
    expect 'sleep 20002' k exec shared -c main -- ps
    remove pod shared
}

# Pod Security admission's strictest profile, and gabion's strictest level.
case_restricted() {
    k create namespace strict --dry-run=client -o json |
        jq '.metadata.labels["pod-security.kubernetes.io/enforce"] = "restricted"' | k apply -f - >/dev/null
    pod restricted '.metadata.namespace = "strict" | .spec.runtimeClassName = "gabion-restricted"
        | .spec.securityContext = {runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, seccompProfile: {type: "RuntimeDefault"}}
        | .spec.containers[0].securityContext = {allowPrivilegeEscalation: false, capabilities: {drop: ["ALL"]}, readOnlyRootFilesystem: true}
        | .spec.volumes = [{name: "v", emptyDir: {}}] | .spec.containers[0].volumeMounts = [{name: "v", mountPath: "/data"}]'
    k -n strict wait --for=condition=Ready pod/restricted --timeout="${soon}s" >/dev/null
    expect '^CapEff:[[:space:]]0{16}$' k -n strict exec restricted -- grep CapEff /proc/self/status
    k -n strict exec restricted -- touch /data/file
    remove -n strict pod restricted
}

case_context() {
    pod context '.spec.securityContext = {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000, supplementalGroups: [4000],
            sysctls: [{name: "net.ipv4.ip_unprivileged_port_start", value: "80"}]}
        | .spec.volumes = [{name: "v", emptyDir: {}}] | .spec.containers[0].volumeMounts = [{name: "v", mountPath: "/data"}]'
    ready context
    expect 'uid=1000\(app\) gid=1000\(app\) groups=1000\(app\),2000,3000\(extra\),4000' inside context id
    expect '^80$' inside context 'cat /proc/sys/net/ipv4/ip_unprivileged_port_start'
    expect '^2000$' inside context 'touch /data/x && stat -c %g /data/x'
    remove pod context
}
