# Sourced by hack/cluster.d/node: starts the cluster.
# shellcheck shell=bash disable=SC2154,SC2164,SC2054  # variables of hack/cluster.d/lib.sh; errors end it; commas are the programs'

# ---- Keys and who has them -------------------------------------------------------------------------------------------------

authority() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -keyout ca.key -out ca.crt -subj /CN=kubernetes 2>/dev/null; }

# NAME SUBJECT [ALTERNATIVE-NAMES]
certificate() {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" \
        -extfile <(printf 'keyUsage=digitalSignature\nextendedKeyUsage=clientAuth,serverAuth\n%s\n' "${3:+subjectAltName=$3}") 2>/dev/null
    rm "$1.csr"
}

# What a program finds the API server by, and says who it is: /etc/kubernetes/NAME.conf.
kubeconfig() {
    cat >"/etc/kubernetes/$1.conf" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: cluster, cluster: {server: "https://$node_address:6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: user, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: context, context: {cluster: cluster, user: user}}]
current-context: context
YAML
    chmod 600 "/etc/kubernetes/$1.conf"
}

make_keys() {
    local name
    mkdir -p "$pki" /etc/kubernetes/manifests
    cd "$pki"
    authority
    openssl genrsa -out sa.key 2048 2>/dev/null
    openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
    certificate apiserver /CN=kube-apiserver \
        "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:$node_address,IP:10.96.0.1"
    certificate apiserver-kubelet /O=system:masters/CN=apiserver-kubelet
    certificate front-proxy /CN=front-proxy
    certificate admin /O=system:masters/CN=admin
    certificate controller-manager /CN=system:kube-controller-manager
    certificate scheduler /CN=system:kube-scheduler
    certificate kubelet "/O=system:nodes/CN=system:node:$node_name" "DNS:$node_name,IP:$node_address,IP:127.0.0.1"
    for name in admin controller-manager scheduler kubelet; do kubeconfig "$name"; done
    chmod 600 ./*.key
    cd "$repo"
}

# ---- The control plane -----------------------------------------------------------------------------------------------------

# How each of its programs is called. Nobody but root is in this network.
make_commands() {
    etcd=(
        etcd --name=node --data-dir=/var/lib/etcd --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379
        --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380
        --initial-cluster=node=http://127.0.0.1:2380 --unsafe-no-fsync --log-level=warn
    )
    kube_apiserver=(
        kube-apiserver --etcd-servers=http://127.0.0.1:2379 --advertise-address="$node_address" --secure-port=6443
        --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt"
        --kubelet-client-certificate="$pki/apiserver-kubelet.crt" --kubelet-client-key="$pki/apiserver-kubelet.key"
        --kubelet-preferred-address-types=InternalIP,Hostname --service-account-issuer=https://kubernetes.default.svc
        --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key"
        --requestheader-client-ca-file="$pki/ca.crt" --requestheader-allowed-names=front-proxy
        --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group
        --requestheader-extra-headers-prefix=X-Remote-Extra- --proxy-client-cert-file="$pki/front-proxy.crt"
        --proxy-client-key-file="$pki/front-proxy.key" --service-cluster-ip-range="$services_network" --authorization-mode=Node,RBAC
        --enable-admission-plugins=NodeRestriction --allow-privileged=true
    )
    kube_controller_manager=(
        kube-controller-manager --kubeconfig=/etc/kubernetes/controller-manager.conf --service-account-private-key-file="$pki/sa.key"
        --root-ca-file="$pki/ca.crt" --use-service-account-credentials=true --leader-elect=false --bind-address=127.0.0.1
        --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key"
    )
    kube_scheduler=(kube-scheduler --kubeconfig=/etc/kubernetes/scheduler.conf --leader-elect=false --bind-address=127.0.0.1)
}

start_control_plane() {
    daemon etcd "${etcd[@]}"
    daemon kube-apiserver "${kube_apiserver[@]}"
    daemon kube-controller-manager "${kube_controller_manager[@]}"
    daemon kube-scheduler "${kube_scheduler[@]}"
}

# NAME PROBE-PORT PROBE-PATH PROBE-SCHEME PROBE-HOST PATHS -- COMMAND…: what kubeadm writes into /etc/kubernetes/manifests. The node's own paths that
# the pod may read; with `=` behind, that it may write to.
static_pod() {
    local name=$1 port=$2 path=$3 scheme=$4 host=$5 paths=$6
    shift 7
    printf '%s\n' "$@" | jq -R -s '{
        apiVersion: "v1", kind: "Pod",
        metadata: {name: $name, namespace: "kube-system", labels: {component: $name, tier: "control-plane"}},
        spec: {
            hostNetwork: true, priority: 2000001000, priorityClassName: "system-node-critical", securityContext: {seccompProfile: {type: "RuntimeDefault"}},
            containers: [{
                name: $name, image: "localhost/control-plane:1", imagePullPolicy: "Never", command: (split("\n")[:-1]),
                resources: {requests: {cpu: "100m"}},
                volumeMounts: [$paths | split(" ") | to_entries[] | {name: "path\(.key)", mountPath: (.value | rtrimstr("=")), readOnly: (.value | endswith("=") | not)}],
                startupProbe: ({failureThreshold: 60, periodSeconds: 2} + $probe), livenessProbe: ({failureThreshold: 8, timeoutSeconds: 15} + $probe)
            }],
            volumes: [$paths | split(" ") | to_entries[] | {name: "path\(.key)", hostPath: {path: (.value | rtrimstr("=")), type: (if .value | endswith(".conf") then "FileOrCreate" else "DirectoryOrCreate" end)}}]
        }
    }' --arg name "$name" --arg paths "$paths" \
        --argjson probe "{\"httpGet\": {\"host\": \"$host\", \"port\": $port, \"path\": \"$path\", \"scheme\": \"$scheme\"}}" >"/etc/kubernetes/manifests/$name.json"
}

make_static_pods() {
    static_pod etcd 2381 /readyz HTTP 127.0.0.1 "$pki /var/lib/etcd=" -- "${etcd[@]}" --listen-metrics-urls=http://127.0.0.1:2381
    static_pod kube-apiserver 6443 /livez HTTPS "$node_address" "$pki /etc/ssl/certs" -- "${kube_apiserver[@]}"
    static_pod kube-controller-manager 10257 /healthz HTTPS 127.0.0.1 "$pki /etc/ssl/certs /etc/kubernetes/controller-manager.conf" -- \
        "${kube_controller_manager[@]}"
    static_pod kube-scheduler 10259 /livez HTTPS 127.0.0.1 /etc/kubernetes/scheduler.conf -- "${kube_scheduler[@]}"
}

# ---- The node --------------------------------------------------------------------------------------------------------------

write_network() {
    mkdir -p /etc/cni/net.d
    cat >/etc/cni/net.d/10-pods.conflist <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$pods_network"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
    cp "$cluster"/sid/root/usr/lib/cni/{bridge,loopback,host-local,portmap} /opt/cni/bin/
}

# Root without CAP_SYS_RESOURCE may lower nobody's score, whatever the runtime.
may_lower_scores() { ((0x$(awk '$1 == "CapEff:" { print $2 }' /proc/self/status) >> 24 & 1)); }

write_containerd_config() {
    local restrict=true
    ! may_lower_scores || restrict=false
    mkdir -p /etc/containerd
    cat >/etc/containerd/config.toml <<TOML
version = 3
imports = ["/etc/containerd/conf.d/*.toml"]
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "localhost/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = $restrict
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/opt/cni/bin"]
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "$1"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = "/usr/local/bin/runc"
TOML
}

write_kubelet_config() {
    cat >/etc/kubernetes/kubelet.yaml <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet.crt
tlsPrivateKeyFile: $pki/kubelet.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
staticPodPath: /etc/kubernetes/manifests
clusterDomain: cluster.local
clusterDNS: [10.96.0.10]
address: $node_address
healthzBindAddress: 127.0.0.1
makeIPTablesUtilChains: false
# The disk and memory are this machine's, and others use them, too.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
enforceNodeAllocatable: [pods]
YAML
}

import_images() {
    local name
    for name in pause tools "$@"; do ctr -n k8s.io images import "$cluster/images/$name.tar" >/dev/null; done
    ctr -n k8s.io images label localhost/pause:1 io.cri-containerd.pinned=pinned >/dev/null
}

# FROM DEFAULT-RUNTIME STATIC CONTAINERD'S-DIRECTORY
start() {
    local from=$1 default=$2 static=$3 containerd_bin=$4 images=() began=$SECONDS
    ln -s "$cluster"/bin/* "$containerd_bin"/{containerd,ctr,containerd-shim-runc-v2} /usr/local/bin/
    make_keys
    make_commands
    if [[ $static == true ]]; then images=(control-plane); else start_control_plane; fi
    write_network
    write_containerd_config "$default"
    write_kubelet_config
    [[ $default == runc ]] || install -D -m 0644 "$repo/runtime/policy/kubeadm.toml" /etc/gabion/policy.toml
    "$repo/hack/install" --from "$from" --containerd >"$logs/install" 2>&1 || { cat "$logs/install" >&2; return 1; }
    start_containerd
    import_images "${images[@]}"
    if [[ $static == true ]]; then make_static_pods; else within 120 "the API server" kubectl --request-timeout=5s get --raw /readyz; fi
    start_kubelet
    within 180 "the API server" kubectl --request-timeout=5s get --raw /readyz
    within 90 "the node" kubectl wait --for=condition=Ready "node/$node_name" --timeout=2s
    kubectl apply -f "$repo/hack/manifests/runtimeclass.yaml" >/dev/null
    within 60 "the default service account" kubectl --request-timeout=5s get serviceaccount default
    printf 'the cluster is up after %s s\n' "$((SECONDS - began))"
}
