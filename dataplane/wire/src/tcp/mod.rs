//! TCP segments: header, options, checksum (RFC 9293 section 3.1, RFC 7323, RFC 2018, RFC 7413, RFC
//! 9768).

mod accecn;
pub mod checksum;
mod header;
mod options;
mod signature;

pub use accecn::{ACCECN_COUNTERS_MAX, AccEcn};
pub use header::{HEADER_BYTES, HEADER_BYTES_MAX, TcpFlags, TcpRepr, TcpView};
pub use options::{
    FASTOPEN_COOKIE_BYTES_MAX, FastOpenCookie, OPTIONS_BYTES_MAX, OptionsLayout, SACK_BLOCKS_MAX,
    SackBlocks, TcpOptions, Timestamps, WINDOW_SCALE_MAX,
};
pub use signature::{SIGNATURE_AT, SIGNATURE_BYTES, Signature};
