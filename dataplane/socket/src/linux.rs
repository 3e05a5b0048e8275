//! The numbers of the Linux ABI that programs pass in and get back, under Linux's names.
//!
//! Values are those of the generic ABI (x86-64, arm64).

macro_rules! numbers {
    ($( $name:ident: $type:ty = $value:literal; )+) => {
        $(
            #[doc = concat!("Linux's `", stringify!($name), "`.")]
            pub const $name: $type = $value;
        )+
    };
}

// Address families (`AF_*`).
numbers! {
    AF_UNSPEC: i32 = 0;
    AF_UNIX: i32 = 1;
    AF_INET: i32 = 2;
    AF_INET6: i32 = 10;
    AF_NETLINK: i32 = 16;
    AF_PACKET: i32 = 17;
}

// Socket types and their flags (`SOCK_*`).
numbers! {
    SOCK_STREAM: i32 = 1;
    SOCK_DGRAM: i32 = 2;
    SOCK_RAW: i32 = 3;
    SOCK_RDM: i32 = 4;
    SOCK_SEQPACKET: i32 = 5;
    SOCK_NONBLOCK: i32 = 0x800;
    SOCK_CLOEXEC: i32 = 0x80000;
}

// Protocols.
numbers! {
    IPPROTO_IP: i32 = 0;
    IPPROTO_ICMP: i32 = 1;
    IPPROTO_TCP: i32 = 6;
    IPPROTO_UDP: i32 = 17;
    IPPROTO_IPV6: i32 = 41;
    IPPROTO_MPTCP: i32 = 262;
}

// File status flags and `fcntl` commands.
numbers! {
    O_RDONLY: i32 = 0;
    O_WRONLY: i32 = 1;
    O_RDWR: i32 = 2;
    O_APPEND: i32 = 0x400;
    O_NONBLOCK: i32 = 0x800;
    O_ASYNC: i32 = 0x2000;
    O_DIRECT: i32 = 0x4000;
    O_NOATIME: i32 = 0x40000;
    O_CLOEXEC: i32 = 0x80000;
    F_DUPFD: i32 = 0;
    F_GETFD: i32 = 1;
    F_SETFD: i32 = 2;
    F_GETFL: i32 = 3;
    F_SETFL: i32 = 4;
    F_SETOWN: i32 = 8;
    F_GETOWN: i32 = 9;
    F_SETSIG: i32 = 10;
    F_GETSIG: i32 = 11;
    F_DUPFD_CLOEXEC: i32 = 1030;
    F_SETPIPE_SZ: i32 = 1031;
    F_GETPIPE_SZ: i32 = 1032;
    FD_CLOEXEC: i32 = 1;
}

// Flags of send and receive calls (`MSG_*`).
numbers! {
    MSG_OOB: i32 = 1;
    MSG_PEEK: i32 = 2;
    MSG_DONTROUTE: i32 = 4;
    MSG_CTRUNC: i32 = 8;
    MSG_PROBE: i32 = 16;
    MSG_TRUNC: i32 = 32;
    MSG_DONTWAIT: i32 = 64;
    MSG_EOR: i32 = 0x80;
    MSG_WAITALL: i32 = 0x100;
    MSG_FIN: i32 = 0x200;
    MSG_SYN: i32 = 0x400;
    MSG_CONFIRM: i32 = 0x800;
    MSG_RST: i32 = 0x1000;
    MSG_ERRQUEUE: i32 = 0x2000;
    MSG_NOSIGNAL: i32 = 0x4000;
    MSG_MORE: i32 = 0x8000;
    MSG_WAITFORONE: i32 = 0x10000;
    MSG_BATCH: i32 = 0x40000;
    MSG_ZEROCOPY: i32 = 0x4000000;
    MSG_FASTOPEN: i32 = 0x20000000;
    MSG_CMSG_CLOEXEC: i32 = 0x40000000;
}

// `shutdown` directions.
numbers! {
    SHUT_RD: i32 = 0;
    SHUT_WR: i32 = 1;
    SHUT_RDWR: i32 = 2;
}

// `ioctl` requests.
numbers! {
    FIONREAD: u64 = 0x541b;
    FIONBIO: u64 = 0x5421;
    FIOASYNC: u64 = 0x5452;
    FIONCLEX: u64 = 0x5450;
    FIOCLEX: u64 = 0x5451;
    SIOCINQ: u64 = 0x541b;
    SIOCOUTQ: u64 = 0x5411;
    TIOCOUTQ: u64 = 0x5411;
    FIOSETOWN: u64 = 0x8901;
    SIOCSPGRP: u64 = 0x8902;
    FIOGETOWN: u64 = 0x8903;
    SIOCGPGRP: u64 = 0x8904;
    SIOCATMARK: u64 = 0x8905;
    SIOCOUTQNSD: u64 = 0x894b;
}

// `poll` events.
numbers! {
    POLLIN: u32 = 1;
    POLLPRI: u32 = 2;
    POLLOUT: u32 = 4;
    POLLERR: u32 = 8;
    POLLHUP: u32 = 16;
    POLLNVAL: u32 = 32;
    POLLRDNORM: u32 = 64;
    POLLRDBAND: u32 = 0x80;
    POLLWRNORM: u32 = 0x100;
    POLLWRBAND: u32 = 0x200;
    POLLRDHUP: u32 = 0x2000;
}

// `epoll` operations.
numbers! {
    EPOLL_CTL_ADD: i32 = 1;
    EPOLL_CTL_DEL: i32 = 2;
    EPOLL_CTL_MOD: i32 = 3;
    EPOLL_CLOEXEC: i32 = 0x80000;
}

// Option levels (`SOL_*`).
numbers! {
    SOL_IP: i32 = 0;
    SOL_SOCKET: i32 = 1;
    SOL_TCP: i32 = 6;
    SOL_IPV6: i32 = 41;
}

// Options of `SOL_SOCKET`.
numbers! {
    SO_DEBUG: i32 = 1;
    SO_REUSEADDR: i32 = 2;
    SO_TYPE: i32 = 3;
    SO_ERROR: i32 = 4;
    SO_DONTROUTE: i32 = 5;
    SO_BROADCAST: i32 = 6;
    SO_SNDBUF: i32 = 7;
    SO_RCVBUF: i32 = 8;
    SO_KEEPALIVE: i32 = 9;
    SO_OOBINLINE: i32 = 10;
    SO_NO_CHECK: i32 = 11;
    SO_PRIORITY: i32 = 12;
    SO_LINGER: i32 = 13;
    SO_BSDCOMPAT: i32 = 14;
    SO_REUSEPORT: i32 = 15;
    SO_PASSCRED: i32 = 16;
    SO_PEERCRED: i32 = 17;
    SO_RCVLOWAT: i32 = 18;
    SO_SNDLOWAT: i32 = 19;
    SO_RCVTIMEO: i32 = 20;
    SO_SNDTIMEO: i32 = 21;
    SO_BINDTODEVICE: i32 = 25;
    SO_ATTACH_FILTER: i32 = 26;
    SO_DETACH_FILTER: i32 = 27;
    SO_PEERNAME: i32 = 28;
    SO_TIMESTAMP: i32 = 29;
    SO_ACCEPTCONN: i32 = 30;
    SO_SNDBUFFORCE: i32 = 32;
    SO_RCVBUFFORCE: i32 = 33;
    SO_TIMESTAMPNS: i32 = 35;
    SO_MARK: i32 = 36;
    SO_TIMESTAMPING: i32 = 37;
    SO_PROTOCOL: i32 = 38;
    SO_DOMAIN: i32 = 39;
    SO_RXQ_OVFL: i32 = 40;
    SO_PEEK_OFF: i32 = 42;
    SO_NOFCS: i32 = 43;
    SO_LOCK_FILTER: i32 = 44;
    SO_SELECT_ERR_QUEUE: i32 = 45;
    SO_BUSY_POLL: i32 = 46;
    SO_MAX_PACING_RATE: i32 = 47;
    SO_INCOMING_CPU: i32 = 49;
    SO_CNX_ADVICE: i32 = 53;
    SO_MEMINFO: i32 = 55;
    SO_INCOMING_NAPI_ID: i32 = 56;
    SO_COOKIE: i32 = 57;
    SO_ZEROCOPY: i32 = 60;
    SO_TXTIME: i32 = 61;
    SO_BINDTOIFINDEX: i32 = 62;
    SO_TIMESTAMP_NEW: i32 = 63;
    SO_TIMESTAMPNS_NEW: i32 = 64;
    SO_TIMESTAMPING_NEW: i32 = 65;
    SO_RCVTIMEO_NEW: i32 = 66;
    SO_SNDTIMEO_NEW: i32 = 67;
    SO_BUF_LOCK: i32 = 72;
    SO_TXREHASH: i32 = 74;
    SO_RCVMARK: i32 = 75;
}

// Options of `SOL_TCP`.
numbers! {
    TCP_NODELAY: i32 = 1;
    TCP_MAXSEG: i32 = 2;
    TCP_CORK: i32 = 3;
    TCP_KEEPIDLE: i32 = 4;
    TCP_KEEPINTVL: i32 = 5;
    TCP_KEEPCNT: i32 = 6;
    TCP_SYNCNT: i32 = 7;
    TCP_LINGER2: i32 = 8;
    TCP_DEFER_ACCEPT: i32 = 9;
    TCP_WINDOW_CLAMP: i32 = 10;
    TCP_INFO: i32 = 11;
    TCP_QUICKACK: i32 = 12;
    TCP_CONGESTION: i32 = 13;
    TCP_MD5SIG: i32 = 14;
    TCP_THIN_LINEAR_TIMEOUTS: i32 = 16;
    TCP_THIN_DUPACK: i32 = 17;
    TCP_USER_TIMEOUT: i32 = 18;
    TCP_REPAIR: i32 = 19;
    TCP_REPAIR_QUEUE: i32 = 20;
    TCP_QUEUE_SEQ: i32 = 21;
    TCP_REPAIR_OPTIONS: i32 = 22;
    TCP_FASTOPEN: i32 = 23;
    TCP_TIMESTAMP: i32 = 24;
    TCP_NOTSENT_LOWAT: i32 = 25;
    TCP_CC_INFO: i32 = 26;
    TCP_SAVE_SYN: i32 = 27;
    TCP_SAVED_SYN: i32 = 28;
    TCP_REPAIR_WINDOW: i32 = 29;
    TCP_FASTOPEN_CONNECT: i32 = 30;
    TCP_ULP: i32 = 31;
    TCP_MD5SIG_EXT: i32 = 32;
    TCP_FASTOPEN_KEY: i32 = 33;
    TCP_FASTOPEN_NO_COOKIE: i32 = 34;
    TCP_ZEROCOPY_RECEIVE: i32 = 35;
    TCP_INQ: i32 = 36;
    TCP_CM_INQ: i32 = 36;
    TCP_TX_DELAY: i32 = 37;
    TCP_IS_MPTCP: i32 = 43;
}

// Flags of `struct tcp_md5sig`.
numbers! {
    TCP_MD5SIG_FLAG_PREFIX: u8 = 1;
    TCP_MD5SIG_FLAG_IFINDEX: u8 = 2;
}

// Options of `SOL_IP` and `SOL_IPV6`.
numbers! {
    IP_TOS: i32 = 1;
    IP_TTL: i32 = 2;
    IP_HDRINCL: i32 = 3;
    IP_OPTIONS: i32 = 4;
    IP_RECVOPTS: i32 = 6;
    IP_RETOPTS: i32 = 7;
    IP_PKTINFO: i32 = 8;
    IP_MTU_DISCOVER: i32 = 10;
    IP_RECVERR: i32 = 11;
    IP_RECVTTL: i32 = 12;
    IP_RECVTOS: i32 = 13;
    IP_MTU: i32 = 14;
    IP_FREEBIND: i32 = 15;
    IP_TRANSPARENT: i32 = 19;
    IP_PASSSEC: i32 = 18;
    IP_RECVORIGDSTADDR: i32 = 20;
    IP_MINTTL: i32 = 21;
    IP_NODEFRAG: i32 = 22;
    IP_CHECKSUM: i32 = 23;
    IP_BIND_ADDRESS_NO_PORT: i32 = 24;
    IP_RECVFRAGSIZE: i32 = 25;
    IP_RECVERR_RFC4884: i32 = 26;
    IP_MULTICAST_TTL: i32 = 33;
    IP_MULTICAST_LOOP: i32 = 34;
    IP_MULTICAST_ALL: i32 = 49;
    IP_LOCAL_PORT_RANGE: i32 = 51;
    IP_PROTOCOL: i32 = 52;
    IP_PMTUDISC_DONT: i32 = 0;
    IP_PMTUDISC_WANT: i32 = 1;
    IP_PMTUDISC_DO: i32 = 2;
    IP_PMTUDISC_PROBE: i32 = 3;
    IP_PMTUDISC_INTERFACE: i32 = 4;
    IP_PMTUDISC_OMIT: i32 = 5;
    IPV6_UNICAST_HOPS: i32 = 16;
    IPV6_MTU_DISCOVER: i32 = 23;
    IPV6_MTU: i32 = 24;
    IPV6_RECVERR: i32 = 25;
    IPV6_V6ONLY: i32 = 26;
    IPV6_FLOWINFO_SEND: i32 = 33;
    IPV6_RECVPKTINFO: i32 = 49;
    IPV6_RECVHOPLIMIT: i32 = 51;
    IPV6_RECVHOPOPTS: i32 = 53;
    IPV6_RECVRTHDR: i32 = 56;
    IPV6_RECVDSTOPTS: i32 = 58;
    IPV6_RECVPATHMTU: i32 = 60;
    IPV6_DONTFRAG: i32 = 62;
    IPV6_RECVTCLASS: i32 = 66;
    IPV6_TCLASS: i32 = 67;
    IPV6_AUTOFLOWLABEL: i32 = 70;
    IPV6_MINHOPCOUNT: i32 = 73;
    IPV6_RECVORIGDSTADDR: i32 = 74;
    IPV6_TRANSPARENT: i32 = 75;
    IPV6_FREEBIND: i32 = 78;
}

// Timestamping flags, and who wrote an entry of the error queue.
numbers! {
    SOF_TIMESTAMPING_TX_HARDWARE: i32 = 1;
    SOF_TIMESTAMPING_TX_SOFTWARE: i32 = 2;
    SOF_TIMESTAMPING_RX_HARDWARE: i32 = 4;
    SOF_TIMESTAMPING_RX_SOFTWARE: i32 = 8;
    SOF_TIMESTAMPING_SOFTWARE: i32 = 16;
    SOF_TIMESTAMPING_SYS_HARDWARE: i32 = 32;
    SOF_TIMESTAMPING_RAW_HARDWARE: i32 = 64;
    SOF_TIMESTAMPING_OPT_ID: i32 = 0x80;
    SOF_TIMESTAMPING_TX_SCHED: i32 = 0x100;
    SOF_TIMESTAMPING_TX_ACK: i32 = 0x200;
    SOF_TIMESTAMPING_OPT_CMSG: i32 = 0x400;
    SOF_TIMESTAMPING_OPT_TSONLY: i32 = 0x800;
    SOF_TIMESTAMPING_OPT_STATS: i32 = 0x1000;
    SOF_TIMESTAMPING_OPT_ID_TCP: i32 = 0x10000;
    SCM_RIGHTS: i32 = 1;
    SCM_CREDENTIALS: i32 = 2;
    SCM_TSTAMP_SND: i32 = 0;
    SCM_TSTAMP_SCHED: i32 = 1;
    SCM_TSTAMP_ACK: i32 = 2;
    SO_EE_ORIGIN_NONE: i32 = 0;
    SO_EE_ORIGIN_LOCAL: i32 = 1;
    SO_EE_ORIGIN_ICMP: i32 = 2;
    SO_EE_ORIGIN_ICMP6: i32 = 3;
    SO_EE_ORIGIN_TIMESTAMPING: i32 = 4;
    SO_EE_ORIGIN_ZEROCOPY: i32 = 5;
    SO_EE_CODE_ZEROCOPY_COPIED: i32 = 1;
}

// `splice` flags.
numbers! {
    SPLICE_F_MOVE: i32 = 1;
    SPLICE_F_NONBLOCK: i32 = 2;
    SPLICE_F_MORE: i32 = 4;
    SPLICE_F_GIFT: i32 = 8;
}

// `epoll` events: those of `poll`, and how to be told.
numbers! {
    EPOLLIN: u32 = 1;
    EPOLLPRI: u32 = 2;
    EPOLLOUT: u32 = 4;
    EPOLLERR: u32 = 8;
    EPOLLHUP: u32 = 16;
    EPOLLRDNORM: u32 = 64;
    EPOLLRDBAND: u32 = 0x80;
    EPOLLWRNORM: u32 = 0x100;
    EPOLLWRBAND: u32 = 0x200;
    EPOLLRDHUP: u32 = 0x2000;
    EPOLLEXCLUSIVE: u32 = 0x1000_0000;
    EPOLLWAKEUP: u32 = 0x2000_0000;
    EPOLLONESHOT: u32 = 0x4000_0000;
    EPOLLET: u32 = 0x8000_0000;
}

// Signals, and what `SIGIO` says (`si_code`).
numbers! {
    SIGPIPE: i32 = 13;
    SIGURG: i32 = 23;
    SIGIO: i32 = 29;
    SIGRTMIN: i32 = 32;
    SIGRTMAX: i32 = 64;
    POLL_IN: i32 = 1;
    POLL_OUT: i32 = 2;
    POLL_ERR: i32 = 4;
    POLL_PRI: i32 = 5;
    POLL_HUP: i32 = 6;
}
