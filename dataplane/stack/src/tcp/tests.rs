//! One connection against a scripted peer, topic by topic; and two connections over a hostile link.

mod handshake;
mod lossy;
