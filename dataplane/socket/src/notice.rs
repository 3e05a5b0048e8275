//! The error queue's contents: notices that zero-copy memory is free again, and time stamps of
//! bytes that left.
//!
//! Both are about a place in the byte stream. A *mark* remembers such a place; when the connection
//! has sent or acknowledged everything up to it, it becomes an entry of the error queue.

use millrace_base::Instant;

use crate::address::Domain;
use crate::call::{Control, ExtendedError, Received};
use crate::errno::Errno;
use crate::linux::{
    IP_RECVERR, IPV6_RECVERR, MSG_ERRQUEUE, MSG_TRUNC, SCM_TSTAMP_ACK, SCM_TSTAMP_SCHED,
    SCM_TSTAMP_SND, SO_EE_CODE_ZEROCOPY_COPIED, SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6,
    SO_EE_ORIGIN_TIMESTAMPING, SO_EE_ORIGIN_ZEROCOPY, SOF_TIMESTAMPING_OPT_TSONLY, SOL_IP,
    SOL_IPV6,
};
use crate::socket::{ERROR_QUEUE_MAX, Socket};

/// What becomes of a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// The memory of a zero-copy send is the program's again once everything is acknowledged.
    ZeroCopy,
    /// `SCM_TSTAMP_SCHED` and `SCM_TSTAMP_SND` when the byte leaves.
    Sent { scheduled: bool, sent: bool },
    /// `SCM_TSTAMP_ACK` when it is acknowledged.
    Acknowledged,
}

/// A place in the byte stream that somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    /// Bytes written up to and including the place.
    pub(crate) end: u64,
    pub(crate) purpose: Purpose,
    /// The number told with it: of the zero-copy call, or of the byte.
    pub(crate) number: u32,
}

/// Numbers that notices carry.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Counters {
    /// Zero-copy sends so far (`sk_zckey`).
    pub(crate) zero_copies: u32,
    /// Bytes written when `SOF_TIMESTAMPING_OPT_ID` was set (`sk_tskey`).
    pub(crate) stamps_from: u64,
}

impl Socket {
    /// The connection has sent `sent` and got acknowledged `acked` bytes so far, or has ended: every
    /// mark that this fulfils becomes an entry. Returns whether any did.
    pub(crate) fn fulfil_marks(&mut self, now: Instant, sent: u64, acked: u64) -> bool {
        let before = self.error_queue.len();
        let mut merged = false;
        let marks = core::mem::take(&mut self.marks);
        for mark in marks {
            match mark.purpose {
                Purpose::ZeroCopy if mark.end <= acked => {
                    merged |= self.notify_zero_copy(mark.number)
                }
                Purpose::Sent {
                    scheduled,
                    sent: left,
                } if mark.end <= sent => {
                    if scheduled {
                        self.push_stamp(now, SCM_TSTAMP_SCHED, mark.number);
                    }
                    if left {
                        self.push_stamp(now, SCM_TSTAMP_SND, mark.number);
                    }
                }
                Purpose::Acknowledged if mark.end <= acked => {
                    self.push_stamp(now, SCM_TSTAMP_ACK, mark.number);
                }
                Purpose::ZeroCopy | Purpose::Sent { .. } | Purpose::Acknowledged => {
                    self.marks.push_back(mark);
                }
            }
        }
        merged || self.error_queue.len() > before
    }

    /// The memory of zero-copy call `number` is free. Joins the last entry when that is about the
    /// calls before it (Linux: `__msg_zerocopy_callback`).
    fn notify_zero_copy(&mut self, number: u32) -> bool {
        if let Some(last) = self.error_queue.back_mut()
            && let Some(Control::Error { error, .. }) = last.control.last_mut()
            && error.origin == SO_EE_ORIGIN_ZEROCOPY as u8
            && error.data.wrapping_add(1) == number
        {
            error.data = number;
            return true;
        }
        self.push_error(
            Vec::new(),
            ExtendedError {
                errno: 0,
                origin: SO_EE_ORIGIN_ZEROCOPY as u8,
                kind: 0,
                code: SO_EE_CODE_ZEROCOPY_COPIED as u8,
                info: number,
                data: number,
            },
        );
        true
    }

    /// An entry was read: what the next one means becomes the pending error, if ICMP said it, and an
    /// error of ICMP that was read pends no longer (`sock_dequeue_err_skb`).
    pub(crate) fn follow_error_queue(&mut self, read: &Received) {
        let next = self.error_queue.front().and_then(icmp_error);
        if next.is_some() {
            self.error = next;
        } else if icmp_error(read).is_some() {
            self.error = None;
        }
    }

    /// Remembers who waits for the bytes up to `end`; one who waits for bytes of the same buffer
    /// waits for these instead, as there is one time stamp per `sk_buff`.
    pub(crate) fn mark_stamp(&mut self, end: u64, purpose: Purpose, number: u32) {
        let start = self.buffers.back().map_or(end, |buffer| buffer.start);
        let same = self.marks.iter_mut().find(|mark| {
            let alike = core::mem::discriminant(&mark.purpose) == core::mem::discriminant(&purpose);
            alike && mark.end > start
        });
        let mark = Mark {
            end,
            purpose,
            number,
        };
        match same {
            Some(known) => *known = mark,
            None => self.marks.push_back(mark),
        }
    }

    fn push_stamp(&mut self, now: Instant, kind: i32, number: u32) {
        let mut control = Vec::new();
        if self.options.stamps_are_reported() {
            control.push(Control::Timestamping([now.as_nanos(), 0, 0]));
        }
        self.push_error(
            control,
            ExtendedError {
                errno: Errno::ENOMSG.number() as u32,
                origin: SO_EE_ORIGIN_TIMESTAMPING as u8,
                kind: 0,
                code: 0,
                info: kind as u32,
                data: number,
            },
        );
    }

    fn push_error(&mut self, mut control: Vec<Control>, error: ExtendedError) {
        if self.error_queue.len() >= ERROR_QUEUE_MAX {
            return;
        }
        let (level, kind) = if self.domain == Domain::V4 {
            (SOL_IP, IP_RECVERR)
        } else {
            (SOL_IPV6, IPV6_RECVERR)
        };
        control.push(Control::Error { level, kind, error });
        // Linux loops a copy of the packet back with a time stamp, for which no caller has room.
        let loops_packet = error.origin == SO_EE_ORIGIN_TIMESTAMPING as u8
            && self.options.timestamping & SOF_TIMESTAMPING_OPT_TSONLY == 0;
        self.error_queue.push_back(Received {
            bytes: Vec::new(),
            count: 0,
            flags: MSG_ERRQUEUE | if loops_packet { MSG_TRUNC } else { 0 },
            address: None,
            control,
        });
    }
}

/// The error of an entry that ICMP made.
fn icmp_error(entry: &Received) -> Option<Errno> {
    entry.control.iter().find_map(|control| match control {
        Control::Error { error, .. }
            if matches!(
                i32::from(error.origin),
                SO_EE_ORIGIN_ICMP | SO_EE_ORIGIN_ICMP6
            ) =>
        {
            i32::try_from(error.errno).ok().map(Errno::new)
        }
        Control::Error { .. }
        | Control::Inq(_)
        | Control::Timestamping(_)
        | Control::Data { .. } => None,
    })
}
