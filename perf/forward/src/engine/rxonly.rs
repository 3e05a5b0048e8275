//! `rxonly`: receives packets and frees them. Nothing is sent. The measure of the receive path, and
//! a sink for a generator.

use crate::engine::Engine;
use crate::settings::Settings;
use crate::stream::Stream;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct RxOnly;

impl Engine for RxOnly {
    fn begin(_: &Stream, _: &Settings) -> Self {
        Self
    }

    #[inline]
    fn burst(&mut self, stream: &mut Stream) -> bool {
        if stream.receive() == 0 {
            return false;
        }
        stream.absorb();
        true
    }
}
