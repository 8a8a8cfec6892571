//! Runs a service as its row says, and asks it.

use crate::table::{Ask, JIT, Need, Restricted, Service};
use integration::command::limit;
use integration::{Bundle, Podman};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where `hack/test` made the root file system that all services share; none where it could not.
pub(crate) fn root() -> Option<PathBuf> {
    let root = std::env::var_os("GABION_SERVICES_ROOT").map(PathBuf::from);
    if root.is_none() {
        integration::left_out("services: no GABION_SERVICES_ROOT (hack/test makes it from Debian's packages)");
    }
    root
}

/// What became of a service that was started and asked.
#[derive(Debug)]
pub(crate) enum Served {
    Yes,
    /// And all that was said meanwhile.
    No(String),
}

pub(crate) struct Stand<'a> {
    service: &'a Service,
    root: &'a Path,
    podman: Podman,
}

/// With a policy of the test's own, where there is one, and without the machine's audit log.
pub(crate) fn with_policy(podman: Podman, text: Option<&str>) -> Podman {
    let dir = podman.bundle.dir.clone();
    let podman = podman.runtime_flag(&format!("audit-log={}", dir.join("audit.jsonl").display()));
    let Some(text) = text else { return podman };
    let file = dir.join("policy.toml");
    fs::write(&file, text).expect("policy");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("mode");
    podman.runtime_flag(&format!("policy={}", file.display()))
}

impl<'a> Stand<'a> {
    /// None where there is no podman.
    pub(crate) fn new(service: &'a Service, root: &'a Path, level: &str, missing: Option<usize>) -> Option<Self> {
        let podman = Podman::without_image(Bundle::new("service"), level)?;
        let policy = service.needs_without(missing).find_map(|need| match need {
            Need::Policy(text) => Some(text),
            _ => None,
        });
        Some(Self::under(service, root, podman, policy))
    }

    fn under(service: &'a Service, root: &'a Path, podman: Podman, policy: Option<&str>) -> Self {
        let podman = with_policy(podman, policy);
        Self { service, root, podman }
    }

    fn start(&self, name: &str, missing: Option<usize>) -> integration::Done {
        let options = self.service.podman_options(missing);
        let mut words = vec![
            "run",
            "--detach",
            "--name",
            name,
            "--network",
            "none",
            "--log-driver",
            "k8s-file",
        ];
        words.extend(options.iter().map(String::as_str));
        words.extend(["--rootfs", self.root.to_str().expect("a path")]);
        words.extend(self.service.command);
        self.podman.call(&words)
    }

    /// Starts it without what is missing, asks until it answers, has ended, or has twice failed to answer after it said why.
    pub(crate) fn serve(&self, asks: &[Ask], missing: Option<usize>) -> Served {
        let name = self.podman.name("c");
        let symptom = missing.map(|at| self.service.needs[at].1);
        let started = self.start(&name, missing);
        if started.code != 0 {
            return Served::No(started.err);
        }
        let deadline = Instant::now() + limit(60);
        let (mut answered, mut said_why) = (0, 0);
        loop {
            // It had ended before it was asked: what it prints is then whole, and nothing more can be expected.
            let ended = !self.is_running(&name);
            let mut answers = String::new();
            while let Some(ask) = asks.get(answered) {
                let (good, answer) = self.ask(&name, ask);
                answers.push_str(&answer);
                if !good {
                    break;
                }
                answered += 1;
            }
            if answered == asks.len() {
                return Served::Yes;
            }
            let said = self.said(&name, ended) + &answers;
            said_why += u32::from(symptom.is_some_and(|symptom| said.contains(symptom)));
            if ended || said_why == 2 || Instant::now() > deadline {
                return Served::No(said);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn ask(&self, name: &str, ask: &Ask) -> (bool, String) {
        let (done, expect) = match ask {
            Ask::Run(command, expect) => (self.podman.call(&[&["exec", name], *command].concat()), expect),
            Ask::Prints(expect) => (self.podman.call(&["logs", name]), expect),
        };
        (done.code == 0 && done.out.contains(expect), done.to_string())
    }

    fn is_running(&self, name: &str) -> bool {
        let done = self.podman.call(&["inspect", "--format", "{{.State.Running}}", name]);
        done.ok().out.trim() == "true"
    }

    /// What it printed, and its log file where it is still there to be read.
    fn said(&self, name: &str, ended: bool) -> String {
        let logs = self.podman.call(&["logs", name]);
        let mut said = logs.out + &logs.err;
        if let (Some(file), false) = (self.service.log, ended) {
            said.push_str(&self.podman.call(&["exec", name, "cat", file]).out);
        }
        said
    }

    /// Ends it as an operator would; its volume stays.
    fn stop(&self) {
        let name = self.podman.name("c");
        self.podman.call(&["stop", "--time", "30", &name]).ok();
        self.podman.call(&["rm", &name]).ok();
    }
}

/// The service serves with what it needs, not without any one thing of it, and keeps what it should keep.
pub(crate) fn check(service: &Service) {
    let Some(root) = root() else { return };
    let Some(stand) = Stand::new(service, &root, "hardened", None) else {
        return;
    };
    let served = stand.serve(service.asks, None);
    assert!(
        matches!(served, Served::Yes),
        "{} does not serve: {served:?}",
        service.name
    );
    if !service.kept.is_empty() {
        stand.stop();
        let served = stand.serve(service.kept, None);
        assert!(
            matches!(served, Served::Yes),
            "{} has not kept: {served:?}",
            service.name
        );
    }
    drop(stand);
    for (at, (need, symptom)) in service.needs.iter().enumerate() {
        let stand = Stand::new(service, &root, "hardened", Some(at)).expect("podman");
        match stand.serve(service.asks, Some(at)) {
            Served::Yes => panic!("{} serves without {need:?}", service.name),
            Served::No(said) => {
                assert!(
                    said.contains(symptom),
                    "{} without {need:?} does not say «{symptom}»: {said}",
                    service.name
                );
            }
        }
    }
    check_restricted(service, &root);
}

fn check_restricted(service: &Service, root: &Path) {
    let stand = Stand::new(service, root, "restricted", None).expect("podman");
    let served = stand.serve(service.asks, None);
    let good = match (service.restricted, &served) {
        (Restricted::Reached, Served::Yes) => true,
        (Restricted::Refused(code), Served::No(said)) => said.contains(&format!("refused [{code}]")),
        (Restricted::Jit(symptom), Served::No(said)) if said.contains(symptom) => {
            drop(stand);
            let podman = Podman::without_image(Bundle::new("service-jit"), "restricted").expect("podman");
            let served = Stand::under(service, root, podman, Some(JIT)).serve(service.asks, None);
            assert!(
                matches!(served, Served::Yes),
                "{} at restricted with {JIT}: {served:?}",
                service.name
            );
            true
        }
        _ => false,
    };
    assert!(
        good,
        "{} at restricted, which should be {:?}: {served:?}",
        service.name, service.restricted
    );
}
