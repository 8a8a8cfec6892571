//! The programs under test: found where the environment says, built once otherwise.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");

/// A runtime with runc's command line.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub program: PathBuf,
    /// Whether it knows policies and hardens: gabion, not its stand-ins.
    pub hardens: bool,
}

impl Runtime {
    /// `RUNTIME_UNDER_TEST`, or gabion.
    pub fn under_test() -> &'static Self {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        RUNTIME.get_or_init(|| match std::env::var_os("RUNTIME_UNDER_TEST") {
            Some(program) => {
                let program = on_path(Path::new(&program));
                Self {
                    hardens: is_gabion(&program),
                    program,
                }
            }
            None => Self {
                program: gabion(),
                hardens: true,
            },
        })
    }

    /// gabion with the cargo feature `faults`.
    pub fn with_faults() -> &'static Self {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        RUNTIME.get_or_init(|| {
            let built = || {
                build(
                    &[programs(), &["--features", "gabion/faults"]].concat(),
                    "faults",
                    "debug/gabion",
                    None,
                )
            };
            Self {
                program: from_env("GABION_FAULTS_BIN").unwrap_or_else(built),
                hardens: true,
            }
        })
    }

    /// gabion itself, whatever stands in for it elsewhere.
    pub fn gabion() -> &'static Self {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        RUNTIME.get_or_init(|| Self {
            program: gabion(),
            hardens: true,
        })
    }
}

/// The static probe program.
pub fn probe() -> &'static Path {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| {
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let args = ["-p", "probe", "--profile", "dist", "--target", &target];
        let built = || {
            build(
                &args,
                "probe",
                &format!("{target}/dist/probe"),
                Some("-C target-feature=+crt-static"),
            )
        };
        from_env("GABION_PROBE").unwrap_or_else(built)
    })
}

/// The shim, in the same kind of build as gabion.
pub fn shim() -> PathBuf {
    let name = "containerd-shim-gabion-v2";
    let built = || {
        build(
            &["-p", "containerd-shim-gabion", "--bin", name],
            "",
            &format!("debug/{name}"),
            None,
        )
    };
    from_env("GABION_SHIM").unwrap_or_else(built)
}

fn gabion() -> PathBuf {
    from_env("GABION_BIN").unwrap_or_else(|| build(programs(), "", "debug/gabion", None))
}

/// Whether the commands for people are a program of its own, which gabion looks for beside itself.
pub fn has_ctl() -> bool {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/ctl/Cargo.toml")).exists()
}

fn programs() -> &'static [&'static str] {
    if has_ctl() {
        &["-p", "gabion", "-p", "gabionctl"]
    } else {
        &["-p", "gabion"]
    }
}

/// A bare name is looked for as a shell would.
fn on_path(program: &Path) -> PathBuf {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&dirs).map(|dir| dir.join(program));
    places
        .find(|place| place.is_file())
        .unwrap_or_else(|| panic!("no {} here", program.display()))
}

fn is_gabion(program: &Path) -> bool {
    program
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("gabion"))
}

fn from_env(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

/// Cargo's own lock on the target directory lets test programs that start together build once and wait for it.
/// Each kind has its own directory: other flags or features in a shared one would rebuild everything back and forth.
fn build(args: &[&str], below: &str, result: &str, flags: Option<&str>) -> PathBuf {
    let target = Path::new(TARGET).join(below);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(["build", "-q"])
        .args(args);
    cargo.arg("--target-dir").arg(&target);
    if let Some(flags) = flags {
        cargo.env("RUSTFLAGS", flags);
    }
    let status = cargo.status().expect("cargo");
    assert!(status.success(), "cargo build {} failed", args.join(" "));
    target.join(result).canonicalize().expect("what was built")
}
