//! `txonly`: receives nothing and sends frames of one flow, `--txpkts` bytes long, as fast as the
//! device takes them. The measure of the transmit path, and a generator for a sink.

use crate::engine::Engine;
use crate::engine::template::Template;
use crate::settings::Settings;
use crate::stream::Stream;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct TxOnly {
    template: Template,
}

impl Engine for TxOnly {
    fn begin(stream: &Stream, settings: &Settings) -> Self {
        Self {
            template: Template::new(stream.place(), settings.frame_bytes),
        }
    }

    #[inline]
    fn burst(&mut self, stream: &mut Stream) -> bool {
        stream.fill(|frame| self.template.write(frame, 0));
        if stream.frames_mut().is_empty() {
            return false;
        }
        stream.transmit();
        true
    }
}
