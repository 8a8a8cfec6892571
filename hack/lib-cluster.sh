# Sourced by hack/cluster: where the node's programs and images come from. All is kept below target/cluster.
# shellcheck shell=bash disable=SC2154  # variables of hack/lib.sh

cluster=$target/cluster
source "$repo/hack/lib-image.sh"
kube_version=v1.36.2
kube_programs=(kubelet kube-apiserver kube-controller-manager kube-scheduler)

# All that `up` needs. Says what cannot be had, and fails.
fetch_all() {
    need openssl iproute2 jq curl xz-utils busybox-static gcc libc6-dev patchelf
    mkdir -p "$cluster/bin"
    fetch_containerd sid >/dev/null && fetch_debian && fetch_kube && make_images
}

# Unpacks Debian's packages into $cluster/NAME/root, once.
fetch_packages() {
    local suite=$1 dir=$cluster/$2 apt
    shift 2
    [[ ! -e $dir/unpacked ]] || return 0
    private_apt "$suite" "$dir" || return 1
    if ! timeout 120 "${apt[@]}" update >&2 || ! (cd "$dir/archives" && timeout 300 "${apt[@]}" download "$@" >&2); then
        echo "packages of Debian $suite cannot be fetched from here: $*" >&2
        return 1
    fi
    unpack "$dir"
    rm -rf "$dir/archives"
    touch "$dir/unpacked"
}

# etcd, kubectl, CNI's plugins and runc. runc is linked with a newer libc than this machine may have: it gets that one.
fetch_debian() {
    local root=$cluster/sid/root libraries runc=$cluster/bin/runc
    fetch_packages sid sid etcd-server kubectl containernetworking-plugins runc libc6 libseccomp2 || return 1
    ln -sf "$root"/usr/bin/{etcd,kubectl} "$cluster/bin/"
    [[ ! -x $runc ]] || return 0
    libraries=$(echo "$root"/usr/lib/*-linux-gnu)
    cp "$root/usr/sbin/runc" "$runc.new" &&
        patchelf --set-interpreter "$(echo "$libraries"/ld-linux*)" --force-rpath --set-rpath "$libraries" "$runc.new" &&
        chmod 755 "$runc.new" &&
        mv "$runc.new" "$runc"
}

# Kubernetes' own programs, in $cluster/bin.
fetch_kube() {
    local name from=${GABION_KUBE:-}
    if [[ -z $from ]]; then
        have_kube || download_kube
    elif [[ -f $from/k8s-all.xz ]]; then
        unpack_kube "$(readlink -f "$from/k8s-all.xz")"
    else
        for name in "${kube_programs[@]}"; do
            [[ -x $from/$name ]] || { echo "GABION_KUBE: $from has neither $name nor k8s-all.xz" >&2; return 1; }
            ln -sf "$(readlink -f "$from/$name")" "$cluster/bin/$name"
        done
    fi
}

# Whether an earlier call left them here.
have_kube() {
    local name
    for name in "${kube_programs[@]}"; do [[ -x $cluster/bin/$name ]] || return 1; done
}

# One program that is each of the four by the name it is called by.
unpack_kube() {
    local name all=$cluster/bin/k8s-all
    if [[ ! -x $all || $1 -nt $all ]]; then
        xz -dc "$1" >"$all.new" || return 1
        chmod 755 "$all.new"
        mv "$all.new" "$all"
    fi
    for name in "${kube_programs[@]}"; do ln -sf k8s-all "$cluster/bin/$name"; done
}

# The official release: each program is compared with the sum beside it.
download_kube() {
    local name architecture=amd64 at
    [[ $(uname -m) != aarch64 ]] || architecture=arm64
    for name in "${kube_programs[@]}"; do
        at=$cluster/$kube_version/$name
        mkdir -p "$cluster/$kube_version"
        if [[ ! -x $at ]]; then
            if ! download "$kube_version/bin/linux/$architecture/$name" "$at.new" || ! download "$kube_version/bin/linux/$architecture/$name.sha256" "$at.sum"; then
                echo "Kubernetes $kube_version cannot be downloaded from here; remedy: GABION_KUBE=DIR names its programs" >&2
                return 1
            fi
            printf '%s  %s\n' "$(cat "$at.sum")" "$at.new" | sha256sum --quiet -c - || return 1
            chmod 755 "$at.new"
            mv "$at.new" "$at"
        fi
        ln -sf "$at" "$cluster/bin/$name"
    done
}

download() { timeout 300 curl -fsSL --proto =https --connect-timeout 20 -o "$2" "https://dl.k8s.io/release/$1"; }

# ---- Images ----------------------------------------------------------------------------------------------------------------

# pause, which holds a pod's namespaces; tools, with busybox and Debian's nginx; and control-plane, for static pods.
make_images() {
    local images=$cluster/images work
    need tar
    fetch_packages bookworm nginx nginx nginx-common libc6 libcrypt1 libpcre2-8-0 libssl3 zlib1g base-passwd || return 1
    mkdir -p "$images"
    work=$(mktemp -d "$cluster/image.XXXXXX")
    [[ ! "$repo/hack/lib-cluster.sh" -nt $images/tools.tar ]] || { make_pause "$work" && make_tools "$work"; } || return 1
    [[ $images/control-plane.tar -nt $(readlink -f "$cluster/bin/kube-apiserver") ]] || make_control_plane "$work" || return 1
    rm -rf "$work"
}

make_pause() {
    mkdir -p "$1/pause"/{dev,etc,proc,sys}
    gcc -static -Os -s -o "$1/pause/pause" "$repo/hack/cluster.d/pause.c" &&
        image pause "$1" '{"Entrypoint": ["/pause"], "User": "65535:65535", "WorkingDir": "/"}'
}

make_tools() {
    local root=$1/tools
    cp -a "$cluster/nginx/root" "$root"
    rm -rf "$root/usr/share/doc" "$root/usr/share/man"
    mkdir -p "$root"/{bin,dev,proc,sys,tmp,run,root,data,usr/bin,var/www,var/log/nginx,var/lib/nginx,var/cache/nginx,etc/nginx/sites-enabled}
    chmod 1777 "$root/tmp"
    ln -sfn /run "$root/var/run"
    cp /bin/busybox "$root/bin/busybox"
    chroot "$root" /bin/busybox --install -s /usr/bin
    ln -s /bin/busybox "$root/bin/sh"
    cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
    cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
    printf 'app:x:1000:1000::/:/bin/sh\n' >>"$root/etc/passwd"
    printf 'app:x:1000:\nextra:x:3000:app\n' >>"$root/etc/group"
    printf 'hello from /var/www\n' >"$root/var/www/index.html"
    printf 'server { listen 8080; root /var/www; }\n' >"$root/etc/nginx/sites-enabled/default"
    image tools "$1" '{"Cmd": ["sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "WorkingDir": "/"}'
}

# With what a static pod of kubeadm finds in its image.
make_control_plane() {
    local root=$1/control-plane name
    mkdir -p "$root"/{bin,dev,etc,proc,sys,tmp,run,usr/local/bin}
    cp /bin/busybox "$root/bin/busybox"
    ln -s busybox "$root/bin/sh"
    for name in "${kube_programs[@]:1}" etcd; do
        if [[ $(readlink "$cluster/bin/$name") == k8s-all ]]; then
            [[ -e $root/usr/local/bin/k8s-all ]] || cp "$cluster/bin/k8s-all" "$root/usr/local/bin/"
            ln -s k8s-all "$root/usr/local/bin/$name"
        else
            cp -L "$cluster/bin/$name" "$root/usr/local/bin/"
        fi
    done
    # Debian's etcd is linked with this libc.
    name=$(ldd "$root/usr/local/bin/etcd" 2>/dev/null | grep -o '/[^ ]*' || true)
    while read -r name; do [[ -z $name ]] || install -D "$name" "$root$name"; done <<<"$name"
    image control-plane "$1" '{"Env": ["PATH=/usr/local/bin:/bin"], "WorkingDir": "/"}'
}

# NAME WORK CONFIG: packs the directory WORK/NAME as localhost/NAME:1.
image() { pack_image "localhost/$1:1" "$2/$1" "$cluster/images/$1.tar" "$3"; }
