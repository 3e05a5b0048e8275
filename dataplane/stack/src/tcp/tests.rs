//! One connection against a scripted peer, topic by topic; and two connections over a hostile link.

mod close;
mod data;
mod handshake;
mod hostile;
mod layout;
mod loss;
mod lossy;
mod memory;
mod predict;
mod receiving;
mod recovery;
mod resending;
mod resets;
mod sending;
mod window;
