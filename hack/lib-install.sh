# Sourced by hack/install and hack/uninstall: the record of what was written, and how a file is written.
# shellcheck shell=bash
#
# The record is a file as `sha256sum` prints it, so that `sha256sum --check` reads it; the options, and directories that were made, are
# comments in it. What is in the record and still has its hash is ours. Everything else is somebody's, and is left alone.

# The record, too, is nobody else's to write to, whatever the caller's files are like.
umask 022

# Everything goes below it instead of to this machine: a package's tree (--root), or a machine's that does not run (--image).
root=''
# A package's tree has nothing but gabion's own files: no record, nothing of containerd's.
package=false
dry_run=false
record=/var/lib/gabion/installed
policy=/etc/gabion/policy.toml
# What would stand where somebody's file does is kept here, to be compared.
kept=/var/lib/gabion/new
# Path → hash, path → the hash before while a file is being replaced, directories, and options, in the record.
declare -A ours=() was=()
made=()
options=()

tell() {
    local verb=$1
    [[ $dry_run == false || $verb == unchanged || $verb == left ]] || verb="would $verb"
    printf '%-14s %s\n' "$verb" "$2"
}

# More about the line above.
more() { printf '%-14s %s\n' '' "$1"; }

hash_of() { sha256sum <"$1" | cut -d' ' -f1; }

# Whether two files are the same; a pipe or a device in a file's place is never opened.
same() { [[ -f $2 ]] && cmp -s "$1" "$2"; }

# Whether only root (or who calls, below a tree of theirs) may change what stands there.
is_trusty() {
    local owner mode
    read -r owner mode < <(stat -c '%u %a' -- "$1")
    [[ ($owner == 0 || $owner == "$EUID") && $((8#$mode & 8#022)) -eq 0 ]]
}

load_record() {
    local hash path
    [[ $package == false && (-e $root$record || -L $root$record) ]] || return 0
    # By it root removes files.
    [[ -f $root$record && ! -L $root$record ]] || die "$root$record is not a regular file, so hack/install did not write it; remedy: look at it, then remove it"
    is_trusty "$root$record" || die "$root$record can be changed by others than root: it is not believed; remedy: look at it, then chown root and chmod go-w"
    while read -r hash path; do
        case $hash in
            '#')
                case $path in
                    'made '*) made+=("${path#made }") ;;
                    'option '*) options+=("${path#option }") ;;
                    'was '*) path=${path#was } was[${path#* }]=${path%% *} ;;
                esac
                ;;
            *) ours[$path]=$hash ;;
        esac
    done <"$root$record"
}

# Written anew after each change, and by rename: whatever interrupts the script, what it had written is in the record.
save_record() {
    local path
    [[ $dry_run == false && $package == false ]] || return 0
    make_parents "$record"
    rm -f "$root$record.new"
    {
        echo '# Written by hack/install. hack/uninstall removes what still has the hash it has here.'
        for path in "${options[@]}"; do printf '# option %s\n' "$path"; done
        for path in "${made[@]}"; do printf '# made %s\n' "$path"; done | LC_ALL=C sort
        for path in "${!was[@]}"; do printf '# was %s %s\n' "${was[$path]}" "$path"; done | LC_ALL=C sort -k4
        for path in "${!ours[@]}"; do printf '%s  %s\n' "${ours[$path]}" "$path"; done | LC_ALL=C sort -k2
    } >"$root$record.new"
    mv -T "$root$record.new" "$root$record"
}

# What stands at $1: nothing, ours, edited (ours once, changed since) or foreign.
standing() {
    local at=$root$1 hash
    if [[ ! -e $at && ! -L $at ]]; then
        echo nothing
    elif [[ -z ${ours[$1]:-} ]]; then
        echo foreign
    elif [[ ! -f $at || -L $at ]]; then
        echo edited
    else
        hash=$(hash_of "$at")
        # An interrupted run leaves the file of before under the record of now.
        [[ $hash == "${ours[$1]}" || $hash == "${was[$1]:-}" ]] && echo ours || echo edited
    fi
}

# Ends where a file of ours would lie in a directory that somebody else may change, or outside of the tree by a link in it.
check_way() {
    local dir real base owner mode
    dir=$(dirname "$root$1")
    while [[ ! -d $dir ]]; do
        [[ ! -e $dir && ! -L $dir ]] || die "$dir is in the way: it is no directory; remedy: move it away"
        dir=$(dirname "$dir")
    done
    real=$(realpath -e -- "$dir")
    base=$(realpath -e -- "${root:-/}")
    [[ $real == "$base" || $real == "${base%/}"/* ]] || die "$dir leads out of $root, to $real; remedy: make it a directory there"
    while :; do
        read -r owner mode < <(stat -c '%u %a' -- "$real")
        [[ $owner == 0 || $owner == "$EUID" ]] ||
            die "$real belongs to uid $owner, who could exchange what is written there; remedy: chown root $real"
        # Of a directory as /tmp nobody takes another's entry.
        [[ $((8#$mode & 8#002)) -eq 0 || ($((8#$mode & 8#1000)) -ne 0 && $real != "$(realpath -e -- "$dir")") ]] ||
            die "everybody may write to $real, and exchange what is written there; remedy: chmod o-w $real"
        [[ $real != "$base" ]] || break
        real=$(dirname "$real")
    done
}

# Makes the directories above $1 that are missing; they are in the record before they are there, as files are. Of the record's own only that
# with gabion's name can be: no other is made on a machine.
make_parents() {
    local dir missing=()
    dir=$(dirname "$1")
    while [[ $dir != / && ! -d $root$dir ]]; do
        missing=("$dir" "${missing[@]}")
        dir=$(dirname "$dir")
    done
    dir=$(dirname "$record")
    [[ $1 != "$record" ]] || is_made "$dir" || made+=("$dir")
    for dir in "${missing[@]}"; do is_made "$dir" || made+=("$dir"); done
    [[ ${#missing[@]} -gt 0 && $dry_run == false ]] || return 0
    [[ $1 == "$record" ]] || save_record
    for dir in "${missing[@]}"; do install -d -m 0755 "$root$dir"; done
}

is_made() { [[ " ${made[*]} " == *" $1 "* ]]; }

# A TOML file's keys, a line each, with their section before them.
keys_of() { awk '/^ *(#|$)/ { next } /^ *\[/ { gsub(/[][ ]/, ""); section = $0 "."; next } { print section $0 }' "$1" | LC_ALL=C sort; }

# Which keys of the policy change, from the file $1 to the file $2.
tell_keys() {
    local line
    while read -r line; do more "$line"; done < <(diff -U0 <(keys_of "$1") <(keys_of "$2") | grep -E '^[-+][^-+]' | sed -E 's/^([-+])/\1 /')
}

# Keeps FILE to be compared with what stands at PATH, and says where in $compare.
keep() {
    local file=$1 path=$2 at
    at=$kept/$(basename "$path")
    case $(standing "$at") in
        nothing | ours)
            [[ $dry_run == true ]] || { same "$file" "$root$at" && [[ -n ${ours[$at]:-} ]]; } || write "$file" "$at" 0644
            compare="compare it with $root$at"
            ;;
        *) compare="to compare: move $root$at away, and run this again" ;;
    esac
}

# What was kept of PATH is of no more use.
drop_kept() {
    local at
    at=$kept/$(basename "$1")
    [[ $dry_run == false && $(standing "$at") == ours ]] || return 0
    rm "$root$at"
    unset "ours[$at]"
    save_record
}

# Writes FILE to PATH: into the record first, for a file that is in it and not there yet is no harm, the other way round it would stay for ever.
write() {
    local file=$1 path=$2 mode=$3
    make_parents "$path"
    [[ $(standing "$path") != ours ]] || was[$path]=$(hash_of "$root$path")
    ours[$path]=$(hash_of "$file")
    save_record
    [[ ! -d $root$path.gabion-new ]] || die "$root$path.gabion-new is in the way; remedy: move it away"
    install -T -m "$mode" "$file" "$root$path.gabion-new"
    mv -T "$root$path.gabion-new" "$root$path"
    unset "was[$path]"
    save_record
}

# Owner and mode as they were written.
mend() {
    local path=$1 mode=$2 is verb=unchanged
    is=$(stat -c '%u:%g %a' -- "$root$path")
    if [[ $((8#${is#* })) -ne $((8#$mode)) || ($EUID -eq 0 && ${is% *} != 0:0) ]]; then
        verb=mend
        if [[ $dry_run == false ]]; then
            [[ $EUID -ne 0 ]] || chown -h 0:0 "$root$path"
            chmod "$mode" "$root$path"
        fi
    fi
    tell "$verb" "$path$([[ $verb == unchanged ]] || echo ' (owner and mode)')"
}

# put FILE PATH MODE: FILE's content to PATH, unless somebody else has a say in what stands there.
put() {
    local file=$1 path=$2 mode=$3 verb=write stands why compare
    stands=$(standing "$path")
    case $stands in
        nothing) ;;
        ours)
            if same "$file" "$root$path"; then
                unset "was[$path]"
                mend "$path" "$mode"
                drop_kept "$path"
                return 0
            fi
            verb=replace
            ;;
        edited | foreign)
            if same "$file" "$root$path"; then
                tell unchanged "$path"
                drop_kept "$path"
                return 0
            fi
            [[ $package == false ]] || die "$root$path stands there already, and is another; remedy: an empty directory for --root"
            [[ $stands == edited ]] && why='changed since it was installed' || why='not written by hack/install'
            keep "$file" "$path"
            tell left "$path ($why; $compare)"
            return 0
            ;;
    esac
    tell "$verb" "$path"
    [[ $verb != replace || $path != "$policy" ]] || tell_keys "$root$path" "$file"
    if [[ $dry_run == true ]]; then make_parents "$path"; else write "$file" "$path" "$mode"; fi
    drop_kept "$path"
}

# Takes back what is ours at $1, and what an interrupted run left beside it.
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
    [[ $dry_run == true || ! -f $root$1.gabion-new ]] || rm "$root$1.gabion-new"
    unset "ours[$1]" "was[$1]"
}
