# The pods that gabion is for, and those that it refuses.
# shellcheck shell=bash disable=SC2154,SC2016

# A RuntimeClass chooses gabion; without one the node's default runtime runs the pod, and hardens nothing.
case_runtime_class() {
    pod class
    pod no-class 'del(.spec.runtimeClassName)'
    pod nobody '.spec.runtimeClassName = "gabion-restricted"'
    ready class no-class
    [[ $(status_of "$(process_of class)" NoNewPrivs) == 1 ]]
    [[ $(status_of "$(process_of class)" CapEff) == 00000000000004fb ]]
    [[ $(status_of "$(process_of no-class)" NoNewPrivs) == 0 ]]
    # The image's user is root, whom the other class does not run.
    refused nobody user.root
    remove pod class no-class nobody
}

# nginx on a read-only root, with emptyDirs where it writes.
case_nginx() {
    apply nginx
    ready nginx
    expect 'hello from /var/www' inside nginx 'wget -qO- http://127.0.0.1:8080/'
    expect 'Read-only file system' inside nginx 'touch /etc/x'
    expect '^[0-9]+$' inside nginx 'cat /run/nginx.pid'
}

# privileged: true is refused, and `kubectl describe` says what, why and what to do.
case_privileged() {
    pod all-rights '.spec.containers[0].securityContext.privileged = true'
    expect_soon 'refused \[devices.allow-all\]: `privileged: true` is asked for' events all-rights
    expect 'remedy: remove `privileged: true`, and ask for what is needed by name' events all-rights
    [[ -z $(process_of all-rights) ]]
    # The same pod by the runtime that hardens nothing.
    pod allowed '.spec.containers[0].securityContext.privileged = true | del(.spec.runtimeClassName)'
    ready allowed
    remove pod all-rights allowed
}

# What else would give the node away.
case_refusals() {
    pod host-path '.spec.volumes = [{name: "v", hostPath: {path: "/etc"}}] | .spec.containers[0].volumeMounts = [{name: "v", mountPath: "/v"}]'
    pod host-network '.spec.hostNetwork = true'
    pod host-pid '.spec.hostPID = true'
    pod host-ipc '.spec.hostIPC = true'
    pod capability '.spec.containers[0].securityContext.capabilities.add = ["SYS_ADMIN"]'
    pod all-capabilities '.spec.containers[0].securityContext.capabilities.add = ["ALL"]'
    refused host-path mounts.host-path
    refused host-network 'namespaces.host-(network|uts)'
    refused host-pid namespaces.host-pid
    refused host-ipc namespaces.host-ipc
    refused capability capabilities.not-allowed
    refused all-capabilities capabilities.not-allowed
    remove pod host-path host-network host-pid host-ipc capability all-capabilities
}

# A node whose policy believes no CRI: every pod is refused, and the event says first what that node's policy lacks.
case_no_cri() {
    keep_policy
    sed -i 's/^cri = .*/cri = "none"/' /etc/gabion/policy.toml
    pod no-cri
    expect_soon 'refused \[mounts.host-path\].*remedy: set `cri = "containerd"` in /etc/gabion/policy.toml first' events no-cri
    # As the event says.
    give_policy_back
    ready no-cri
    remove pod no-cri
}

# A policy that closes exec closes exec probes; others pass.
case_closed_exec() {
    local probe='.spec.containers[0] += {command: ["httpd", "-f", "-p", "8080", "-h", "/var/www"]} | .spec.containers[0].readinessProbe'
    keep_policy
    sed -i 's/^exec = .*/exec = "deny"/' /etc/gabion/policy.toml
    pod by-exec "$probe = {exec: {command: [\"true\"]}, periodSeconds: 1}"
    pod by-http "$probe = {httpGet: {port: 8080, path: \"/index.html\"}, periodSeconds: 1}"
    ready by-http
    expect_soon 'refused \[exec.denied\]' events by-exec
    expect 'exec.denied.*kubectl debug --profile=baseline' inside by-http true
    expect '^false$' of_pod by-exec '{.status.containerStatuses[0].ready}'
    give_policy_back
    remove pod by-exec by-http
}
