//! What the crate promises about whole frames, held over its public face.

mod frames;
mod hostile;
mod known_frames;
mod roundtrip;
