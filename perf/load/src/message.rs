//! A message as it is sent: its head, and a body that exists once however long it is.

/// Bytes of body kept: what a connection's send queue takes at once, several times over.
const BLOCK_BYTES: usize = 65_536;

/// What bodies are made of.
const FILLER: u8 = b'x';

/// A message that is sent over and over.
#[derive(Clone, Debug)]
pub struct Message {
    /// The head and up to [`BLOCK_BYTES`] of the body.
    image: Box<[u8]>,
    /// Bytes in all.
    total: u64,
}

impl Message {
    /// A head and `body_bytes` behind it.
    pub fn new(head: &[u8], body_bytes: u64) -> Self {
        let block = usize::try_from(body_bytes).map_or(BLOCK_BYTES, |body| body.min(BLOCK_BYTES));
        let mut image = head.to_vec();
        image.resize(head.len().saturating_add(block), FILLER);
        Self {
            image: image.into_boxed_slice(),
            total: body_bytes.saturating_add(head.len() as u64),
        }
    }

    /// What comes at `position`: as many bytes as are at hand, none at the end.
    #[inline]
    pub fn at(&self, position: u64) -> &[u8] {
        let inside = usize::try_from(position).ok();
        if let Some(rest) = inside.and_then(|position| self.image.get(position..))
            && !rest.is_empty()
        {
            return rest;
        }
        // Behind the image there is only more of the filler.
        let left = self.total.saturating_sub(position);
        let least = self.image.len().saturating_sub(BLOCK_BYTES);
        let block = self.image.get(least..).unwrap_or_default();
        let left = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        block.get(..left).unwrap_or_default()
    }

    /// Bytes in all.
    #[inline]
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_length_however_it_is_cut() {
        for body in [0u64, 1, 65_535, 65_536, 65_537, 1_000_000] {
            let message = Message::new(b"head", body);
            let mut sent = Vec::new();
            while message.len() > sent.len() as u64 {
                let piece = message.at(sent.len() as u64);
                assert!(!piece.is_empty());
                sent.extend_from_slice(&piece[..piece.len().min(1_448)]);
            }
            assert_eq!(sent.len() as u64, 4 + body);
            assert!(message.at(message.len()).is_empty());
            assert_eq!(&sent[..4], b"head");
            assert!(sent[4..].iter().all(|byte| *byte == FILLER));
        }
    }
}
