//! Whole Ethernet frames, written by hand, checksums worked out without this crate's code.

/// A frame with what it is called and the line that describes it.
pub(crate) struct Known {
    /// The bytes in hexadecimal; blanks are for the reader.
    pub(crate) hex: &'static str,
    /// What `Pretty` says about it.
    pub(crate) line: &'static str,
}

impl Known {
    /// The bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let digits: Vec<u8> = self.hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
    }
}

/// Every frame below.
pub(crate) const ALL: [&Known; 10] = [
    &ARP_REQUEST,
    &SYN_V4,
    &SYN_ACK_V6,
    &SACK_V4,
    &ECHO_V4,
    &ECHO_V6,
    &SOLICITATION,
    &ADVERTISEMENT,
    &FRAGMENTATION_NEEDED,
    &UDP_IN_VLAN,
];

/// RFC 826: who has 192.0.2.1?
pub(crate) const ARP_REQUEST: Known = Known {
    hex: "ffffffffffff 020000000002 0806 \
          0001 0800 06 04 0001 020000000002 c0000202 000000000000 c0000201",
    line: "ARP, Request who-has 192.0.2.1 tell 192.0.2.2",
};

/// A SYN with the options of a Linux host: MSS, SACK-permitted and timestamps, NOP, window scale.
pub(crate) const SYN_V4: Known = Known {
    hex: "020000000002 020000000001 0800 \
          45 00 003c 1234 4000 40 06 a484 c0000201 c0000202 \
          9c40 0050 01020304 00000000 a002 faf0 1875 0000 \
          020405b4 0402 080a 00001000 00000000 01 030307",
    line: "IP 192.0.2.1.40000 > 192.0.2.2.80: Flags [S], seq 16909060, win 64240, \
           options [mss 1460,sackOK,TS val 4096 ecr 0,wscale 7], length 0",
};

/// The SYN,ACK of a Linux host over IPv6.
pub(crate) const SYN_ACK_V6: Known = Known {
    hex: "020000000001 020000000002 86dd \
          60000000 0028 06 40 \
          20010db8000000000000000000000002 20010db8000000000000000000000001 \
          0050 9c40 0a0b0c0d 01020305 a012 fe88 0757 0000 \
          020405a0 0402 080a 00002000 00001000 01 030307",
    line: "IP6 2001:db8::2.80 > 2001:db8::1.40000: Flags [S.], seq 168496141, ack 16909061, \
           win 65160, options [mss 1440,sackOK,TS val 8192 ecr 4096,wscale 7], length 0",
};

/// An ACK of a Linux host with timestamps and two SACK blocks.
pub(crate) const SACK_V4: Known = Known {
    hex: "020000000002 020000000001 0800 \
          45 00 0048 1234 4000 40 06 a478 c0000201 c0000202 \
          9c40 0050 000003e9 00001389 d010 01f5 5fd5 0000 \
          0101 080a 00000009 00000008 0101 0512 00001931 00001ed9 00002481 00002a29",
    line: "IP 192.0.2.1.40000 > 192.0.2.2.80: Flags [.], ack 5001, win 501, \
           options [TS val 9 ecr 8,sack 2 {6449:7897}{9345:10793}], length 0",
};

/// RFC 792: an echo request of two bytes, with Ethernet padding behind it.
pub(crate) const ECHO_V4: Known = Known {
    hex: "020000000002 020000000001 0800 \
          45 00 001e 1234 0000 40 01 e4a7 c0000201 c0000202 \
          08 00 7d61 1234 0001 6869 00000000000000000000000000000000",
    line: "IP 192.0.2.1 > 192.0.2.2: ICMP echo request, id 4660, seq 1, length 10",
};

/// RFC 4443: an echo request of two bytes.
pub(crate) const ECHO_V6: Known = Known {
    hex: "020000000002 020000000001 86dd \
          60000000 000a 3a 40 \
          20010db8000000000000000000000001 20010db8000000000000000000000002 \
          80 00 a9a7 1234 0001 6869",
    line: "IP6 2001:db8::1 > 2001:db8::2: ICMP6, echo request, id 4660, seq 1, length 10",
};

/// RFC 4861: who has fe80::2?
pub(crate) const SOLICITATION: Known = Known {
    hex: "3333ff000002 020000000001 86dd \
          60000000 0020 3a ff \
          fe800000000000000000000000000001 ff0200000000000000000001ff000002 \
          87 00 7a97 00000000 fe800000000000000000000000000002 01 01 020000000001",
    line: "IP6 fe80::1 > ff02::1:ff00:2: ICMP6, neighbor solicitation, who has fe80::2, length 32",
};

/// RFC 4861: here it is.
pub(crate) const ADVERTISEMENT: Known = Known {
    hex: "020000000001 020000000002 86dd \
          60000000 0020 3a ff \
          fe800000000000000000000000000002 fe800000000000000000000000000001 \
          88 00 181a 60000000 fe800000000000000000000000000002 02 01 020000000002",
    line: "IP6 fe80::2 > fe80::1: ICMP6, neighbor advertisement, tgt is fe80::2 \
           at 02:00:00:00:00:02, length 32",
};

/// RFC 1191: a router tells that 1,300 bytes is the most; it quotes 8 bytes of a 1,500-byte packet.
pub(crate) const FRAGMENTATION_NEEDED: Known = Known {
    hex: "020000000002 020000000001 0800 \
          45 00 0038 1234 0000 40 01 7c52 c6336409 c0000202 \
          03 04 5b56 0000 0514 \
          45 00 05dc 1234 4000 40 06 9ee4 c0000202 c0000201 0050 9c40 00000001",
    line: "IP 198.51.100.9 > 192.0.2.2: ICMP unreachable, code 4, mtu 1300, \
           about 192.0.2.2.80 > 192.0.2.1.40000, length 36",
};

/// RFC 768 behind an 802.1Q tag.
pub(crate) const UDP_IN_VLAN: Known = Known {
    hex: "020000000002 020000000001 8100 0005 0800 \
          45 00 001e 1234 4000 40 11 a497 c0000201 c0000202 \
          0035 1000 000a 0338 6869",
    line: "vlan 5, IP 192.0.2.1.53 > 192.0.2.2.4096: UDP, length 2",
};
