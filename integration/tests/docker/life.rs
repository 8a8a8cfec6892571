//! dockerd restarted: containers live on, and those that are to be started again are, though dockerd has another pid.

use integration::command::{limit, until};

use crate::engine::{Engine, IMAGE, Setup};

#[test]
fn dockerd_restarted_below_its_containers() {
    let Some(mut engine) = Engine::start("life", Setup::Apart) else {
        return;
    };
    let run = ["-d", "--name", "lives", "--restart", "always", IMAGE, "sleep", "600"];
    drop(engine.run("gabion", &run).ok());
    let pid = engine.pid("lives");
    engine.down();
    assert!(
        std::path::Path::new("/proc").join(&pid).exists(),
        "it ended with dockerd"
    );
    assert!(engine.up(), "dockerd does not come up again");
    assert_eq!(engine.pid("lives"), pid);
    assert_eq!(engine.docker(&["exec", "lives", "echo", "inside"]).ok().out, "inside\n");
    // Its first process ends: dockerd starts it again, by a hook with another pid than the first.
    let first = nix::unistd::Pid::from_raw(pid.parse().unwrap());
    nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGKILL).unwrap();
    let again = until(limit(30), || {
        let now = engine.pid("lives");
        now != pid && now != "0"
    });
    assert!(
        again,
        "{}",
        engine.docker(&["inspect", "-f", "{{json .State}}", "lives"])
    );
    assert_eq!(engine.docker(&["exec", "lives", "echo", "again"]).ok().out, "again\n");
}
