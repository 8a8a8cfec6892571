# Volumes of all kinds that need no storage beyond this node.
# shellcheck shell=bash disable=SC2154,SC2016

case_volumes() {
    apply volumes
    ready volumes
    expect '^value of the key$' inside volumes 'cat /config/key'
    expect 'ran from a configMap' inside volumes /config/run.sh
    expect '^s3cret$' inside volumes 'cat /secret/password'
    expect '^value of the key$' inside volumes 'cat /sub/key'
    expect '^volumes$' inside volumes 'cat /projected/name'
    expect '^value of the key$' inside volumes 'cat /projected/key'
    expect '^[A-Za-z0-9_-]+\.[A-Za-z0-9_.-]+$' inside volumes 'cat /projected/token'
    expect 'kind="volumes"' inside volumes 'cat /downward/labels'
    expect '^10\.88\.1\.[0-9]+$' inside volumes 'echo $POD'
    expect '^value of the key$' inside volumes 'echo $KEY'
    expect '^from the init container$' inside volumes 'cat /part/file'
    expect '^written$' inside volumes 'echo written >/part/new && cat /empty/part/new'
    expect '^16384$' inside volumes "df -k /memory | awk 'NR == 2 { print \$2 }'"
    inside volumes 'test -s /var/run/secrets/kubernetes.io/serviceaccount/token'
    # What can be written cannot be run.
    expect 'Permission denied' inside volumes 'cp /bin/busybox /empty/sh && /empty/sh -c true'
    expect 'Permission denied' inside volumes 'cp /bin/busybox /memory/sh && /memory/sh -c true'
    expect 'Read-only file system' inside volumes 'touch /read-only/x'
    expect 'Read-only file system' inside volumes 'touch /config/x'
    remove pod volumes
}

# A program that an init container puts there runs where the volume cannot be written to; else it is refused as what it is.
case_tools_by_an_init_container() {
    local tools='.spec.volumes = [{name: "t", emptyDir: {}}]
        | .spec.initContainers = [{name: "i", image: "localhost/tools:1", command: ["cp", "/bin/busybox", "/t/sh"], volumeMounts: [{name: "t", mountPath: "/t"}]}]
        | .spec.containers[0] += {command: ["/t/sh", "-c", "sleep 10000"], volumeMounts: [{name: "t", mountPath: "/t", readOnly: true}]}'
    pod tools "$tools"
    pod writable-tools "$tools | .spec.containers[0].volumeMounts[0].readOnly = false"
    ready tools
    refused writable-tools mounts.entrypoint-noexec
    remove pod tools writable-tools
}

# A directory of the node is refused, and let in for the pod that the policy names: as the event says.
case_host_path() {
    local volume='.spec.volumes = [{name: "v", hostPath: {path: "/srv/shared", type: "DirectoryOrCreate"}}]
        | .spec.containers[0].volumeMounts = [{name: "v", mountPath: "/data"}]'
    pod no-path "$volume"
    refused no-path mounts.host-path
    remove pod no-path
    keep_policy
    cat >>/etc/gabion/policy.toml <<'END'
[[exception]]
reason = "a case of hack/cluster"
match = { namespace = "default", name = "with-path" }
mounts.allow = ["/srv/shared"]
END
    pod with-path "$volume"
    pod without-path "$volume"
    ready with-path
    expect '^seen$' inside with-path 'echo seen >/data/file && cat /data/file'
    [[ $(cat /srv/shared/file) == seen ]]
    refused without-path mounts.host-path
    remove pod with-path without-path
    give_policy_back
    rm -r /srv/shared
}

case_local_volume() {
    mkdir -p /srv/local
    apply local
    ready local
    inside local 'echo kept >/data/file'
    [[ $(cat /srv/local/file) == kept ]]
    remove pod local
    k delete persistentvolumeclaim local >/dev/null
    k delete persistentvolume local >/dev/null
}

case_image_volume() {
    pod image '.spec.volumes = [{name: "v", image: {reference: "localhost/tools:1", pullPolicy: "Never"}}]
        | .spec.containers[0].volumeMounts = [{name: "v", mountPath: "/image"}]'
    ready image
    expect 'nginx' inside image 'ls /image/usr/sbin'
    expect 'Read-only file system' inside image 'touch /image/x'
    remove pod image
}

# Also what is mounted below a volume cannot be written to. The kubelet lets in only pods of a handler that containerd has asked what it can.
case_recursive_read_only() {
    expect '^true$' bash -c 'kubectl get node "$0" -o json | jq ".status.runtimeHandlers[] | select(.name == \"gabion\") | .features.recursiveReadOnlyMounts"' "$node_name"
    pod recursive '.spec.volumes = [{name: "v", emptyDir: {}}]
        | .spec.containers[0].volumeMounts = [{name: "v", mountPath: "/data", readOnly: true, recursiveReadOnly: "Enabled"}]'
    ready recursive
    expect 'Read-only file system' inside recursive 'touch /data/x'
    expect '"recursiveReadOnly":"Enabled"' of_pod recursive '{.status.containerStatuses[0].volumeMounts}'
    remove pod recursive
}

# Root in the pod is nobody on the node; its volumes are its own all the same. Level restricted runs such a root, too.
case_user_namespace() {
    local name pid volume='.spec.hostUsers = false | .spec.volumes = [{name: "v", emptyDir: {}}, {name: "c", configMap: {name: "kube-root-ca.crt"}}]
        | .spec.containers[0].volumeMounts = [{name: "v", mountPath: "/data"}, {name: "c", mountPath: "/config"}]'
    pod userns "$volume"
    pod userns-restricted "$volume | .spec.runtimeClassName = \"gabion-restricted\""
    for name in userns userns-restricted; do
        ready "$name"
        expect '^uid=0' inside "$name" id
        expect '^0$' inside "$name" 'touch /data/x && stat -c %u /data/x'
        expect 'BEGIN CERTIFICATE' inside "$name" 'cat /config/ca.crt'
        pid=$(process_of "$name")
        [[ $(status_of "$pid" Uid) -ge 65536 ]]
        [[ $(status_of "$pid" NoNewPrivs) == 1 ]]
    done
    # Below hardened's capabilities, and in its own user namespace.
    [[ $(readlink "/proc/$pid/ns/user") != "$(readlink /proc/self/ns/user)" ]]
    remove pod userns userns-restricted
}
