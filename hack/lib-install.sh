# Sourced by hack/install and hack/uninstall: the record of what was written, and how a file is written.
# shellcheck shell=bash
#
# The record is a file as `sha256sum` prints it, so that `sha256sum --check` reads it; directories that were made are
# comments in it. What is in the record and still has its hash is ours. Everything else is somebody's, and is left alone.

# Everything goes below it instead of to this machine: for packages and tests.
root=''
dry_run=false
record=/var/lib/gabion/installed
# Path → hash, and directories, in the record.
declare -A ours=()
made=()

tell() {
    local verb=$1
    [[ $dry_run == false || $verb == unchanged || $verb == left ]] || verb="would $verb"
    printf '%-14s %s\n' "$verb" "$2"
}

hash_of() { sha256sum <"$1" | cut -d' ' -f1; }

load_record() {
    local hash path
    [[ -f $root$record ]] || return 0
    while read -r hash path; do
        case $hash in
            '#') [[ $path != 'made '* ]] || made+=("${path#made }") ;;
            *) ours[$path]=$hash ;;
        esac
    done <"$root$record"
}

# Written anew after each change, and by rename: whatever interrupts the script, what it had written is in the record.
save_record() {
    local path
    [[ $dry_run == false ]] || return 0
    make_parents "$record"
    {
        echo '# Written by hack/install. hack/uninstall removes what still has the hash it has here.'
        for path in "${made[@]}"; do printf '# made %s\n' "$path"; done
        for path in "${!ours[@]}"; do printf '%s  %s\n' "${ours[$path]}" "$path"; done | LC_ALL=C sort -k2
    } >"$root$record.new"
    mv "$root$record.new" "$root$record"
}

# What stands at $1: nothing, ours, edited (ours once, changed since) or foreign.
standing() {
    local at=$root$1
    if [[ ! -e $at && ! -L $at ]]; then
        echo nothing
    elif [[ -z ${ours[$1]:-} ]]; then
        echo foreign
    elif [[ -f $at && ! -L $at && $(hash_of "$at") == "${ours[$1]}" ]]; then
        echo ours
    else
        echo edited
    fi
}

# Makes the directories above $1 that are missing.
make_parents() {
    local dir missing=()
    dir=$(dirname "$1")
    while [[ $dir != / && ! -d $root$dir ]]; do
        missing=("$dir" "${missing[@]}")
        dir=$(dirname "$dir")
    done
    for dir in "${missing[@]}"; do
        [[ " ${made[*]} " == *" $dir "* ]] || made+=("$dir")
        [[ $dry_run == true ]] || install -d -m 0755 "$root$dir"
    done
}

# put FILE PATH MODE: FILE's content to PATH, unless somebody else has a say in what stands there.
put() {
    local file=$1 path=$2 mode=$3 verb=write stands
    stands=$(standing "$path")
    case $stands in
        nothing) ;;
        ours)
            [[ ${ours[$path]} != "$(hash_of "$file")" ]] || { tell unchanged "$path"; return 0; }
            verb=replace
            ;;
        edited | foreign)
            if cmp -s "$file" "$root$path"; then
                tell unchanged "$path"
            elif [[ $stands == edited ]]; then
                tell left "$path (changed since it was installed; compare it with ${file#"$repo/"})"
            else
                tell left "$path (not written by hack/install; compare it with ${file#"$repo/"})"
            fi
            return 0
            ;;
    esac
    tell "$verb" "$path"
    make_parents "$path"
    ours[$path]=$(hash_of "$file")
    [[ $dry_run == false ]] || return 0
    # The record first: a file that is in it and not there yet is no harm, the other way round it would stay for ever.
    save_record
    install -m "$mode" "$file" "$root$path.gabion-new"
    mv "$root$path.gabion-new" "$root$path"
}

# Takes back what is ours at $1.
take_back() {
    case $(standing "$1") in
        ours)
            tell remove "$1"
            [[ $dry_run == true ]] || rm "$root$1"
            ;;
        edited)
            tell left "$1 (changed since it was installed)"
            ;;
    esac
    unset "ours[$1]"
}
