//! What containerd runs the shim's binary for before and after there is a shim: `start`, `delete`, `-info`.

use std::io::{Write, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::shim::DeleteResponse;
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};

use crate::bundle;
use crate::cli::Arguments;
use crate::error::{Error, Result};
use crate::files::{self, Links};
use crate::kept::Kept;
use crate::mounts;
use crate::options::Options;
use crate::pipe::read_in_time;
use crate::root;
use crate::runtime::{self, Runtime, read_pid};
use crate::socket::{self, Socket};
use crate::sys;
use crate::tasks::check_id;
use crate::time::timestamp;

/// The most that is read from containerd on stdin.
const LIMIT: usize = 4 << 20;
/// How long containerd may take to say it.
const CALLER: Duration = Duration::from_secs(30);
/// The most that the file with the shim's address holds.
const ADDRESS_LIMIT: u64 = 4096;
/// The shim's own name, for `-info` and processes.
pub const NAME: &str = "io.containerd.gabion.v2";
/// The variable in which containerd says where events go.
pub const TTRPC_ADDRESS: &str = "TTRPC_ADDRESS";
/// 128 + SIGKILL: what `delete` says of a container whose shim is dead.
const KILLED: u32 = 137;

fn read_stdin() -> Result<Vec<u8>> {
    let end = Instant::now() + CALLER;
    read_in_time(stdin().as_fd(), LIMIT, end).map_err(|error| Error::system("reading stdin", error))
}

fn write_stdout(bytes: &[u8]) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Error::system("writing stdout", error))
}

fn bundle_of(arguments: &Arguments) -> Result<PathBuf> {
    if arguments.bundle.as_os_str().is_empty() {
        return std::env::current_dir().map_err(|error| Error::system("finding the bundle", error));
    }
    Ok(arguments.bundle.clone())
}

/// The parameters of containerd 2.3. Earlier ones send runtime options, or nothing; some options decode as parameters, so what
/// they say must be what the flags say.
fn bootstrap_params(input: &[u8], arguments: &Arguments) -> Option<BootstrapParams> {
    let params = BootstrapParams::parse_from_bytes(input).ok()?;
    let same = params.instance_id == arguments.id && params.namespace == arguments.namespace;
    (same && !params.instance_id.is_empty()).then_some(params)
}

/// `start`: finds or starts the shim for the container's pod and says where it listens.
pub fn start(arguments: &Arguments) -> Result<()> {
    check_id(&arguments.id)?;
    check_id(&arguments.namespace)?;
    let params = bootstrap_params(&read_stdin()?, arguments);
    let bundle = bundle_of(arguments)?;
    let group = bundle::sandbox(&bundle)?.unwrap_or_else(|| arguments.id.clone());
    let path = socket::path(&arguments.address, &arguments.namespace, &group);
    let address = socket::address(&path);
    // containerd 1.6 finds the shim by this file after a restart; `delete` the socket.
    let file = bundle.join("address");
    std::fs::write(&file, &address).map_err(|error| Error::at("writing", &file, error))?;
    if let Socket::Ours(listener) = socket::bind_or_find(&path)?
        && let Err(error) = serve(arguments, &bundle, params.as_ref(), listener.into())
    {
        socket::remove(&path)?;
        return Err(error);
    }
    if params.is_none() {
        return write_stdout(address.as_bytes());
    }
    let result = BootstrapResult {
        version: 3,
        address,
        protocol: "ttrpc".to_owned(),
        ..BootstrapResult::default()
    };
    write_stdout(&result.write_to_bytes()?)
}

/// Starts the shim itself; the listener is its stdin.
fn serve(arguments: &Arguments, bundle: &Path, params: Option<&BootstrapParams>, listener: OwnedFd) -> Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("containerd-shim-gabion-v2")
        .args(["-namespace", &arguments.namespace, "-id", &arguments.id]);
    command
        .args(["-address", &arguments.address])
        .arg("-bundle")
        .arg(bundle);
    // containerd 2.3 says negative levels for what is more than info.
    if arguments.debug || params.is_some_and(|params| params.log_level.value() < 0) {
        command.arg("-debug");
    }
    if let Some(params) = params.filter(|params| !params.containerd_ttrpc_address.is_empty()) {
        command.env(TTRPC_ADDRESS, &params.containerd_ttrpc_address);
    }
    command.arg("serve");
    // Numbers that log drivers are given must be free in the shim.
    sys::close_inherited_on_exec();
    command
        .stdin(Stdio::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command
        .spawn()
        .map_err(|error| Error::system("starting the shim", error))?;
    adjust_oom_score(child.id())
}

/// The shim is killed just before containerd would be, and never before its containers.
fn adjust_oom_score(shim: u32) -> Result<()> {
    let parent = PathBuf::from(format!("/proc/{}/oom_score_adj", parent_id()));
    let Ok(text) = std::fs::read_to_string(&parent) else {
        return Ok(());
    };
    let score: i32 = text.trim().parse().map_err(|_| Error::Content {
        path: parent,
        expected: "a number",
    })?;
    let path = PathBuf::from(format!("/proc/{shim}/oom_score_adj"));
    std::fs::write(&path, (score + 1).min(1000).to_string()).map_err(|error| Error::at("writing", &path, error))
}

/// `delete`: the shim is dead. Ends what it left behind, unmounts, and says so.
pub fn delete(arguments: &Arguments) -> Result<()> {
    check_id(&arguments.id)?;
    check_id(&arguments.namespace)?;
    let here = bundle_of(arguments)?;
    // The working directory may be another bundle of the pod's; ours is its sibling.
    let bundle = if here.file_name().is_some_and(|name| name == arguments.id.as_str()) {
        here
    } else {
        here.with_file_name(&arguments.id)
    };
    let address = files::read_text(&bundle.join("address"), Links::Refuse, ADDRESS_LIMIT).unwrap_or_default();
    let pid = read_pid(&bundle.join("init.pid")).map_or(0, |pid| u32::try_from(pid.as_raw()).unwrap_or(0));
    let deleted = clean_up(arguments, &bundle);
    // Whatever the runtime says, these can be done.
    mounts::unmount_all(&bundle.join("rootfs"))?;
    if let Some(path) = address.trim().strip_prefix("unix://") {
        socket::remove_if_dead(Path::new(path))?;
    }
    deleted?;
    let response = DeleteResponse {
        pid,
        exit_status: KILLED,
        exited_at: timestamp(SystemTime::now()),
        ..DeleteResponse::default()
    };
    write_stdout(&response.write_to_bytes()?)
}

/// Deletes what the dead shim made, and nothing else: what it kept says where that is.
fn clean_up(arguments: &Arguments, bundle: &Path) -> Result<()> {
    // With nothing kept `create` was never called, or the container is deleted.
    let Some(kept) = Kept::read(bundle)? else {
        return Ok(());
    };
    let deleted = delete_by_runtime(arguments, bundle, &kept);
    mounts::unmount_numbers(&kept.mounts, &bundle.join("rootfs"))?;
    deleted
}

fn delete_by_runtime(arguments: &Arguments, bundle: &Path, kept: &Kept) -> Result<()> {
    // Containers of older shims lie where another containerd's may, too.
    let root = kept
        .root
        .clone()
        .unwrap_or_else(|| root::older(&kept.options, &arguments.namespace));
    if root::holds(&root, &arguments.id, bundle, kept.root.is_some()) {
        Runtime::new(&kept.options, &root, &arguments.namespace, bundle)?.delete_blocking(&arguments.id)?;
    }
    Ok(())
}

/// `-info`: the runtime's version and features. Options come on stdin, or nothing does.
pub fn info() -> Result<()> {
    let input = read_stdin()?;
    let options = if input.is_empty() {
        None
    } else {
        Some(Any::parse_from_bytes(&input)?)
    };
    let features = runtime::features(&Options::from_any(options.as_ref())?)?;
    let version = RuntimeVersion {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..RuntimeVersion::default()
    };
    let features = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/features/Features".to_owned(),
        value: features,
        ..Any::default()
    };
    let info = RuntimeInfo {
        name: NAME.to_owned(),
        version: MessageField::some(version),
        options: options.into(),
        features: MessageField::some(features),
        ..RuntimeInfo::default()
    };
    write_stdout(&info.write_to_bytes()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_matching_parameters_are_parameters() {
        let arguments = Arguments {
            id: "x".into(),
            namespace: "ns".into(),
            ..Arguments::default()
        };
        let mut params = BootstrapParams {
            instance_id: "x".into(),
            namespace: "ns".into(),
            ..BootstrapParams::default()
        };
        assert!(bootstrap_params(&params.write_to_bytes().unwrap(), &arguments).is_some());
        params.namespace = "other".into();
        assert!(bootstrap_params(&params.write_to_bytes().unwrap(), &arguments).is_none());
        // An `Any` has a string as field 1 and bytes as field 2, like the first two of the parameters.
        let any = Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: b"ns".to_vec(),
            ..Any::default()
        };
        assert!(bootstrap_params(&any.write_to_bytes().unwrap(), &arguments).is_none());
        assert!(bootstrap_params(&[], &Arguments::default()).is_none());
    }
}
