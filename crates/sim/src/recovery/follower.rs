//! A mirror that follows a store.

use barewire_wire::moldudp64::Session;

use super::mirror::{BookSnapshot, Mirror};
use super::store::{Found, Place, Store};

/// Follows the store's session; see [`Mirror`].
///
/// It has to have followed from the session's first message: where it begins later, or was so slow that the store let go of
/// messages before it came to them, it has no snapshot until the next session.
#[derive(Debug)]
pub(super) struct Follower {
    place: Place,
    mirror: Mirror,
    max_orders: usize,
    /// Whether no message is missing.
    is_whole: bool,
    copied: Vec<u8>,
}

impl Follower {
    /// Before the first session.
    pub(super) fn new(max_orders: usize) -> Follower {
        let mirror = Mirror::with_max_orders(max_orders);
        Follower { place: Place::default(), mirror, max_orders, is_whole: false, copied: Vec::new() }
    }

    /// Number of the message to be followed next.
    pub(super) fn next(&self) -> u64 {
        self.place.next
    }

    /// Whether there is a session, and a snapshot of it to be had.
    pub(super) fn is_right(&self) -> bool {
        self.is_whole && self.mirror.is_complete()
    }

    /// Follows a chunk further; false where there is none. What is being filled is left alone, unless the `newest` is wanted.
    pub(super) fn follow(&mut self, store: &Store, newest: bool) -> bool {
        let found = store.follow(&mut self.place, newest, &mut self.copied);
        match found {
            Found::Nothing => return false,
            Found::OtherSession => {
                self.mirror = Mirror::with_max_orders(self.max_orders);
                self.is_whole = self.place.next == 1;
            }
            Found::Lost => self.is_whole = false,
            Found::Full(..) | Found::Copied if self.is_whole => {
                found.messages(&self.copied).for_each(|message| self.mirror.message(message));
            }
            // Nobody will ask for it.
            Found::Full(..) | Found::Copied => {}
        }
        true
    }

    /// The snapshot at the store's newest message, and its session.
    pub(super) fn snapshot(&mut self, store: &Store) -> Option<(Session, BookSnapshot)> {
        // Messages that come meanwhile are for the next one: a quick sender must not keep this one from its end.
        let newest = store.next();
        while self.follow(store, true) && self.next() < newest {}
        let session = self.place.session.filter(|_| self.is_right())?;
        Some((session, self.mirror.snapshot()))
    }
}
