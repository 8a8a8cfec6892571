//! The image: busybox and the machine's own nginx, packed where they lie.

use crate::left_out;
use integration::Bundle;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const NGINX: &str = "/usr/sbin/nginx";

/// What the page says.
pub(crate) const PAGE: &str = "a page from inside\n";

/// nginx in the places where Debian's has what it writes.
pub(crate) const DEBIAN_CONF: &str = "/etc/nginx/debian.conf";

const CONF: &str = "user app app;
pid /var/run/nginx.pid;
error_log /dev/stderr;
events {}
http {
    access_log /dev/stdout;
    client_body_temp_path /var/cache/nginx/client;
    proxy_temp_path /var/cache/nginx/proxy;
    fastcgi_temp_path /var/cache/nginx/fastcgi;
    uwsgi_temp_path /var/cache/nginx/uwsgi;
    scgi_temp_path /var/cache/nginx/scgi;
    server { listen 80; root /srv; }
}
";

pub(crate) fn has_nginx() -> bool {
    let here = Path::new(NGINX).exists();
    if !here {
        left_out("no nginx here");
    }
    here
}

/// Packs the bundle's root file system, with nginx where there is one.
pub(crate) fn pack(bundle: &Bundle) -> PathBuf {
    let root = bundle.rootfs();
    for applet in ["grep", "id", "nc", "test", "wget"] {
        // Some are there already.
        symlink("busybox", root.join("usr/bin").join(applet)).ok();
    }
    fs::write(root.join("srv/index.html"), PAGE).unwrap();
    if Path::new(NGINX).exists() {
        add_nginx(&root);
    }
    let tar = bundle.dir.join("image.tar");
    let packed = Command::new("tar")
        .arg("-C")
        .arg(&root)
        .args(["--owner=0", "--group=0", "--numeric-owner", "-cf"])
        .arg(&tar)
        .arg(".")
        .status();
    assert!(packed.unwrap().success());
    tar
}

fn add_nginx(root: &Path) {
    let listed = Command::new("ldd").arg(NGINX).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    // The loader stands in /lib64, which is no directory of the image yet.
    for file in libraries.chain([NGINX]) {
        let to = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    }
    for dir in ["etc/nginx", "var/cache/nginx", "var/log/nginx", "var/lib/nginx"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::write(root.join("etc/nginx/nginx.conf"), CONF).unwrap();
    let log = CONF.replace("/dev/stdout", "/var/log/nginx/access.log");
    let debian = log
        .replace("/var/run/nginx", "/run/nginx")
        .replace("/var/cache/nginx/client", "/var/lib/nginx/body");
    let debian = debian.replace("/var/cache/nginx", "/var/lib/nginx");
    fs::write(root.join(DEBIAN_CONF.trim_start_matches('/')), debian).unwrap();
}
