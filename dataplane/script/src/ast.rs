//! A script as a tree: what was written, not yet what it means on a machine.

use crate::code::Block;
use crate::fault::Position;
use crate::shell::Command;

/// Microseconds; the language's unit of time.
pub(crate) type Span = i64;

/// `--name=value` at the head of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionLine {
    pub(crate) at: Position,
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

/// One line of the script with its time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) at: Position,
    pub(crate) time: When,
    pub(crate) action: Action,
}

/// When an event is to happen, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// After the script's beginning.
    Absolute(Span),
    /// After the event before.
    Relative(Span),
    /// Between two times after the beginning.
    AbsoluteRange(Span, Span),
    /// Between two times after the event before.
    RelativeRange(Span, Span),
    /// Whenever.
    Any,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Packet(Packet),
    Call(CallLine),
    Shell(Vec<Command>),
    Code(Block),
}

/// Which way a packet goes, seen from the stack under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

/// A packet to inject or to expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) direction: Direction,
    pub(crate) ip: IpFields,
    pub(crate) body: Body,
}

/// What stands in brackets before the flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IpFields {
    pub(crate) service: Service,
    pub(crate) ttl: Option<u8>,
    pub(crate) flow_label: Option<u32>,
}

/// What is said of the type-of-service byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Service {
    #[default]
    Unsaid,
    /// The two ECN bits.
    Ecn(u8),
    /// ECT(0) or ECT(1).
    EitherEct,
    /// The whole byte.
    Byte(u8),
}

/// What the packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Tcp(TcpLine),
    Icmp(IcmpLine),
}

/// A TCP segment in the script's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TcpLine {
    /// `source > destination`, where written.
    pub(crate) ports: Option<(u16, u16)>,
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    pub(crate) length: u16,
    pub(crate) ack: u32,
    pub(crate) window: Option<u16>,
    pub(crate) urgent: u16,
    /// `None` is `<...>`: any.
    pub(crate) options: Option<Vec<TcpOption>>,
}

/// The bits of the TCP header that the language names.
pub(crate) mod flag {
    pub(crate) const FIN: u16 = 0x01;
    pub(crate) const SYN: u16 = 0x02;
    pub(crate) const RST: u16 = 0x04;
    pub(crate) const PSH: u16 = 0x08;
    pub(crate) const ACK: u16 = 0x10;
    pub(crate) const URG: u16 = 0x20;
    pub(crate) const ECE: u16 = 0x40;
    pub(crate) const CWR: u16 = 0x80;
    pub(crate) const AE: u16 = 0x100;
    /// As written in a script, in the order in which they are printed.
    pub(crate) const LETTERS: [(char, u16); 9] = [
        ('F', FIN),
        ('S', SYN),
        ('R', RST),
        ('P', PSH),
        ('U', URG),
        ('A', AE),
        ('W', CWR),
        ('E', ECE),
        ('.', ACK),
    ];
}

/// One TCP option. `Other` never comes from a script, only from a live packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TcpOption {
    End,
    Nop,
    Mss(u16),
    WindowScale(u8),
    SackPermitted,
    Sack(Vec<(u32, u32)>),
    Timestamps {
        value: u32,
        echo: u32,
    },
    FastOpen(Vec<u8>),
    FastOpenExperimental(Vec<u8>),
    Md5(Vec<u8>),
    /// Counters, those of ECT(1) first or those of ECT(0).
    AccurateEcn {
        order_1: bool,
        counters: Vec<u32>,
    },
    Other {
        kind: u8,
        data: Vec<u8>,
    },
}

/// An ICMP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IcmpLine {
    pub(crate) at: Position,
    pub(crate) kind: String,
    pub(crate) code: Option<String>,
    pub(crate) mtu: Option<u32>,
    /// Sequence number and length of the quoted segment.
    pub(crate) quoted: Option<(u32, u16)>,
}

/// A system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallLine {
    pub(crate) at: Position,
    pub(crate) name: String,
    pub(crate) arguments: Vec<Expression>,
    pub(crate) result: Expression,
    pub(crate) errno: Option<(Position, String)>,
    /// When a call that blocks returns, counted like the event's own time.
    pub(crate) end: Option<Span>,
}

/// A value in a system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expression {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

/// What is written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Ellipsis,
    Integer(i64),
    Word(String),
    Text(Vec<u8>),
    Or(Box<Expression>, Box<Expression>),
    List(Vec<Expression>),
    /// `{..., 1000}`
    Group(Vec<Expression>),
    /// `{events=EPOLLIN, fd=4}`
    Structure(Vec<Field>),
    /// `htons(8080)`
    Function(String, Vec<Expression>),
}

/// A member of a structure; `msg_iov(1)=[...]` has an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) at: Position,
    pub(crate) name: String,
    pub(crate) argument: Option<Expression>,
    pub(crate) value: Expression,
}
