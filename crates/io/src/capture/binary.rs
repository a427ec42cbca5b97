//! BinaryFILE's messages.

use std::io;

use barewire_wire::binaryfile::{self, HEADER_LEN, Step};

use super::input::Input;
use super::{CaptureCounters, Damage, End};

/// Makes at least one whole message available; an end where there is none.
pub(super) fn ready(input: &mut Input) -> io::Result<Option<End>> {
    let mut len = HEADER_LEN;
    loop {
        if !input.need(len)? {
            return Ok(Some(input.end(len as u64, 0)));
        }
        match binaryfile::step(input.available()) {
            Step::Message { .. } => return Ok(None),
            Step::End => {
                // Nothing is consumed before it is known: reading may have to be tried again.
                let more = input.need(HEADER_LEN + 1)?;
                input.consume(HEADER_LEN);
                return Ok(Some(if more { input.damaged(Damage::BytesBehindEnd) } else { input.end(0, 0) }));
            }
            Step::NeedMore => match input.available() {
                [high, low, ..] => len = HEADER_LEN + usize::from(u16::from_be_bytes([*high, *low])),
                _ => len = HEADER_LEN,
            },
        }
    }
}

/// Iterates over a batch of messages, each without its length.
#[derive(Debug)]
pub struct Messages<'a> {
    bytes: &'a [u8],
    consumed: &'a mut usize,
    counters: &'a mut CaptureCounters,
}

impl<'a> Messages<'a> {
    pub(super) fn new(bytes: &'a [u8], consumed: &'a mut usize, counters: &'a mut CaptureCounters) -> Messages<'a> {
        Messages { bytes, consumed, counters }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        match binaryfile::step(self.bytes) {
            Step::Message { message, rest } => {
                *self.consumed += self.bytes.len() - rest.len();
                self.bytes = rest;
                self.counters.messages += 1;
                self.counters.bytes += message.len() as u64;
                Some(message)
            }
            Step::End | Step::NeedMore => None,
        }
    }
}
