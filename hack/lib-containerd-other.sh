# Sourced by hack/install: a containerd that is not the distribution's own: k3s's, RKE2's, or one that the options name.
# shellcheck shell=bash disable=SC2154,SC2034  # variables of hack/install and hack/lib-containerd.sh
#
# k3s and RKE2 write containerd's config.toml anew at each start, from a template: the handlers go there, and containerd is not asked what
# it makes of them, since only k3s can fill the template.

# What the options say; empty: as containerd has it by itself.
containerd_bin=''
containerd_root=''
containerd_state=''
containerd_socket=''
# k3s or rke2, where it is theirs.
rancher=''

# The place of their containerd, of its root and of its template, below $root.
rancher_bin() { if [[ $1 == k3s ]]; then echo /var/lib/rancher/k3s/data/current/bin/containerd; else echo /var/lib/rancher/rke2/bin/containerd; fi; }
rancher_agent() { echo "/var/lib/rancher/$1/agent"; }

# Finds them where no option names a containerd, and PATH has none.
find_containerd() {
    local name found=()
    [[ $package == false && -z $containerd_bin ]] || return 0
    for name in k3s rke2; do [[ ! -x $root$(rancher_bin "$name") ]] || found+=("$name"); done
    [[ ${#found[@]} -gt 0 ]] || return 0
    if [[ $(type -t containerd) ]]; then
        tell note "${found[*]} is here, too: the handlers go to the containerd in PATH; for the other: --containerd-bin $(rancher_bin "${found[0]}")"
    else
        use_rancher "${found[0]}"
    fi
}

use_rancher() {
    rancher=$1
    containerd_bin=$root$(rancher_bin "$rancher")
    containerd_root=${containerd_root:-$(rancher_agent "$rancher")/containerd}
    containerd_state=${containerd_state:-/run/k3s/containerd}
    containerd_socket=${containerd_socket:-/run/k3s/containerd/containerd.sock}
}

# An option may name theirs.
take_options() {
    local name
    [[ -n $containerd_bin ]] || return 0
    for name in k3s rke2; do
        [[ $containerd_bin != "$(rancher_bin "$name")" ]] || { use_rancher "$name"; return; }
    done
}

# What containerd is called by, in all of these scripts.
name_containerd() {
    [[ -n $containerd_bin ]] || return 0
    [[ -x $containerd_bin ]] || die "--containerd-bin $containerd_bin: no such program"
    # shellcheck disable=SC2317  # called in the place of the program
    containerd() { "$containerd_bin" "$@"; }
}

# The policy's lines for where it keeps what is a pod's.
policy_places() {
    sed -e "s#^containerd_root = .*#containerd_root = \"${containerd_root:-/var/lib/containerd}\"#" \
        -e "s#^containerd_state = .*#containerd_state = \"${containerd_state:-/run/containerd}\"#"
}

# k3s's template for this containerd.
rancher_template() {
    local name=config-v3.toml.tmpl
    [[ $containerd_major -ge 2 ]] || name=config.toml.tmpl
    echo "$(rancher_agent "$rancher")/etc/containerd/$name"
}

install_for_rancher() {
    local template
    template=$(rancher_template)
    install_options
    {
        printf '{{ template "base" . }}\n\n'
        # A prefix of /usr, too: their containerd has a PATH of its own.
        always_path=true handlers gabion gabion-restricted
    } >"$work/template"
    put "$work/template" "$template" 0644
    case $(standing "$template") in
        edited | foreign)
            same "$work/template" "$root$template" || echo "to do          add what follows the first line of $root$kept/$(basename "$template") to $template"
            ;;
    esac
    echo "to do          systemctl restart $rancher (or its agent's service), then apply hack/manifests/runtimeclass.yaml"
}
