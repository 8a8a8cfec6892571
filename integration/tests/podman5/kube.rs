//! `podman kube play` of two Pods that differ in one line: nginx with a read-only root and two emptyDirs, and the same privileged.

use crate::engine::Podman;
use crate::image::{PAGE, has_nginx};
use integration::Done;
use integration::command::{limit, until};
use std::fs;

#[test]
fn root_plays_a_pod() {
    if has_nginx()
        && let Some(podman) = Podman::root("kube-root")
    {
        serves(&podman);
    }
}

#[test]
fn a_user_plays_a_pod() {
    if has_nginx()
        && let Some(podman) = Podman::user("kube-user")
    {
        serves(&podman);
    }
}

#[test]
fn a_privileged_pod_is_refused_for_root() {
    if let Some(podman) = Podman::root("kube-privileged-root") {
        refuses(&podman);
    }
}

#[test]
fn a_privileged_pod_is_refused_for_a_user() {
    if let Some(podman) = Podman::user("kube-privileged-user") {
        refuses(&podman);
    }
}

fn play(podman: &Podman, security: &str, args: &str) -> Done {
    let file = podman.bundle.dir.join("pod.yaml");
    let text = format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: site
spec:
  containers:
    - name: nginx
      image: localhost/img:latest
      imagePullPolicy: Never
      command: {args}
      securityContext: {security}
      volumeMounts:
        - {{ name: run, mountPath: /var/run }}
        - {{ name: cache, mountPath: /var/cache/nginx }}
  volumes:
    - {{ name: run, emptyDir: {{}} }}
    - {{ name: cache, emptyDir: {{}} }}
"
    );
    fs::write(&file, text).unwrap();
    // `kube play` is called `play kube` in podman 4.3, and knows both.
    podman.call(&["play", "kube", "--network", "none", file.to_str().unwrap()])
}

fn serves(podman: &Podman) {
    play(
        podman,
        "{ readOnlyRootFilesystem: true }",
        r#"["nginx", "-g", "daemon off;"]"#,
    )
    .ok();
    let mut page = None;
    let served = until(limit(30), || {
        let done = podman.call(&["exec", "site-nginx", "wget", "-q", "-O", "-", "http://127.0.0.1/"]);
        let good = done.code == 0 && done.out == PAGE;
        page = Some(done);
        good
    });
    let logs = podman.call(&["logs", "site-nginx"]);
    assert!(served, "{}\n{logs}", page.unwrap());
    // What it needs is there, and nothing else can be written.
    let script = "test -s /run/nginx.pid && test -d /var/cache/nginx/client && ! touch /srv/file";
    podman.call(&["exec", "site-nginx", "sh", "-c", script]).ok();
    podman.call(&["pod", "rm", "--force", "--time", "0", "site"]).ok();
    podman.nothing_runs();
}

/// Given back whatever happens: without the refusal the pod would change it for the whole machine.
struct Sysctl(&'static str, String);

impl Drop for Sysctl {
    fn drop(&mut self) {
        if fs::read_to_string(self.0).unwrap() != self.1 {
            fs::write(self.0, &self.1).unwrap();
        }
    }
}

fn refuses(podman: &Podman) {
    let path = "/proc/sys/kernel/printk_ratelimit_burst";
    let before = Sysctl(path, fs::read_to_string(path).unwrap());
    let script = format!(r#"["sh", "-c", "echo 1234 > {path}; exec sleep 600"]"#);
    let done = play(podman, "{ privileged: true }", &script);
    assert_ne!(done.code, 0, "{done}");
    let lines: Vec<&str> = done
        .err
        .lines()
        .filter(|line| line.contains("gabion: refused ["))
        .collect();
    assert_eq!(lines.len(), 1, "{done}");
    assert!(lines[0].contains("remedy: "), "{done}");
    assert_eq!(fs::read_to_string(path).unwrap(), before.1);
    podman.call(&["pod", "rm", "--all", "--force", "--time", "0"]).ok();
    podman.nothing_runs();
}
