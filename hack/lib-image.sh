# Sourced by those that make images of containers: no registry and no engine is needed for it.
# shellcheck shell=bash

# Packs the directory DIR as an image of one layer into FILE, in the form that `ctr images import`, `podman load` and `docker load` read.
# NAME DIR FILE CONFIG: the configuration as JSON, in OCI's words (Entrypoint, Cmd, Env, User). What it works with stands beside DIR.
pack_image() {
    local name=$1 dir=$2 file=$3 config=$4 work digest
    work=$(dirname "$dir")
    tar -C "$dir" --sort=name --owner=0 --group=0 --numeric-owner -cf "$work/layer.tar" . || return 1
    digest=$(sha256sum "$work/layer.tar" | cut -d ' ' -f 1)
    jq -n --argjson config "$config" --arg digest "sha256:$digest" --arg architecture "$(dpkg --print-architecture)" \
        '{architecture: $architecture, os: "linux", config: $config, rootfs: {type: "layers", diff_ids: [$digest]}}' >"$work/config.json" || return 1
    jq -n --arg name "$name" '[{Config: "config.json", RepoTags: [$name], Layers: ["layer.tar"]}]' >"$work/manifest.json" || return 1
    tar -C "$work" -cf "$file.new" config.json layer.tar manifest.json || return 1
    mv "$file.new" "$file"
}
