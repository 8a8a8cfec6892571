//! What engines' containers have written: their writable layer is looked at while they are there, and under the name gabion-learn before they are deleted.

use super::{holes, set, shell};
use integration::command::{Running, limit};
use integration::{Runtime, left_out};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// In a mount namespace of its own: a root that an engine would have made of layers, /etc/gabion and /var/lib. Where such mounts cannot be made: 77.
const SCRIPT: &str = r#"
dir=$1 gabion=$2 id=$3 rootfs=$dir/bundle/rootfs
mkdir "$dir/m" && mount -t tmpfs t "$dir/m" || exit 77
mkdir "$dir"/m/{eu,ew,image,middle,u,w} && mount --bind "$rootfs" "$dir/m/image" || exit 1
mount -t overlay o -o "lowerdir=/etc,upperdir=$dir/m/eu,workdir=$dir/m/ew" /etc || exit 77
mount -t tmpfs v /var/lib || exit 77
mkdir -p /etc/gabion/runtimes "$dir/m/middle/var/lib/app" || exit 1
echo "of a layer" >"$dir/m/middle/var/lib/app/old"
printf 'level = "permissive"\n[audit]\nfile = "%s"\n' "$dir/audit.jsonl" >/etc/gabion/runtimes/learn.toml
mount -t overlay o -o "lowerdir=$dir/m/middle:$dir/m/image,upperdir=$dir/m/u,workdir=$dir/m/w" "$rootfs" || exit 77
echo "an engine's" >"$rootfs/etc/resolv.conf"
ln -s "$gabion" "$dir/gabion-learn"
call() { "$dir/gabion-learn" --root "$dir/state" "$@"; }
call create -b "$dir/bundle" "$id" </dev/null >"$dir/said" 2>&1 && call start "$id" || { cat "$dir/said"; exit 1; }
until [ -e "$rootfs/run/done" ]; do sleep 0.02; done
call learn --of "$id" --format json >"$dir/of.json" || exit 2
call kill "$id" KILL
until call state "$id" | grep -q stopped; do sleep 0.02; done
call delete "$id" || exit 3
cp "/var/lib/gabion/learned/$id.json" "$dir/kept.json"
"#;

#[test]
fn the_layer_of_an_engines_container_is_looked_at_and_kept() {
    let script =
        "echo more >>/var/lib/app/old; mkdir /var/lib/app/new; rm /var/log/app/gone; echo x >/run/done; exec sleep 600";
    let mut container = shell("learn-of", script);
    fs::write(container.bundle.rootfs().join("var/log/app/gone"), "gone").unwrap();
    let hosts = container.bundle.dir.join("hosts");
    fs::write(&hosts, "").unwrap();
    for at in ["/etc/hosts", "/srv/places/hosts"] {
        let mount = json!({"destination": at, "type": "bind", "source": hosts, "options": ["bind", "ro"]});
        container.bundle.config.push("/mounts", mount);
    }
    container.bundle.write_config();
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-c", SCRIPT, "engine"]);
    let gabion = fs::canonicalize(&Runtime::gabion().program).unwrap();
    command.arg(&container.bundle.dir).arg(gabion).arg(container.id());
    let done = Running::start(command, &container.bundle.dir).wait(limit(60));
    if done.code == 77 {
        left_out("learn: no overlay can be mounted here");
        return;
    }
    assert_eq!(done.code, 0, "{done}");
    let read =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(container.bundle.dir.join(name)).unwrap()).unwrap() };
    let report = read("of.json");
    assert_eq!(holes(&report), set(&["/var/lib/app", "/var/log/app"]), "{report:#}");
    let written = report["seen"]["written"].as_object().unwrap();
    assert_eq!(written["/var/lib/app/old"]["before"]["size"], 11, "{report:#}");
    assert_eq!(written["/var/log/app/gone"]["change"], "deleted", "{report:#}");
    // What the engine and the runtime made is not the program's.
    let theirs = written
        .keys()
        .filter(|path| path.starts_with("/etc") || path.starts_with("/srv/places/"));
    assert_eq!(theirs.count(), 0, "{report:#}");
    assert_eq!(read("kept.json")["written"], report["seen"]["written"]);
    container.nothing_left();
}
