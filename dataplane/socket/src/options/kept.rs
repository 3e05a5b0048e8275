//! Options that Linux keeps for a TCP socket and that change nothing which could be seen from
//! outside: debugging aids, what only other protocols look at, which control messages a datagram
//! would carry.

use crate::errno::Errno;
use crate::linux::{
    IP_CHECKSUM, IP_MULTICAST_ALL, IP_PASSSEC, IP_PKTINFO, IP_RECVERR_RFC4884, IP_RECVFRAGSIZE,
    IP_RECVOPTS, IP_RECVORIGDSTADDR, IP_RECVTOS, IP_RECVTTL, IP_RETOPTS, IPV6_AUTOFLOWLABEL,
    IPV6_DONTFRAG, IPV6_FLOWINFO_SEND, IPV6_RECVDSTOPTS, IPV6_RECVHOPLIMIT, IPV6_RECVHOPOPTS,
    IPV6_RECVORIGDSTADDR, IPV6_RECVPATHMTU, IPV6_RECVPKTINFO, IPV6_RECVRTHDR, IPV6_RECVTCLASS,
    SO_BUSY_POLL, SO_INCOMING_CPU, SO_LOCK_FILTER, SO_NO_CHECK, SO_NOFCS, SO_RCVMARK, SO_RXQ_OVFL,
    SO_SELECT_ERR_QUEUE, SO_TXREHASH, SOL_IP, SOL_IPV6, SOL_SOCKET,
};
use crate::options::Options;

/// One of them: which values it takes, and what it is at first.
#[derive(Clone, Copy, Debug)]
struct Kept {
    level: i32,
    name: i32,
    values: Values,
    default: i32,
}

/// What is made of the number that is set.
#[derive(Clone, Copy, Debug)]
enum Values {
    /// 0 or 1: whether it is not 0.
    Flag,
    /// A number in a range.
    Within(i32, i32),
    /// -1, 0 or 1, where -1 is the default.
    Rehash,
}

const fn flag(level: i32, name: i32) -> Kept {
    Kept {
        level,
        name,
        values: Values::Flag,
        default: 0,
    }
}

const KEPT: &[Kept] = &[
    flag(SOL_SOCKET, SO_NO_CHECK),
    flag(SOL_SOCKET, SO_RXQ_OVFL),
    flag(SOL_SOCKET, SO_NOFCS),
    flag(SOL_SOCKET, SO_LOCK_FILTER),
    flag(SOL_SOCKET, SO_SELECT_ERR_QUEUE),
    flag(SOL_SOCKET, SO_RCVMARK),
    Kept {
        level: SOL_SOCKET,
        name: SO_BUSY_POLL,
        values: Values::Within(0, i32::MAX),
        default: 0,
    },
    Kept {
        level: SOL_SOCKET,
        name: SO_INCOMING_CPU,
        values: Values::Within(i32::MIN, i32::MAX),
        default: -1,
    },
    Kept {
        level: SOL_SOCKET,
        name: SO_TXREHASH,
        values: Values::Rehash,
        default: 1,
    },
    flag(SOL_IP, IP_PKTINFO),
    flag(SOL_IP, IP_RECVTTL),
    flag(SOL_IP, IP_RECVTOS),
    flag(SOL_IP, IP_RECVOPTS),
    flag(SOL_IP, IP_RETOPTS),
    flag(SOL_IP, IP_PASSSEC),
    flag(SOL_IP, IP_RECVORIGDSTADDR),
    flag(SOL_IP, IP_CHECKSUM),
    flag(SOL_IP, IP_RECVFRAGSIZE),
    flag(SOL_IP, IP_RECVERR_RFC4884),
    Kept {
        level: SOL_IP,
        name: IP_MULTICAST_ALL,
        values: Values::Within(0, 1),
        default: 1,
    },
    flag(SOL_IPV6, IPV6_RECVPKTINFO),
    flag(SOL_IPV6, IPV6_RECVHOPLIMIT),
    flag(SOL_IPV6, IPV6_RECVHOPOPTS),
    flag(SOL_IPV6, IPV6_RECVRTHDR),
    flag(SOL_IPV6, IPV6_RECVDSTOPTS),
    flag(SOL_IPV6, IPV6_RECVPATHMTU),
    flag(SOL_IPV6, IPV6_RECVTCLASS),
    flag(SOL_IPV6, IPV6_RECVORIGDSTADDR),
    flag(SOL_IPV6, IPV6_DONTFRAG),
    flag(SOL_IPV6, IPV6_FLOWINFO_SEND),
    Kept {
        level: SOL_IPV6,
        name: IPV6_AUTOFLOWLABEL,
        values: Values::Flag,
        default: 1,
    },
];

fn find(level: i32, name: i32) -> Option<&'static Kept> {
    KEPT.iter()
        .find(|kept| kept.level == level && kept.name == name)
}

impl Options {
    /// Keeps a number; `ENOPROTOOPT` for an option that nobody knows.
    pub(super) fn keep(&mut self, level: i32, name: i32, number: i32) -> Result<(), Errno> {
        let kept = find(level, name).ok_or(Errno::ENOPROTOOPT)?;
        let number = match kept.values {
            Values::Flag => i32::from(number != 0),
            Values::Within(low, high) if (low..=high).contains(&number) => number,
            Values::Rehash if number == -1 => kept.default,
            Values::Rehash if (0..=1).contains(&number) => number,
            Values::Within(..) | Values::Rehash => return Err(Errno::EINVAL),
        };
        self.kept.insert((level, name), number);
        Ok(())
    }

    /// What was kept.
    pub(super) fn kept(&self, level: i32, name: i32) -> Result<i32, Errno> {
        let kept = find(level, name).ok_or(Errno::ENOPROTOOPT)?;
        let set = self.kept.get(&(level, name)).copied();
        Ok(set.unwrap_or(kept.default))
    }
}
