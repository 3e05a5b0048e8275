//! Packets: `< [ect0] S. 0:0(0) ack 1 win 5840 <mss 1460,nop,nop,sackOK>`.

use super::Parser;
use crate::ast::{Body, Direction, IcmpLine, IpFields, Packet, Service, TcpLine, TcpOption, flag};
use crate::fault::Fault;
use crate::lexer::Kind;
use crate::packet::show;

/// What a TCP header has room for.
const OPTION_BYTES_MAX: usize = 40;

impl Parser {
    pub(super) fn packet(&mut self, direction: Direction) -> Result<Packet, Fault> {
        let at = self.take().at;
        let ip = self.ip_fields()?;
        if ip.service == Service::EitherEct && direction == Direction::Inbound {
            return Err(Fault::new(
                at,
                "[ect01] says what may leave; it cannot be sent in",
            ));
        }
        for word in ["ipv4", "ipv6", "gre", "GREv0", "mpls", "encap", "udp"] {
            if self.is_word(word) {
                return Err(
                    self.expected("TCP flags or `icmp` (encapsulation and UDP are not read)")
                );
            }
        }
        let body = if self.is_word("icmp") {
            if direction == Direction::Outbound {
                return Err(self.expected("TCP flags: ICMP is only sent in, never expected"));
            }
            Body::Icmp(self.icmp()?)
        } else {
            Body::Tcp(self.tcp(direction)?)
        };
        Ok(Packet {
            direction,
            ip,
            body,
        })
    }

    /// `[ect0]`, `(tos 0x10)`, `[flowlabel 0x1, ...]`, `[ttl 64]`
    fn ip_fields(&mut self) -> Result<IpFields, Fault> {
        let mut fields = IpFields::default();
        let close = match self.peek().kind {
            Kind::Sign('[') => ']',
            Kind::Sign('(') => ')',
            _ => return Ok(fields),
        };
        self.take();
        loop {
            let word =
                self.word("an IP field: noecn, ect0, ect1, ce, ect01, tos, ttl, flowlabel")?;
            match word.as_str() {
                "noecn" => fields.service = Service::Ecn(0),
                "ect1" => fields.service = Service::Ecn(1),
                "ect0" => fields.service = Service::Ecn(2),
                "ce" => fields.service = Service::Ecn(3),
                "ect01" => fields.service = Service::EitherEct,
                "tos" => fields.service = Service::Byte(self.number8("the byte")?),
                "ttl" => fields.ttl = Some(self.number8("a TTL")?),
                "flowlabel" => {
                    fields.flow_label = Some(self.number("a flow label", 0xf_ffff)?);
                }
                other => {
                    let message = format!("`{other}` is no IP field");
                    return Err(Fault::new(self.peek().at, message));
                }
            }
            if !self.take_if_sign(',') {
                self.sign(close, "after the IP fields")?;
                return Ok(fields);
            }
        }
    }

    fn tcp(&mut self, direction: Direction) -> Result<TcpLine, Fault> {
        let at = self.peek().at;
        let ports = self.ports()?;
        let flags = self.flags()?;
        let (seq, length) = self.sequence()?;
        let ack = if self.take_if_word("ack") {
            self.number("a sequence number", u32::MAX)?
        } else {
            0
        };
        let window = if self.take_if_word("win") {
            Some(self.number16("a window")?)
        } else {
            None
        };
        let urgent = if self.take_if_word("urg") {
            self.number16("an urgent pointer")?
        } else {
            0
        };
        let options = if self.is_sign('<') {
            self.tcp_options()?
        } else {
            Some(Vec::new())
        };
        if direction == Direction::Inbound && options.is_none() {
            return Err(Fault::new(
                at,
                "`<...>` says what may leave; it cannot be sent in",
            ));
        }
        if direction == Direction::Inbound && window.is_none() {
            return Err(self.expected("`win` in a packet that is sent in"));
        }
        Ok(TcpLine {
            ports,
            flags,
            seq,
            length,
            ack,
            window,
            urgent,
            options,
        })
    }

    fn ports(&mut self) -> Result<Option<(u16, u16)>, Fault> {
        let is_pair =
            matches!(self.peek().kind, Kind::Integer(_)) && self.peek_at(1).kind == Kind::Sign('>');
        if !is_pair {
            return Ok(None);
        }
        let source = self.number16("a port")?;
        self.take();
        Ok(Some((source, self.number16("a port")?)))
    }

    fn flags(&mut self) -> Result<u16, Fault> {
        if self.take_if_sign('-') {
            return Ok(0);
        }
        let mut flags = 0;
        let fault = self.expected("TCP flags, of F S R P U A W E and a last `.`, or `-` for none");
        if self.peek().kind == Kind::Word {
            for letter in self.take().text.chars() {
                let known = flag::LETTERS.iter().find(|(name, _)| *name == letter);
                let Some((_, bit)) = known else {
                    return Err(fault);
                };
                flags |= bit;
            }
        } else if !self.is_sign('.') && self.peek().kind != Kind::Decimal {
            return Err(fault);
        }
        // `.5` is ACK with an ACE field of 5.
        if self.peek().kind == Kind::Decimal {
            let ace = match self.take().text.as_bytes() {
                [b'.', digit @ b'0'..=b'7'] => u16::from(digit - b'0'),
                _ => return Err(fault),
            };
            return Ok(flags | flag::ACK | ace << 6);
        }
        if self.take_if_sign('.') {
            flags |= flag::ACK;
        }
        Ok(flags)
    }

    /// `first:end(length)`
    fn sequence(&mut self) -> Result<(u32, u16), Fault> {
        let at = self.peek().at;
        let first = self.number("a sequence number", u32::MAX)?;
        self.sign(':', "between the sequence numbers")?;
        let end = self.number("a sequence number", u32::MAX)?;
        self.sign('(', "before the length")?;
        let length = self.number16("a length")?;
        self.sign(')', "after the length")?;
        if end != first.wrapping_add(u32::from(length)) {
            let message = format!(
                "{first} and {length} bytes end at {}, not {end}",
                u64::from(first) + u64::from(length)
            );
            return Err(Fault::new(at, message));
        }
        Ok((first, length))
    }

    /// `<mss 1460,nop,wscale 8>`; `None` for `<...>`.
    fn tcp_options(&mut self) -> Result<Option<Vec<TcpOption>>, Fault> {
        let at = self.take().at;
        if self.peek().kind == Kind::Ellipsis {
            self.take();
            self.sign('>', "after `...`")?;
            return Ok(None);
        }
        let mut options = vec![self.tcp_option()?];
        while self.take_if_sign(',') {
            options.push(self.tcp_option()?);
        }
        self.sign('>', "or `,` after a TCP option")?;
        let length: usize = options.iter().map(TcpOption::length).sum();
        if length > OPTION_BYTES_MAX {
            return Err(Fault::new(
                at,
                format!("{length} bytes of options, and a header has room for {OPTION_BYTES_MAX}"),
            ));
        }
        if !length.is_multiple_of(4) {
            let message =
                format!("{length} bytes of options: pad them with nop to a multiple of 4");
            return Err(Fault::new(at, message));
        }
        Ok(Some(options))
    }

    fn tcp_option(&mut self) -> Result<TcpOption, Fault> {
        let fault = self.expected(
            "a TCP option: nop, eol, mss, wscale, sackOK, sack, TS, FO, FOEXP, ECN or md5",
        );
        Ok(match self.word("a TCP option")?.as_str() {
            "nop" => TcpOption::Nop,
            "eol" => TcpOption::End,
            "mss" => TcpOption::Mss(self.number16("a segment size")?),
            "wscale" => TcpOption::WindowScale(self.number8("a shift count")?),
            "sackOK" => TcpOption::SackPermitted,
            "sack" => self.sack()?,
            "TS" => self.timestamps()?,
            "ECN" => self.accurate_ecn()?,
            "FO" => TcpOption::FastOpen(self.hex_blob()?),
            "FOEXP" => TcpOption::FastOpenExperimental(self.hex_blob()?),
            "md5" => {
                let digest = self.hex_blob()?;
                if digest.len() != 16 {
                    return Err(Fault::new(
                        fault.at,
                        "an MD5 digest has 32 hexadecimal digits",
                    ));
                }
                TcpOption::Md5(digest)
            }
            _ => return Err(fault),
        })
    }

    fn sack(&mut self) -> Result<TcpOption, Fault> {
        let mut blocks = Vec::new();
        loop {
            let left = self.number("the left edge of a block", u32::MAX)?;
            self.sign(':', "between the edges")?;
            blocks.push((left, self.number("the right edge of a block", u32::MAX)?));
            if !matches!(self.peek().kind, Kind::Integer(_)) {
                return Ok(TcpOption::Sack(blocks));
            }
        }
    }

    /// `e1b 1 ceb 0 e0b 1`, `e0b 1 ceb 0 e1b 1`, or fewer of them; none is an empty option.
    fn accurate_ecn(&mut self) -> Result<TcpOption, Fault> {
        let order_1 = !self.is_word("e0b");
        let mut counters = Vec::new();
        for name in show::accurate_names(order_1) {
            if !self.take_if_word(name) {
                break;
            }
            counters.push(self.number("a counter of 24 bits", 0xff_ffff)?);
        }
        Ok(TcpOption::AccurateEcn { order_1, counters })
    }

    fn timestamps(&mut self) -> Result<TcpOption, Fault> {
        if !self.take_if_word("val") {
            return Err(self.expected("`val` after `TS`"));
        }
        let value = self.number("a timestamp", u32::MAX)?;
        if !self.take_if_word("ecr") {
            return Err(self.expected("`ecr` after the timestamp's value"));
        }
        Ok(TcpOption::Timestamps {
            value,
            echo: self.number("a timestamp", u32::MAX)?,
        })
    }

    /// Hexadecimal digits in pairs; none is an empty cookie.
    fn hex_blob(&mut self) -> Result<Vec<u8>, Fault> {
        if !matches!(self.peek().kind, Kind::Word | Kind::Integer(_)) {
            return Ok(Vec::new());
        }
        let fault = self.expected("pairs of hexadecimal digits");
        let text = self.take().text;
        let digits: Option<Vec<u8>> = text
            .chars()
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        match digits {
            Some(digits) if digits.len().is_multiple_of(2) => Ok(digits
                .chunks_exact(2)
                .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
                .collect()),
            _ => Err(fault),
        }
    }

    /// `icmp unreachable frag_needed mtu 840 [0:1000(1000)]`
    fn icmp(&mut self) -> Result<IcmpLine, Fault> {
        let at = self.take().at;
        let kind = self.word("an ICMP type")?;
        let mut code = None;
        if self.peek().kind == Kind::Word && !self.is_word("mtu") {
            code = Some(self.take().text);
        }
        let mtu = if self.take_if_word("mtu") {
            Some(self.number("an MTU", u32::MAX)?)
        } else {
            None
        };
        let mut quoted = None;
        if self.take_if_sign('[') {
            quoted = Some(self.sequence()?);
            self.sign(']', "after the quoted segment")?;
        }
        Ok(IcmpLine {
            at,
            kind,
            code,
            mtu,
            quoted,
        })
    }
}
