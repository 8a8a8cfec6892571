//! `podman kube play` of two Pods that differ in one line: nginx with a read-only root and two emptyDirs, and the same privileged.

use crate::engine::{Podman, Who};
use crate::image::{PAGE, has_nginx};
use integration::Done;
use integration::command::{limit, until};
use std::fs;
use std::time::Duration;

#[test]
fn root_plays_a_pod() {
    serves(Who::Root);
}

#[test]
fn a_user_plays_a_pod() {
    serves(Who::User);
}

#[test]
fn a_privileged_pod_is_refused_for_root() {
    refuses(Who::Root);
}

#[test]
fn a_privileged_pod_is_refused_for_a_user() {
    refuses(Who::User);
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

fn serves(who: Who) {
    let Some(podman) = has_nginx().then(|| Podman::of(who, "kube")).flatten() else {
        return;
    };
    play(
        &podman,
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

/// A file of /proc that the privileged pod writes where nothing forbids it: root one of the machine's, a user one of the user
/// namespace that all of this user's containers are in.
struct Written<'a> {
    podman: &'a Podman,
    path: &'static str,
    before: String,
}

impl<'a> Written<'a> {
    fn new(podman: &'a Podman) -> Self {
        let path = match podman.session {
            None => "/proc/sys/kernel/printk_ratelimit_burst",
            Some(_) => "/proc/sys/user/max_time_namespaces",
        };
        let mut written = Self {
            podman,
            path,
            before: String::new(),
        };
        written.before = written.now();
        written
    }

    fn now(&self) -> String {
        match self.podman.session {
            None => fs::read_to_string(self.path).unwrap(),
            Some(_) => self.podman.call(&["unshare", "cat", self.path]).ok().out,
        }
    }
}

/// Given back whatever happens: without the refusal the pod would change it for the whole machine. A user's goes with the namespace.
impl Drop for Written<'_> {
    fn drop(&mut self) {
        if self.podman.session.is_none() && self.now() != self.before {
            fs::write(self.path, &self.before).unwrap();
        }
    }
}

fn refuses(who: Who) {
    let Some(podman) = &Podman::of(who, "kube-privileged") else {
        return;
    };
    let written = Written::new(podman);
    let script = format!(r#"["sh", "-c", "echo 1234 > {}; exec sleep 600"]"#, written.path);
    let done = play(podman, "{ privileged: true }", &script);
    // What is not refused has some time to write.
    let patience = if done.code == 0 { limit(3) } else { Duration::ZERO };
    let changed = until(patience, || written.now() != written.before);
    assert!(!changed, "{} is {}: {done}", written.path, written.now());
    assert_ne!(done.code, 0, "{done}");
    let lines: Vec<&str> = done
        .err
        .lines()
        .filter(|line| line.contains("gabion: refused ["))
        .collect();
    assert_eq!(lines.len(), 1, "{done}");
    assert!(lines[0].contains("remedy: "), "{done}");
    podman.call(&["pod", "rm", "--all", "--force", "--time", "0"]).ok();
    podman.nothing_runs();
}
