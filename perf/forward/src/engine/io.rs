//! `io`: sends each packet as it came. It never looks at a packet's bytes, which makes it the
//! fastest mode there is and the measure of the bare receive and transmit path.

use crate::engine::Engine;
use crate::settings::Settings;
use crate::stream::Stream;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Io;

impl Engine for Io {
    fn begin(_: &Stream, _: &Settings) -> Self {
        Self
    }

    #[inline]
    fn burst(&mut self, stream: &mut Stream) -> bool {
        if stream.receive() == 0 {
            return false;
        }
        stream.transmit();
        true
    }
}
