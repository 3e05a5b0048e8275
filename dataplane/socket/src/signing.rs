//! Keys for signatures: `TCP_MD5SIG` and `TCP_MD5SIG_EXT` (RFC 2385).
//!
//! A socket has a list of peers and their keys, which may change at any time. A listener's connections
//! begin with the key that fits their peer, and know no other. How segments are signed and checked
//! is the stack's business; what is changed in a packet behind the stack (PSH, the urgent pointer) is
//! signed again here.
//!
//! There is one link and no other routing table, so a key of a certain link is of all or none.
//!
//! Linux: `tcp_v4_parse_md5_keys`, `tcp_v6_parse_md5_keys`, `tcp_md5_do_add`, `tcp_md5_do_del`.

use millrace_base::{Address, Prefix};
use millrace_stack::{SIGNING_KEY_BYTES_MAX, SigningKey};

use crate::address::Domain;
use crate::errno::Errno;
use crate::file::SocketId;
use crate::header::Header;
use crate::linux::{
    AF_INET, AF_INET6, TCP_MD5SIG_EXT, TCP_MD5SIG_FLAG_IFINDEX, TCP_MD5SIG_FLAG_PREFIX,
};
use crate::sockets::Sockets;

/// Bytes of `struct tcp_md5sig`.
const STRUCT_BYTES: usize = 216;
/// Where its fields are: the address is that of a `sockaddr_in` or `sockaddr_in6`.
const V4_AT: usize = 4;
const V6_AT: usize = 8;
const FLAGS_AT: usize = 128;
const PREFIX_AT: usize = 129;
const KEY_LEN_AT: usize = 130;
const IFINDEX_AT: usize = 132;
const KEY_AT: usize = 136;
const _: () = assert!(KEY_AT + SIGNING_KEY_BYTES_MAX == STRUCT_BYTES);
/// Keys of one socket (Linux bounds them by `optmem_max`, which has room for about as many).
const SOCKET_KEYS_MAX: usize = 1_024;
/// Where the digest is in a header that the stack has signed, and what is before it.
const DIGEST_AT: usize = 24;
const OPTION: [u8; 4] = [1, 1, 19, 18];

/// A key and whom it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Rule {
    peers: Peers,
    key: SigningKey,
}

/// Whom a key is for, as the program said it: two rules are the same if all of it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Peers {
    address: Address,
    prefix_len: u8,
    of_link: bool,
}

/// What a program asks for.
#[derive(Clone, Copy, Debug)]
struct Wish {
    peers: Peers,
    /// `None` takes it away.
    key: Option<SigningKey>,
}

/// The keys of a socket, from the oldest to the newest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct SigningKeys(Vec<Rule>);

impl SigningKeys {
    /// What a connection has of its listener's: its own, for its peer alone (behaviour: A26-3).
    pub(crate) fn of_child(peer: Address, key: Option<SigningKey>) -> Self {
        let prefix_len = if peer.is_v4() { 32 } else { 128 };
        let peers = Peers {
            address: peer,
            prefix_len,
            of_link: false,
        };
        Self(key.map(|key| Rule { peers, key }).into_iter().collect())
    }

    /// The key for a peer: that of the longest prefix, and of equal ones the newest.
    fn of(&self, peer: Address) -> Option<&SigningKey> {
        let fitting = self.0.iter().filter(|rule| {
            let prefix = rule.peers.prefix();
            prefix.is_some_and(|prefix| prefix.contains(peer))
        });
        let best = fitting.max_by_key(|rule| rule.peers.prefix_len);
        best.map(|rule| &rule.key)
    }

    fn take(&mut self, wish: &Wish) -> Result<(), Errno> {
        let at = self.0.iter().position(|rule| rule.peers == wish.peers);
        match (wish.key, at) {
            (None, None) => return Err(Errno::ENOENT),
            (None, Some(at)) => {
                self.0.remove(at);
            }
            (Some(key), Some(at)) => {
                if let Some(rule) = self.0.get_mut(at) {
                    rule.key = key;
                }
            }
            (Some(_), None) if self.0.len() >= SOCKET_KEYS_MAX => return Err(Errno::ENOMEM),
            (Some(key), None) => self.0.push(Rule {
                peers: wish.peers,
                key,
            }),
        }
        Ok(())
    }

    fn rows(&self) -> Vec<(Prefix, SigningKey)> {
        let rules = self.0.iter();
        rules
            .filter_map(|rule| Some((rule.peers.prefix()?, rule.key)))
            .collect()
    }
}

impl Peers {
    fn prefix(&self) -> Option<Prefix> {
        Prefix::new(self.address, self.prefix_len)
    }
}

impl Wish {
    /// Reads a `struct tcp_md5sig`, which a socket of `domain` was given for the option `name`.
    fn read(domain: Domain, name: i32, value: &[u8]) -> Result<Self, Errno> {
        let value: &[u8; STRUCT_BYTES] = value.first_chunk().ok_or(Errno::EINVAL)?;
        let [low, high, ..] = *value;
        let family = i32::from(u16::from_ne_bytes([low, high]));
        let address = match domain {
            Domain::V4 if family == AF_INET => Address::v4(field(value, V4_AT)),
            // A mapped address is one of IPv4.
            Domain::V6 if family == AF_INET6 => Address::v6(field(value, V6_AT)),
            Domain::V4 | Domain::V6 => return Err(Errno::EINVAL),
        };
        let [flags, said_len] = field(value, FLAGS_AT);
        let longest = if address.is_v4() { 32 } else { 128 };
        let is_extended = name == TCP_MD5SIG_EXT;
        let prefix_len = if is_extended && flags & TCP_MD5SIG_FLAG_PREFIX != 0 {
            said_len
        } else {
            longest
        };
        if prefix_len > longest {
            return Err(Errno::EINVAL);
        }
        let of_link = flags & TCP_MD5SIG_FLAG_IFINDEX != 0;
        // Only a device that stands for a routing table may be named: there is none.
        if is_extended && of_link && i32::from_ne_bytes(field(value, IFINDEX_AT)) != 0 {
            return Err(Errno::EINVAL);
        }
        let key_len = usize::from(u16::from_ne_bytes(field(value, KEY_LEN_AT)));
        let peers = Peers {
            address,
            prefix_len,
            of_link,
        };
        if key_len == 0 {
            return Ok(Self { peers, key: None });
        }
        let bytes: [u8; SIGNING_KEY_BYTES_MAX] = field(value, KEY_AT);
        let key = bytes.get(..key_len).and_then(SigningKey::new);
        let key = key.ok_or(Errno::EINVAL)?;
        Ok(Self {
            peers,
            key: Some(key),
        })
    }
}

/// The bytes at a place of the structure.
fn field<const N: usize>(value: &[u8; STRUCT_BYTES], at: usize) -> [u8; N] {
    let bytes = value.get(at..).and_then(|rest| rest.first_chunk());
    *bytes.unwrap_or(&[0; N])
}

const _: () = assert!(PREFIX_AT == FLAGS_AT + 1);

impl Sockets {
    /// `TCP_MD5SIG`, `TCP_MD5SIG_EXT`. behaviour: OPT-49
    pub(crate) fn set_md5_key(
        &mut self,
        id: SocketId,
        name: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        let wish = Wish::read(self.get(id)?.domain, name, value)?;
        let keys = &mut self.get_mut(id)?.options.signing;
        let before = keys.clone();
        keys.take(&wish)?;
        if self.publish_keys(id) {
            return Ok(());
        }
        self.get_mut(id)?.options.signing = before;
        self.publish_keys(id);
        Err(Errno::ENOMEM)
    }

    /// Tells the stack the keys of a socket; `false` when it has no room for them.
    pub(crate) fn publish_keys(&mut self, id: SocketId) -> bool {
        let Ok(socket) = self.get(id) else {
            return true;
        };
        if socket.listening.is_some() {
            let keys = socket.options.signing.rows();
            let rows: Vec<_> = self.rows.of(id).collect();
            let stack = &mut self.stack;
            return rows.iter().all(|row| stack.set_listener_keys(*row, &keys));
        }
        let (Some(flow), Some(remote)) = (socket.flow, socket.remote) else {
            return true;
        };
        let key = socket.options.signing.of(remote.address).copied();
        let is_set = self.stack.signing_key(flow) == key;
        is_set || self.stack.info(flow).is_none() || {
            let now = self.now;
            self.stack.set_signing_key(now, flow, key.as_ref())
        }
    }

    /// Signs a packet again that was changed after the stack had signed it.
    pub(crate) fn sign_again(&mut self, index: usize) {
        let Some((_, packet)) = self.left.get(index) else {
            return;
        };
        let Some(header) = Header::of(packet) else {
            return;
        };
        let id = self.connected(header.source, header.destination);
        let socket = id.and_then(|id| self.sockets.get(&id));
        let peer = header.destination.address;
        let key = socket.and_then(|socket| socket.options.signing.of(peer));
        let (Some(key), Some((_, packet))) = (key.copied(), self.left.get_mut(index)) else {
            return;
        };
        let options = packet.get(header.tcp + 20..header.payload);
        let Some(segment) = packet.get(header.tcp..header.end) else {
            return;
        };
        if options.is_some_and(|options| options.starts_with(&OPTION))
            && let Some(digest) =
                key.sign(header.source.address, header.destination.address, segment)
        {
            header.rewrite(packet, DIGEST_AT, &digest);
        }
    }
}
