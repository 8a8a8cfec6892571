//! The policy's words, capabilities and annotations of a container, as the filter's section about sockets takes them.

use gabion_core::sockets::{self as words, Opens, SocketRules, SocketWord};

use super::sockets::{May, Rules};
use super::tables::{FAMILIES, INET, NETLINK, NETLINK_ADMIN};

/// What floor and default profile have as they are built.
pub(super) fn usual() -> Rules {
    Rules {
        families: FAMILIES.to_vec(),
        inet: INET.to_vec(),
        netlink: NETLINK.to_vec(),
        raw: May::No,
        fast_open: May::Yes,
        listen: May::Yes,
    }
}

pub(super) fn rules(of: &SocketRules) -> Rules {
    let mut rules = usual();
    for opened in of.words.iter().copied().flat_map(SocketWord::opens) {
        let (list, number) = match *opened {
            Opens::Family(number) => (&mut rules.families, number),
            Opens::Inet(number) => (&mut rules.inet, number),
            Opens::Netlink(number) => (&mut rules.netlink, number),
        };
        add(list, number);
    }
    if of.admin == words::May::Yes {
        for number in NETLINK_ADMIN {
            add(&mut rules.netlink, *number);
        }
    }
    rules.raw = may(of.raw);
    rules.fast_open = may(of.fast_open);
    rules.listen = may(of.listen);
    rules
}

fn add(list: &mut Vec<u32>, number: u32) {
    if !list.contains(&number) {
        list.push(number);
    }
}

fn may(may: words::May) -> May {
    match may {
        words::May::No => May::No,
        words::May::Yes => May::Yes,
    }
}
