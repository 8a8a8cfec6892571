# Sourced by hack/install: what the operator has to do where a file of containerd's is theirs.
# shellcheck shell=bash disable=SC2154,SC2034  # variables of hack/install and hack/lib-containerd.sh
#
# Nothing is asked for that containerd has not read: in a copy of its config, with those lines in it.

# The files that a containerd 1.x reads, in the order in which they count; 2.x does not say.
files_read() {
    local file
    [[ $containerd_major -lt 2 ]] || return 0
    { containerd --config "$work/before.toml" config dump | sed -n 's/^imports = //p' | grep -oE '"[^"]+"' || true; } | tr -d '"' |
        while read -r file; do [[ $file == "$work"/* || $file == "$drop_in" ]] || printf '%s\n' "$file"; done
}

# The file that containerd has the CRI plugin's section from: on 1.x the last of those that have one.
file_of_cri() {
    local file last=$root$containerd_config
    while read -r file; do ! grep -qE "$cri_section" "$file" || last=$file; done < <(files_read)
    printf '%s\n' "$last"
}

# A copy of config.toml, to be read elsewhere: its imports by absolute paths, or those of $@ instead.
copy_of_config() {
    local change
    change="s#([[,[:space:]][\"'])([^/\"'])#\1$(dirname "$containerd_config")/\2#g"
    if [[ $# -gt 0 ]]; then
        printf 'imports = ['
        printf '"%s", ' "$@"
        printf ']\n'
        change=d
    fi
    sed -E "/^ *imports *=/ { :more; /\]/! { N; b more }; $change }" "$root$containerd_config"
}

# What containerd would read after the operator has put $work/lines.toml at the end of the file $1.
with_lines() {
    local file imports=()
    if [[ $1 == "$root$containerd_config" ]]; then
        copy_of_config
        echo
        cat "$work/lines.toml"
        return
    fi
    { cat "$1"; echo; cat "$work/lines.toml"; } >"$work/copy.toml"
    while read -r file; do
        case $file in
            "$root$containerd_config") ;;
            "$1") imports+=("$work/copy.toml") ;;
            *) imports+=("$file") ;;
        esac
    done < <(files_read)
    copy_of_config "${imports[@]}"
}

# Those handlers that $1 has not yet, and others that have to be with them.
missing_handlers() {
    local name missing=()
    for name in gabion gabion-restricted; do
        grep -qE "\.runtimes\.\"?$name\"?\]" "$1" || missing+=("$name")
    done
    handlers "${missing[@]}"
    other_handlers "$1"
}

ask_for_handlers() {
    local file why=$work/why
    file=$(file_of_cri)
    cp "$work/changes" "$why"
    missing_handlers "$file" >"$work/lines.toml"
    with_lines "$file" >"$work/asked.toml"
    # A drop-in of ours that would have been removed is still there in a dry run, and hides what counts.
    [[ $(standing "$drop_in") == ours ]] || changes_only_handlers "$work/asked.toml" ||
        die "containerd would not take the handlers gabion and gabion-restricted at the end of ${file#"$root"}: $(obstacle); remedy: write them there by hand (docs/INSTALL.md)"
    printf '\nThis containerd takes no drop-in for its CRI plugin: '
    if [[ -s $why ]]; then
        printf 'it would undo what %s says there:\n' "${file#"$root"}"
        sed 's/^/  /' "$why" | head -n 12
    else
        printf '%s has the last word there.\n' "${file#"$root"}"
    fi
    printf 'So the handlers have to stand in that file, which is yours. Add this at its end, then restart containerd:\n\n'
    cat "$work/lines.toml"
    printf '\n'
    asked_for=true
}

# config.toml as it is when the operator has done what ask_for_import asks for.
with_import() {
    local at
    at="$(dirname "$drop_in")/*.toml"
    if grep -qE '^ *imports *=' "$root$containerd_config"; then
        copy_of_config | sed -E "s#^( *imports *= *\[)#\1\"$at\", #"
    else
        printf 'imports = ["%s"]\n' "$at"
        cat "$root$containerd_config"
    fi
}

ask_for_import() {
    printf '\n%s does not import the drop-in. ' "$containerd_config"
    if grep -qE '^ *imports *=' "$root$containerd_config"; then
        printf 'Add this to the list in its line «imports», then restart containerd:\n\n'
        printf '  "%s"\n\n' "$(dirname "$drop_in")/*.toml"
    else
        printf 'Add this line to it, before its first [section], then restart containerd:\n\n'
        printf '  imports = ["%s"]\n\n' "$(dirname "$drop_in")/*.toml"
    fi
    asked_for=true
}
