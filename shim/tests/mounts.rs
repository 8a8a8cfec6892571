//! The mounts of a root file system: where they are made, and that they go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::bundle::mount;
use common::client::{Client, V2};
use common::host::{alive, mounts_below};
use common::{Node, SOON, until};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::shim::shim::{CreateTaskRequest, CreateTaskResponse, DeleteRequest};
use containerd_shim_protos::types::mount::Mount;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A container that gives the others its configuration and its shim.
fn first(name: &str) -> (Node, String, Client) {
    let node = Node::start(name);
    let id = node.sleeper("s");
    let client = Client::connect(&node.shim_socket(&id));
    (node, id, client)
}

/// The root of the image with /lib as a link to `to`, bound.
fn linked_root(node: &Node, to: &Path) -> Mount {
    let root = node.dir.join("image/root");
    let link = root.join("lib");
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link).unwrap();
    }
    symlink(to, link).unwrap();
    mount("bind", &root, "", &["rbind", "rw"])
}

fn tmpfs(target: &str) -> Mount {
    mount("tmpfs", Path::new("tmpfs"), target, &["ro", "nosuid", "nodev"])
}

#[test]
fn a_link_of_the_image_leads_to_no_directory_of_the_host() {
    let (node, like, mut client) = first("links");
    let host = node.dir.join("hostdir");
    fs::create_dir_all(host.join("victim")).unwrap();
    let up = Path::new("../../../../../../../..").join(host.strip_prefix("/").unwrap());
    for (number, to) in [host.clone(), up].iter().enumerate() {
        let id = node.id(&format!("x{number}"));
        let bundle = node.bundle(&like, &id);
        let request = node.create_request(&id, &bundle, vec![linked_root(&node, to), tmpfs("lib/victim")]);
        let answer = client.call(V2, "Create", &request);
        // Looked at first: what the call said is another matter.
        assert_eq!(mounts_below(&host), Vec::<PathBuf>::new(), "{to:?}");
        let (_, said) = answer.unwrap_err();
        assert!(said.contains("lib/victim"), "{said}");
        assert_eq!(
            mounts_below(&bundle),
            Vec::<PathBuf>::new(),
            "what was made before is unmounted"
        );
        assert!(node.shim_delete(&id, &bundle).status.success());
    }
    node.remove(&like);
    node.assert_clean();
}

/// A root file system of two parts, one of which lies behind a link of the image.
fn two_parts(node: &Node, like: &str, id: &str) -> (PathBuf, CreateTaskRequest) {
    let bundle = node.bundle(like, id);
    fs::create_dir_all(node.dir.join("image/root/usr/lib/part")).unwrap();
    let parts = vec![linked_root(node, Path::new("/usr/lib")), tmpfs("lib/part")];
    let request = node.create_request(id, &bundle, parts);
    (bundle, request)
}

fn create(client: &mut Client, request: &CreateTaskRequest) -> Pid {
    let answer = client.call(V2, "Create", request).unwrap();
    let pid = CreateTaskResponse::parse_from_bytes(&answer).unwrap().pid;
    Pid::from_raw(pid.cast_signed())
}

#[test]
fn every_part_is_mounted_where_the_container_finds_it_and_unmounted() {
    let (node, like, mut client) = first("parts");
    let id = node.id("x");
    let (bundle, request) = two_parts(&node, &like, &id);
    let init = create(&mut client, &request);
    let rootfs = bundle.join("rootfs");
    assert_eq!(mounts_below(&bundle), [rootfs.clone(), rootfs.join("usr/lib/part")]);
    // The path is made another one meanwhile: what is unmounted is what was mounted.
    fs::rename(rootfs.join("usr/lib"), rootfs.join("usr/moved")).unwrap();
    // Somebody looks at it.
    let looked = fs::File::open(rootfs.join("usr/moved/part")).unwrap();
    let delete = DeleteRequest {
        id: id.clone(),
        ..DeleteRequest::default()
    };
    client.call(V2, "Delete", &delete).unwrap();
    assert!(!alive(init));
    assert_eq!(mounts_below(&bundle), Vec::<PathBuf>::new());
    drop(looked);
    drop(client);
    node.remove(&like);
    node.assert_clean();
}

#[test]
fn what_a_killed_shim_mounted_is_unmounted_and_nothing_else() {
    let (node, like, mut client) = first("orphans");
    let id = node.id("x");
    let (bundle, request) = two_parts(&node, &like, &id);
    let init = create(&mut client, &request);
    let shims = node.shims();
    kill(shims[0], Signal::SIGKILL).unwrap();
    until(SOON, "the shim is dead", || (!alive(shims[0])).then_some(()));
    let rootfs = bundle.join("rootfs");
    fs::rename(rootfs.join("usr/lib"), rootfs.join("usr/moved")).unwrap();
    // Mounted over a part since: it cannot stay. Beside the root file system: it is somebody's.
    let other = bundle.join("other");
    fs::create_dir(&other).unwrap();
    for place in [rootfs.join("usr/moved/part"), other.clone()] {
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("none"), &place, Some("tmpfs"), flags, None::<&str>).unwrap();
    }
    let output = node.shim_delete(&id, &bundle);
    assert!(output.status.success(), "{output:?}");
    assert!(!alive(init));
    assert_eq!(mounts_below(&bundle), std::slice::from_ref(&other));
    nix::mount::umount(&other).unwrap();
    drop(client);
    until(SOON, "containerd forgets the first", || {
        node.status(&like).is_none().then_some(())
    });
    node.ctr(&["container", "rm", &like]).ok();
    node.assert_clean();
}
