//! TCP Fast Open (RFC 7413): data in the SYN, for those who have shown before that they receive at
//! their address.
//!
//! `cookie` is that proof, `memory` what a client remembers of servers, `queue` how many half-open
//! connections a listener lets talk, `client` and `server` the two ends of a connection. What a
//! connection has of it is here, in its `Extra`; most have nothing. Which socket asks for it, and what
//! a `sendto` returns, is the business of the BSD face.
//!
//! It does not learn that a path needs no cookie from routes (`RTAX_FASTOPEN_NO_COOKIE`), and keeps
//! no count of lost SYN data, which Linux only shows.

mod client;
pub(crate) mod cookie;
pub(crate) mod memory;
pub(crate) mod queue;
mod server;

use millrace_base::{ListenerId, SeqNumber, Stamp};
use millrace_wire::tcp::FastOpenCookie;

pub(crate) use memory::Memory;

/// Data in SYNs may be sent (`TFO_CLIENT_ENABLE` of `tcp_fastopen`).
pub(crate) const CLIENT_ENABLE: u32 = 0x1;
/// Data in SYNs may be taken (`TFO_SERVER_ENABLE`).
pub(crate) const SERVER_ENABLE: u32 = 0x2;
/// Send them without a cookie (`TFO_CLIENT_NO_COOKIE`).
pub(crate) const CLIENT_NO_COOKIE: u32 = 0x4;
/// Take them without a cookie (`TFO_SERVER_COOKIE_NOT_REQD`).
pub(crate) const SERVER_COOKIE_NOT_REQUIRED: u32 = 0x200;

/// Why data in our SYN did not come through (`tcpi_fastopen_client_fail`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum FastOpenFailure {
    /// It did, or was not tried (`TFO_STATUS_UNSPEC`).
    #[default]
    None = 0,
    /// There was no cookie for the server (`TFO_COOKIE_UNAVAILABLE`).
    CookieUnavailable = 1,
    /// The SYN-ACK did not acknowledge it (`TFO_DATA_NOT_ACKED`).
    DataNotAcked = 2,
    /// The SYN was sent again, and without it (`TFO_SYN_RETRANSMITTED`).
    SynRetransmitted = 3,
}

/// What a client wants to open with.
#[derive(Clone, Copy, Debug)]
pub struct FastOpenRequest<'a> {
    /// What to send; as much of it as fits goes into the SYN.
    pub data: &'a [u8],
    /// `TCP_FASTOPEN_NO_COOKIE`: no cookie is needed for this server.
    pub no_cookie: bool,
    /// `TCP_MAXSEG`, bytes; 0 is "what the path allows".
    pub user_mss: u16,
}

/// What the first SYN or SYN-ACK carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::tcp) enum Plan {
    /// Nothing special.
    #[default]
    Plain,
    /// This cookie, an empty one to ask for one, or none; and what is queued.
    Fast(Option<FastOpenCookie>),
}

/// What a connection has of Fast Open.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FastOpen {
    pub(super) plan: Plan,
    /// The SYN, or the SYN-ACK of a child, has left before.
    pub(super) syn_sent: bool,
    /// Our SYN carried the option (`syn_fastopen`), in its experimental form.
    pub(super) asked: bool,
    pub(super) asked_experimentally: bool,
    /// Our SYN carried data (`syn_data`).
    pub(super) syn_data: bool,
    /// Data in a SYN was acknowledged, by either side (`syn_data_acked`).
    pub(super) data_acked: bool,
    /// Fast Open had been switched off and this connection finds out whether it works again
    /// (`syn_fastopen_ch`).
    pub(super) checks: bool,
    pub(super) failure: FastOpenFailure,
    /// Bytes that came in the peer's SYN.
    pub(super) taken: u16,
    /// `TCP_MAXSEG` of who opened it.
    pub(super) user_mss: u16,
    pub(super) child: Option<Child>,
}

/// A connection that was made of a SYN and whose handshake is not over (`fastopen_rsk`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Child {
    /// Whose it is, and which of those that had this number.
    pub(crate) listener: ListenerId,
    pub(crate) epoch: u16,
    /// The peer's initial sequence number.
    pub(crate) irs: SeqNumber,
    /// When its SYN-ACK left first.
    pub(crate) sent_at: Stamp,
    /// The application has it.
    pub(crate) accepted: bool,
}

/// What is to be told of a connection's Fast Open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FastOpenInfo {
    /// Data in a SYN was acknowledged (`TCPI_OPT_SYN_DATA`).
    pub syn_data: bool,
    /// Why ours was not (`tcpi_fastopen_client_fail`).
    pub failure: FastOpenFailure,
    /// It was made of a SYN and its handshake is not over: it may be accepted, read and written.
    pub is_child: bool,
    /// The application has accepted it.
    pub is_accepted: bool,
    /// `TCP_MAXSEG` of who opened it: the stack heeds it itself. 0 without.
    pub user_mss: u16,
}
