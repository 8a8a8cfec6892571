# Pods whose root is nobody on the node.
# shellcheck shell=bash disable=SC2154,SC2016

# hostUsers: false, at both levels: the kubelet believes that the handlers can do it, and root of the pod is an ordinary number of the node.
case_host_users() {
    pod users '.spec.hostUsers = false'
    pod users-strict '.spec.hostUsers = false | .spec.runtimeClassName = "gabion-restricted"'
    ready users users-strict
    for name in users users-strict; do
        [[ $(status_of "$(process_of "$name")" Uid) -ge 65536 ]]
        expect '^0$' inside "$name" 'id -u'
        expect 'Read-only file system' inside "$name" 'touch /etc/x'
        inside "$name" 'echo kept > /tmp/file'
    done
    remove pod users users-strict
}
