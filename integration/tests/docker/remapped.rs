//! `userns-remap`: containers have user namespaces, and Docker's places have the ids of their root in their names.

use crate::engine::{Engine, IDS, IMAGE, Setup};

#[test]
fn containers_have_the_ids_that_docker_gives_them() {
    let Some(engine) = Engine::start("remapped", Setup::Remapped) else {
        return;
    };
    let line = ["sh", "-c", "cat /proc/self/uid_map; id -u; cat /etc/hostname"];
    let run = [
        &["--rm", "--hostname", "web", "--oom-score-adj", "100", IMAGE][..],
        &line,
    ]
    .concat();
    let (runc, gabion) = (engine.run("runc", &run), engine.run("gabion", &run).ok());
    assert_eq!(
        gabion.out.split_whitespace().collect::<Vec<_>>(),
        ["0", IDS, "65536", "0", "web"]
    );
    assert!(runc.code != 0 || runc.out == gabion.out, "{runc} {gabion}");
    // A volume of Docker's own, and a file of the host, which is not.
    let run = [
        "--rm",
        "-v",
        "data:/data",
        IMAGE,
        "sh",
        "-c",
        "echo a >/data/a && cat /data/a",
    ];
    assert_eq!(engine.run("gabion", &run).ok().out, "a\n");
    let root = format!("{}/d:/x", engine.dir.display());
    drop(
        engine
            .run("gabion", &["--rm", "-v", &root, IMAGE, "true"])
            .fails_with(125)
            .says(&["mounts.host-path", "remove the `--volume`"]),
    );
    drop(
        engine
            .run("gabion", &["-d", "--name", "stays", IMAGE, "sleep", "600"])
            .ok(),
    );
    assert_eq!(engine.docker(&["exec", "stays", "echo", "inside"]).ok().out, "inside\n");
}
