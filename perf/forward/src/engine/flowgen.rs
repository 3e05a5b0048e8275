//! `flowgen`: frees what it receives and sends frames of many flows in turn (`--flowgen-flows`),
//! each with its own destination address. For devices and peers that spread load by flow.

use crate::engine::Engine;
use crate::engine::template::Template;
use crate::settings::Settings;
use crate::stream::Stream;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct FlowGen {
    template: Template,
    next: u16,
    last: u16,
}

impl Engine for FlowGen {
    fn begin(stream: &Stream, settings: &Settings) -> Self {
        Self {
            template: Template::new(stream.place(), settings.frame_bytes),
            next: 0,
            last: u16::try_from(settings.flows.saturating_sub(1)).unwrap_or(u16::MAX),
        }
    }

    #[inline]
    fn burst(&mut self, stream: &mut Stream) -> bool {
        let received = stream.receive();
        stream.absorb();
        stream.fill(|frame| {
            self.template.write(frame, self.next);
            self.next = if self.next == self.last {
                0
            } else {
                self.next.wrapping_add(1)
            };
        });
        if stream.frames_mut().is_empty() {
            return received != 0;
        }
        stream.transmit();
        true
    }
}
