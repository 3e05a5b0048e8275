//! The key of a connection: every segment to its peer is signed with it (`signature.rs`; Linux:
//! `tcp_md5sig_info`).
//!
//! The key lies on a shelf of its own, its place in the `Extra`. That there is one is a bit of
//! `Timestamps::carries`, which decides what segments look like without a look at the shelf.

use millrace_base::PacketPool;

use super::chunk::Chunks;
use super::connection::Connection;
use super::segment::Env;
use super::shelf::Place;
use super::state::State;
use crate::signature::SigningKey;

/// Bytes of the option with its padding (Linux: `TCPOLEN_MD5SIG_ALIGNED`).
pub(super) const SIGNATURE_OPTION_BYTES: u16 = 20;

impl Connection {
    /// Whether its segments are signed.
    #[inline]
    pub(crate) const fn is_signed(&self) -> bool {
        self.timestamps.signed()
    }

    /// Its key.
    pub(crate) fn signing_key<'a, B>(&self, chunks: &'a Chunks<B>) -> Option<&'a SigningKey> {
        if !self.is_signed() {
            return None;
        }
        let place = self.extra(chunks)?.signing;
        chunks.keys.get(place)
    }

    /// Gives it a key, another one, or none. `false`, nothing changed, when there is no room for
    /// one more. Segments have less room from now on, or more.
    pub(crate) fn set_signing_key<P: PacketPool>(
        &mut self,
        key: Option<&SigningKey>,
        env: &mut Env<'_, P>,
    ) -> bool {
        match key {
            Some(key) => {
                let Some(held) = self.extra_mut(env.chunks).map(|extra| extra.signing) else {
                    return false;
                };
                let place = env.chunks.keys.store(held, *key);
                if place.is_none() {
                    return false;
                }
                if let Some(extra) = self.extra_mut(env.chunks) {
                    extra.signing = place;
                }
            }
            None => self.release_signing_key(env.chunks),
        }
        let was_signed = self.is_signed();
        self.timestamps.sign(key.is_some());
        // Before the handshake there is no segment size to change.
        if was_signed != key.is_some() && !matches!(self.state, State::Closed | State::SynSent) {
            let searched = self.searched(env.chunks);
            self.update_mss(env.tunables, searched);
        }
        true
    }

    /// Gives the key back.
    pub(super) fn release_signing_key<B>(&mut self, chunks: &mut Chunks<B>) {
        if let Some(extra) = chunks.extras.get_mut(self.extra) {
            chunks.keys.clear(extra.signing);
            extra.signing = Place::NONE;
        }
    }
}
