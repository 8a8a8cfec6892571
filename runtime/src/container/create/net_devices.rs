//! `linux.netDevices`: network devices of the host that the container gets (runtime-spec, config-linux.md#network-devices).
//!
//! A device keeps its permanent addresses and comes up again. When the container's namespace ends, the kernel gives a device of
//! hardware back, and takes a virtual one away.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

use crate::netlink::{self, CREATE, DUMP, GETADDR, GETLINK, IFLA_IFNAME, IFLA_NET_NS_FD, NEWADDR, Netlink, SETLINK};
use gabion_see::error::{Error, Result, Step};
use gabion_see::state::Record;

/// `ifa_flags`: no lifetime.
const PERMANENT: u8 = 0x80;
/// `ifa_scope`: not of a link or host.
const UNIVERSE: u8 = 0;
/// IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST
const KEPT: [u16; 3] = [1, 2, 4];

/// Moves every device that the spec names into the namespace of the first process, or the one that it joins.
pub(super) fn hand_over(record: &Record, pid: Pid, joins: Option<&OwnedFd>) -> Result<()> {
    let linux = record.hardened.spec().linux().as_ref();
    let Some(devices) = linux.and_then(|l| l.net_devices().as_ref()).filter(|d| !d.is_empty()) else {
        return Ok(());
    };
    let namespace = match joins {
        Some(fd) => fd.try_clone().map_err(Error::file("keep", "the network namespace"))?,
        None => open_net(&format!("/proc/{pid}/ns/net"))?,
    };
    let here = Netlink::new().map_err(Step::Namespaces.failing("talk to the network"))?;
    let there = inside(&namespace)?;
    for (name, device) in devices {
        let new_name = device.name().as_deref().filter(|n| !n.is_empty()).unwrap_or(name);
        one(&here, &there, &namespace, name, new_name)?;
    }
    Ok(())
}

fn open_net(path: &str) -> Result<OwnedFd> {
    std::fs::File::open(path)
        .map(OwnedFd::from)
        .map_err(Error::file("open", path))
}

/// A socket of that namespace; we ourselves come back.
fn inside(namespace: &OwnedFd) -> Result<Netlink> {
    let home = open_net("/proc/self/ns/net")?;
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
        .map_err(Step::Namespaces.failing("enter the container's network"))?;
    let socket = Netlink::new();
    setns(home.as_fd(), CloneFlags::CLONE_NEWNET)
        .map_err(Step::Namespaces.failing("return to our network namespace"))?;
    socket.map_err(Step::Namespaces.failing("talk to the container's network"))
}

fn one(here: &Netlink, there: &Netlink, namespace: &OwnedFd, name: &str, new_name: &str) -> Result<()> {
    let index = index(here, name).map_err(Step::Namespaces.failing(format!("find the network device {name}")))?;
    let addresses =
        addresses(here, index).map_err(Step::Namespaces.failing(format!("read the addresses of {name}")))?;
    // One step: under its old name it never stands in the container.
    let mut body = netlink::link(index, 0);
    netlink::attribute(&mut body, IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
    netlink::attribute(&mut body, IFLA_IFNAME, &c_string(new_name));
    here.ask(SETLINK, 0, &body)
        .map_err(Step::Namespaces.failing(format!("give the network device {name} to the container as {new_name}")))?;
    let index =
        self::index(there, new_name).map_err(Step::Namespaces.failing(format!("find {new_name} in the container")))?;
    for address in addresses {
        let body = with_index(address, index);
        there
            .ask(NEWADDR, CREATE, &body)
            .map_err(Step::Namespaces.failing(format!("keep an address of {name}")))?;
    }
    let up = netlink::link(index, libc::IFF_UP.cast_unsigned());
    there
        .ask(SETLINK, 0, &up)
        .map(drop)
        .map_err(Step::Namespaces.failing(format!("bring {new_name} up")))
}

fn c_string(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

fn index(netlink: &Netlink, name: &str) -> nix::Result<i32> {
    let mut body = netlink::link(0, 0);
    netlink::attribute(&mut body, IFLA_IFNAME, &c_string(name));
    let answers = netlink.ask(GETLINK, 0, &body)?;
    let number = answers
        .first()
        .and_then(|a| a.get(4..8))
        .and_then(|b| b.try_into().ok());
    number.map(i32::from_ne_bytes).ok_or(Errno::ENODEV)
}

/// Messages that set the addresses of this device again (struct ifaddrmsg: family, prefix, flags, scope, index).
fn addresses(netlink: &Netlink, index: i32) -> nix::Result<Vec<Vec<u8>>> {
    let answers = netlink.ask(GETADDR, DUMP, &[0; 8])?;
    Ok(answers.iter().filter_map(|answer| kept(answer, index)).collect())
}

fn kept(answer: &[u8], index: i32) -> Option<Vec<u8>> {
    let fixed: [u8; 8] = answer.get(..8)?.try_into().ok()?;
    let [family, prefix, flags, scope, at @ ..] = fixed;
    if i32::from_ne_bytes(at) != index || scope != UNIVERSE || flags & PERMANENT == 0 {
        return None;
    }
    let mut body = vec![family, prefix, 0, scope];
    body.extend(at);
    for (kind, value) in netlink::attributes(answer.get(8..)?) {
        if KEPT.contains(&kind) {
            netlink::attribute(&mut body, kind, value);
        }
    }
    Some(body)
}

fn with_index(mut address: Vec<u8>, index: i32) -> Vec<u8> {
    if let Some(at) = address.get_mut(4..8) {
        at.copy_from_slice(&index.to_ne_bytes());
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_permanent_addresses_of_the_device_are_kept() {
        let message = |flags: u8, scope: u8, index: i32| {
            let mut body = vec![2, 24, flags, scope];
            body.extend(index.to_ne_bytes());
            netlink::attribute(&mut body, 2, &[10, 0, 0, 1]);
            netlink::attribute(&mut body, 3, b"eth0\0");
            body
        };
        assert_eq!(kept(&message(0, 0, 5), 5), None);
        assert_eq!(kept(&message(PERMANENT, 253, 5), 5), None);
        assert_eq!(kept(&message(PERMANENT, 0, 6), 5), None);
        let mut wanted = vec![2, 24, 0, 0];
        wanted.extend(9_i32.to_ne_bytes());
        netlink::attribute(&mut wanted, 2, &[10, 0, 0, 1]);
        assert_eq!(
            kept(&message(PERMANENT, 0, 5), 5).map(|a| with_index(a, 9)),
            Some(wanted)
        );
    }
}
