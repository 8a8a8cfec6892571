//! Sockets beyond the usual ones: the policy's words for them, and which of a container's rules open or close some.
//!
//! What every container may make stands in policy/seccomp.toml. The kernel's numbers are those of linux/socket.h, linux/in.h and
//! linux/netlink.h.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A word of `[seccomp] sockets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SocketWord {
    Alg,
    Appletalk,
    Atm,
    Ax25,
    Bluetooth,
    Caif,
    Can,
    Dccp,
    Ieee802154,
    Iucv,
    Kcm,
    Key,
    L2tp,
    Llc,
    Mctp,
    Mptcp,
    NetlinkConnector,
    NetlinkCrypto,
    NetlinkFibLookup,
    NetlinkIscsi,
    NetlinkNetfilter,
    NetlinkNflog,
    NetlinkRdma,
    NetlinkScsi,
    NetlinkSelinux,
    NetlinkSmc,
    NetlinkUsersock,
    NetlinkXfrm,
    Netrom,
    Nfc,
    Phonet,
    Pppox,
    Qipcrtr,
    Rds,
    Rose,
    Rxrpc,
    Sctp,
    Smc,
    Tipc,
    Udplite,
    Vsock,
    X25,
    Xdp,
}

/// What a word opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// `AF_*`
    Family(u32),
    /// `IPPROTO_*`, of IPv4 and IPv6.
    Inet(u32),
    /// `NETLINK_*`
    Netlink(u32),
}

impl SocketWord {
    /// Every word, in the order of the alphabet.
    pub const ALL: [Self; 43] = [
        Self::Alg,
        Self::Appletalk,
        Self::Atm,
        Self::Ax25,
        Self::Bluetooth,
        Self::Caif,
        Self::Can,
        Self::Dccp,
        Self::Ieee802154,
        Self::Iucv,
        Self::Kcm,
        Self::Key,
        Self::L2tp,
        Self::Llc,
        Self::Mctp,
        Self::Mptcp,
        Self::NetlinkConnector,
        Self::NetlinkCrypto,
        Self::NetlinkFibLookup,
        Self::NetlinkIscsi,
        Self::NetlinkNetfilter,
        Self::NetlinkNflog,
        Self::NetlinkRdma,
        Self::NetlinkScsi,
        Self::NetlinkSelinux,
        Self::NetlinkSmc,
        Self::NetlinkUsersock,
        Self::NetlinkXfrm,
        Self::Netrom,
        Self::Nfc,
        Self::Phonet,
        Self::Pppox,
        Self::Qipcrtr,
        Self::Rds,
        Self::Rose,
        Self::Rxrpc,
        Self::Sctp,
        Self::Smc,
        Self::Tipc,
        Self::Udplite,
        Self::Vsock,
        Self::X25,
        Self::Xdp,
    ];

    /// The word as the policy writes it, and what it opens.
    const fn row(self) -> (&'static str, &'static [Opens]) {
        use Opens::{Family, Inet, Netlink};
        match self {
            Self::Alg => ("alg", &[Family(38)]),
            Self::Appletalk => ("appletalk", &[Family(5)]),
            Self::Atm => ("atm", &[Family(8), Family(20)]),
            Self::Ax25 => ("ax25", &[Family(3)]),
            Self::Bluetooth => ("bluetooth", &[Family(31)]),
            Self::Caif => ("caif", &[Family(37)]),
            Self::Can => ("can", &[Family(29)]),
            Self::Dccp => ("dccp", &[Inet(33)]),
            Self::Ieee802154 => ("ieee802154", &[Family(36)]),
            Self::Iucv => ("iucv", &[Family(32)]),
            Self::Kcm => ("kcm", &[Family(41)]),
            Self::Key => ("key", &[Family(15)]),
            Self::L2tp => ("l2tp", &[Inet(115)]),
            Self::Llc => ("llc", &[Family(26)]),
            Self::Mctp => ("mctp", &[Family(45)]),
            Self::Mptcp => ("mptcp", &[Inet(262)]),
            Self::NetlinkConnector => ("netlink-connector", &[Netlink(11)]),
            Self::NetlinkCrypto => ("netlink-crypto", &[Netlink(21)]),
            Self::NetlinkFibLookup => ("netlink-fib-lookup", &[Netlink(10)]),
            Self::NetlinkIscsi => ("netlink-iscsi", &[Netlink(8)]),
            Self::NetlinkNetfilter => ("netlink-netfilter", &[Netlink(12)]),
            Self::NetlinkNflog => ("netlink-nflog", &[Netlink(5)]),
            Self::NetlinkRdma => ("netlink-rdma", &[Netlink(20)]),
            Self::NetlinkScsi => ("netlink-scsi", &[Netlink(18)]),
            Self::NetlinkSelinux => ("netlink-selinux", &[Netlink(7)]),
            Self::NetlinkSmc => ("netlink-smc", &[Netlink(22)]),
            Self::NetlinkUsersock => ("netlink-usersock", &[Netlink(2)]),
            Self::NetlinkXfrm => ("netlink-xfrm", &[Netlink(6)]),
            Self::Netrom => ("netrom", &[Family(6)]),
            Self::Nfc => ("nfc", &[Family(39)]),
            Self::Phonet => ("phonet", &[Family(35)]),
            Self::Pppox => ("pppox", &[Family(24)]),
            Self::Qipcrtr => ("qipcrtr", &[Family(42)]),
            Self::Rds => ("rds", &[Family(21)]),
            Self::Rose => ("rose", &[Family(11)]),
            Self::Rxrpc => ("rxrpc", &[Family(33)]),
            Self::Sctp => ("sctp", &[Inet(132)]),
            // The family, and since Linux 6.11 a protocol of IP.
            Self::Smc => ("smc", &[Family(43), Inet(256)]),
            Self::Tipc => ("tipc", &[Family(30)]),
            Self::Udplite => ("udplite", &[Inet(136)]),
            Self::Vsock => ("vsock", &[Family(40)]),
            Self::X25 => ("x25", &[Family(9)]),
            Self::Xdp => ("xdp", &[Family(44)]),
        }
    }

    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    pub const fn opens(self) -> &'static [Opens] {
        self.row().1
    }

    /// Tells whether such sockets connect or listen with TCP where Landlock's rules for ports do not see them.
    pub const fn passes_tcp_rules(self) -> bool {
        matches!(self, Self::Mptcp | Self::Smc | Self::Rds)
    }
}

impl std::fmt::Display for SocketWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether something may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    No,
    Yes,
}

impl From<bool> for May {
    fn from(may: bool) -> Self {
        if may { Self::Yes } else { Self::No }
    }
}

/// What one container may make and do with sockets, beside what every container may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketRules {
    pub words: BTreeSet<SocketWord>,
    /// Packet sockets, and raw ones of any IP protocol.
    pub raw: May,
    /// Netlink's protocols of those who administer networks.
    pub admin: May,
    /// To connect with TCP by sending, or as another protocol on top of it.
    pub fast_open: May,
    pub listen: May,
}

impl SocketRules {
    /// Gives what holds where no word, capability or annotation changes it.
    pub const fn usual() -> Self {
        Self {
            words: BTreeSet::new(),
            raw: May::No,
            admin: May::No,
            fast_open: May::Yes,
            listen: May::Yes,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_are_written_as_they_are_read() {
        for word in SocketWord::ALL {
            let text = serde_json::to_value(word).unwrap();
            assert_eq!(text, word.as_str());
            assert!(!word.opens().is_empty(), "{word}");
        }
        let mut sorted = SocketWord::ALL.map(SocketWord::as_str);
        sorted.sort_unstable();
        assert_eq!(sorted, SocketWord::ALL.map(SocketWord::as_str));
    }
}
