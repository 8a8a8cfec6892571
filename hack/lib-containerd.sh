# Sourced by hack/install: containerd's part of it.
# shellcheck shell=bash disable=SC2154  # variables of hack/install
#
# How containerd merges the files that its config.toml imports decides what can be done without editing somebody's file:
#   1.6, 1.7   a plugin's section comes from one file, the last that has it. A drop-in with a handler would undo all else that
#              is said of the CRI plugin (the sandbox's image, CNI's directories, runc's SystemdCgroup), and runc itself.
#   2.0, …     sections are merged key by key. A drop-in may not have a higher version than config.toml.
# So nothing is believed: containerd itself prints what it would make of config.toml with the drop-in and without, and the
# drop-in is only written where nothing but our handlers is the difference.

containerd_config=/etc/containerd/config.toml
drop_in=/etc/containerd/conf.d/gabion.toml

# A section of the CRI plugin in a file of version 2.
cri_section='^ *\[plugins\.("io\.containerd\.grpc\.v1\.cri"|cri)[].]'
# Whether something is left for the operator.
asked_for=false
# containerd 2.0 to 2.3.3 ask only a handler of runc's type what it can do: without that the kubelet refuses pods with user namespaces
# (hostUsers: false) and with recursively read-only volumes.
by_runc=false

# An option that is absent is its zero value, and printed or not.
zero=" = (\"\"|''|false|0|\\[\\])$"

# A file in which containerd starts to read, importing all of $@.
importing() {
    local file
    printf 'version = %s\nimports = [' "$config_version"
    for file in "$@"; do printf '"%s", ' "$file"; done
    printf ']\n'
}

# What containerd makes of a config, each line with its section; our handlers and the list of files are left out. Fails where
# containerd cannot read it: with that config it would not start.
effective() {
    local text
    text=$(containerd --config "$1" config dump 2>"$work/dump.err") || return 1
    awk '/^imports/ { next }
        /^ *\[/ { section = $0; gsub(/ /, "", section); next }
        NF && section !~ /\.runtimes\.gabion(-restricted)?[].]/ { $1 = $1; print section " " $0 }' <<<"$text" | LC_ALL=C sort -u
}

# Whether the handlers are in what containerd makes of a config.
has_handlers() {
    local text
    text=$(containerd --config "$1" config dump 2>/dev/null) && grep -q '\.runtimes\.gabion\]' <<<"$text" &&
        grep -q '\.runtimes\.gabion-restricted\]' <<<"$text"
}

# Whether containerd reads the drop-in. Below --root the paths in config.toml lead elsewhere, so that is only looked at.
imports_drop_in() {
    if [[ -z $root ]]; then
        has_handlers "$containerd_config"
    else
        grep -qF "\"$(dirname "$drop_in")/" "$root$containerd_config"
    fi
}

# The handlers, as lines for config.toml or a drop-in; only those of $@.
handlers() {
    local plugin='io.containerd.grpc.v1.cri' name options
    [[ $config_version -lt 3 ]] || plugin='io.containerd.cri.v1.runtime'
    for name in "$@"; do
        options=/etc/gabion/containerd.toml
        [[ $name == gabion ]] || options=/etc/gabion/containerd-restricted.toml
        printf '[plugins."%s".containerd.runtimes.%s]\n' "$plugin" "$name"
        if [[ $by_runc == true ]]; then
            # Its options are the file of the shim's name.
            printf '  runtime_type = "io.containerd.runc.v2"\n  runtime_path = "%s/bin/containerd-shim-%s-v2"\n' "$prefix" "$name"
            printf '  pod_annotations = ["dev.gabion.*"]\n'
            printf '  [plugins."%s".containerd.runtimes.%s.options]\n' "$plugin" "$name"
            printf '    SystemdCgroup = %s\n' "$systemd_cgroup"
            continue
        fi
        printf '  runtime_type = "io.containerd.gabion.v2"\n'
        # Elsewhere containerd finds the shim by its PATH.
        [[ ($prefix == /usr/local || $prefix == /usr) && -z ${always_path:-} ]] ||
            printf '  runtime_path = "%s/bin/containerd-shim-gabion-v2"\n' "$prefix"
        printf '  pod_annotations = ["dev.gabion.*"]\n'
        printf '  [plugins."%s".containerd.runtimes.%s.options]\n' "$plugin" "$name"
        printf '    ConfigPath = "%s"\n' "$options"
    done
}

# The handlers that containerd 1.x has now and, once any is written down, has no longer: runc, the default. Not those that
# the file $1 names itself.
other_handlers() {
    local file=$1 section text last=''
    [[ $containerd_major -lt 2 ]] || return 0
    while read -r section text; do
        [[ ! -f $file ]] || ! grep -qF "$section" "$file" || continue
        [[ $section == "$last" ]] || printf '%s\n' "$section"
        printf '  %s\n' "$text"
        last=$section
    done < <({ grep -F '.containerd.runtimes.' "$work/before" || true; } | { grep -vE "$zero" || true; })
}

# The drop-in. Where a section comes from one file only, all handlers are in it.
make_drop_in() {
    printf '# Written by gabion'\''s hack/install. The handlers of the RuntimeClasses gabion and gabion-restricted.\n'
    printf 'version = %s\n' "$config_version"
    handlers gabion gabion-restricted
    other_handlers "$root$containerd_config"
}

# The shim's options: what containerd cannot say otherwise.
make_options() {
    printf '# Options of the shim for one of containerd'\''s handlers: binary, root, policy, level, systemd_cgroup (docs/INSTALL.md).\n'
    [[ $1 == gabion ]] || printf 'level = "restricted"\n'
    # As the machine's runc handler does it, since one kubelet asks both. A package knows no machine.
    [[ $package == false ]] || { printf '# systemd_cgroup = true    # where the kubelet has cgroupDriver: systemd\n'; return; }
    printf 'systemd_cgroup = %s\n' "$systemd_cgroup"
}

install_options() {
    local name
    for name in gabion gabion-restricted; do
        make_options "$name" >"$work/options"
        put "$work/options" "/etc/gabion/containerd${name#gabion}.toml" 0644
    done
}

# A package's part. What a drop-in would undo only the machine's containerd knows, so the handlers are no more than an example.
package_for_containerd() {
    local config_version=2
    install_options
    {
        printf '# The handlers of the RuntimeClasses gabion and gabion-restricted. How they get into containerd'\''s configuration: docs/INSTALL.md.\n'
        printf 'version = 2\n'
        handlers gabion gabion-restricted
    } >"$work/handlers.toml"
    put "$work/handlers.toml" "$prefix/share/gabion/containerd-handlers.toml" 0644
}

die_of_config() {
    die "containerd cannot read $containerd_config: $(tail -n1 "$work/dump.err"); remedy: mend it until \`containerd config dump\` prints it"
}

# Reads of containerd what the rest needs to know. Before anything is written: it may not understand its own config.
look_at_containerd() {
    local version
    version=$(containerd --version | awk '{ print $3 }')
    version=${version#v}
    containerd_major=${version%%.*}
    [[ $containerd_major =~ ^[0-9]+$ ]] || die "containerd --version says «$version»; remedy: containerd 1.6 or later in PATH"
    if [[ $containerd_major -eq 2 && $version =~ ^2\.([0-9]+)\.([0-9]+) ]]; then
        [[ ${BASH_REMATCH[1]} -gt 3 || (${BASH_REMATCH[1]} -eq 3 && ${BASH_REMATCH[2]} -ge 4) ]] || by_runc=true
    elif [[ $containerd_major -lt 2 ]]; then
        printf '%-14s %s\n' note "containerd $version has no user namespaces for pods (hostUsers: false), with no runtime: 2.0 has"
    fi
    config_version=$([[ $containerd_major -lt 2 ]] && echo 2 || echo 3)
    if [[ -n $rancher ]]; then
        systemd_cgroup=false
        # What it wrote at its last start.
        ! grep -qs 'SystemdCgroup = true$' "$root$(rancher_agent "$rancher")/etc/containerd/config.toml" || systemd_cgroup=true
        return
    fi
    if [[ -f $root$containerd_config ]]; then
        config_version=$(sed -n 's/^version *= *\([0-9]*\).*/\1/p' "$root$containerd_config" | head -n1)
        [[ ${config_version:-1} -ge 2 ]] ||
            die "$containerd_config has version 1; remedy: \`containerd config migrate\` on a containerd 1.7 or later, or write it anew with version = 2"
        # Our lines are known to mean the same in later versions, too: containerd migrates them.
        [[ $config_version -le 3 ]] || config_version=3
    fi
    before=()
    [[ ! -f $root$containerd_config ]] || before=("$root$containerd_config")
    importing "${before[@]}" >"$work/before.toml"
    effective "$work/before.toml" >"$work/before" || die_of_config
    systemd_cgroup=false
    ! grep -q 'SystemdCgroup = true$' "$work/before" || systemd_cgroup=true
}

# Whether the config $1 gives what containerd had before, and our handlers; what else it would change, in $work/changes.
changes_only_handlers() {
    : >"$work/changes"
    effective "$1" >"$work/after" || return 1
    {
        LC_ALL=C comm -23 "$work/before" "$work/after" | grep -vE "$zero" | sed 's/^/- /' || true
        LC_ALL=C comm -13 "$work/before" "$work/after" | sed 's/^/+ /'
    } >"$work/changes"
    [[ ! -s $work/changes ]] && has_handlers "$1"
}

# Whether the drop-in would change nothing but our handlers.
is_harmless() {
    # On 1.x a section in config.toml itself is masked by a drop-in that is already there, and its loss would not be seen.
    if [[ $containerd_major -lt 2 && -f $root$containerd_config ]] && grep -E "$cri_section" "$root$containerd_config" >"$work/sections"; then
        sed 's/^ */- /' "$work/sections" >"$work/changes"
        return 1
    fi
    importing "${before[@]}" "$work/drop-in.toml" >"$work/after.toml"
    changes_only_handlers "$work/after.toml"
}

# Whether containerd itself can be asked what it makes of the files as they now are.
is_live() { [[ -z $root && $dry_run == false ]]; }

# What keeps a config from being the one to restart with: containerd's own words, or the first thing that it would lose.
obstacle() {
    if [[ -s $work/changes ]]; then
        printf 'it would change %s' "$(head -n1 "$work/changes")"
    elif [[ ! -s $work/dump.err ]]; then
        printf 'its CRI plugin would not have them'
    else
        printf '%s' "$(tail -n1 "$work/dump.err")"
    fi
}

# The files as they were before this run.
undo_drop_in() {
    local why
    why=$(obstacle)
    take_back "$drop_in"
    [[ ! -f $work/former.toml ]] || put "$work/former.toml" "$drop_in" 0644
    [[ ${#before[@]} -gt 0 ]] || take_back "$containerd_config"
    save_record
    die "with $drop_in containerd would not start as before: $why; the file is as it was; remedy: write the handlers into $containerd_config by hand (docs/INSTALL.md)"
}

install_drop_in() {
    [[ $(standing "$drop_in") != ours ]] || cp "$root$drop_in" "$work/former.toml"
    put "$work/drop-in.toml" "$drop_in" 0644
    if [[ ! -f $root$containerd_config ]]; then
        importing "$(dirname "$drop_in")/*.toml" >"$work/config.toml"
        put "$work/config.toml" "$containerd_config" 0644
    elif ! imports_drop_in; then
        with_import >"$work/asked.toml"
        if is_live && ! changes_only_handlers "$work/asked.toml"; then undo_drop_in; fi
        ask_for_import
        return
    fi
    # The last word: containerd on its own file. A node whose containerd does not come up again has lost everything.
    if is_live && ! changes_only_handlers "$containerd_config"; then undo_drop_in; fi
}

install_for_containerd() {
    install_options
    make_drop_in >"$work/drop-in.toml"
    if [[ -f $root$containerd_config ]] && [[ $(standing "$drop_in") == nothing ]] && has_handlers "$root$containerd_config"; then
        tell unchanged "$containerd_config has the handlers"
    elif is_harmless; then
        install_drop_in
    else
        if [[ $(standing "$drop_in") != nothing ]]; then
            take_back "$drop_in"
            save_record
            # What was hidden by it counts again.
            cp "$work/changes" "$work/why"
            effective "$work/before.toml" >"$work/before" || die_of_config
            cp "$work/why" "$work/changes"
        fi
        ask_for_handlers
    fi
}

what_remains_to_do() {
    local then='restart it, then apply hack/manifests/runtimeclass.yaml'
    if [[ $asked_for == true ]]; then
        printf 'First add the lines above, and let "containerd config dump" print containerd'\''s config with them; then %s\n' "$then"
    else
        printf 'containerd reads its config when it starts, and understands this one: %s\n' "$then"
    fi
}
