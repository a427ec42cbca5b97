//! Messages of a file as text: what `tcpdump` does for packets, for what is in them.
//!
//! Nothing is put in order, left out or remembered: what is shown is what is there, in the order it is there.

use std::io::Write as _;
use std::time::Instant;

use barewire_io::capture::{Capture, CaptureError, Format};
use barewire_types::{Seq, UnixNanos};
use barewire_wire::moldudp64::{Packet, PacketKind};
use barewire_wire::{Described, MessageSpec, PROTOCOLS, ProtocolSpec, Value, value};
use serde::ser::{SerializeMap, Serializer};

/// Messages and frames between two looks at the clock: some hundred microseconds.
const LOOKED_AT_A_TIME: u32 = 1 << 12;

/// How messages are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line a message: time, sequence number, type, name, then `field=value`, prices with their places.
    Line,
    /// A JSON object a message: integers as on the wire, text stripped.
    Json,
}

/// What to show.
#[derive(Clone, Debug)]
pub struct InspectConfig {
    /// The protocol, by its name in [`PROTOCOLS`].
    pub protocol: &'static ProtocolSpec,
    /// How.
    pub style: Style,
    /// Only messages of these types; empty for all.
    pub types: Vec<u8>,
    /// At most so many messages.
    pub limit: Option<u64>,
}

/// The protocol of this name whose messages can be shown, or the names that there are.
///
/// # Errors
///
/// Every name that would have been right.
pub fn protocol(name: &str) -> Result<&'static ProtocolSpec, Vec<&'static str>> {
    let known = || PROTOCOLS.iter().filter(|protocol| !protocol.messages.is_empty());
    known().find(|protocol| protocol.name == name).copied().ok_or_else(|| known().map(|p| p.name).collect())
}

/// A file being shown.
pub struct Inspector {
    capture: Capture,
    config: InspectConfig,
    by_type: Box<[Option<&'static MessageSpec>; 256]>,
    place: u64,
    shown: u64,
    not_udp: u64,
    not_mold: u64,
    damaged: u64,
}

/// Where a message stands.
struct At {
    sequence: Seq,
    ts_recv: UnixNanos,
}

impl Inspector {
    /// Shows a capture from where it stands.
    pub fn new(mut capture: Capture, config: InspectConfig) -> Inspector {
        capture.stop_waiting();
        let mut by_type = Box::new([None; 256]);
        for message in config.protocol.messages {
            by_type[usize::from(message.type_code)] = Some(message);
        }
        Inspector { capture, config, by_type, place: 0, shown: 0, not_udp: 0, not_mold: 0, damaged: 0 }
    }

    /// Appends whole lines to `out`, about `bytes` of them, as long as there is something to read and until about `until`;
    /// `false` when there are no more.
    ///
    /// # Errors
    ///
    /// What the operating system says when it cannot read on.
    pub fn show(&mut self, out: &mut Vec<u8>, bytes: usize, until: Instant) -> Result<bool, CaptureError> {
        // Moved out so that messages can borrow the capture while the rest of us is used.
        let Inspector { capture, config, by_type, place, shown, not_udp, not_mold, damaged } = self;
        let mut printer = Printer { config, by_type, shown };
        let end = out.len() + bytes;
        // A file of which nothing is shown is read in parts too, so that the caller can be interrupted.
        let mut looked = 0u32;
        while out.len() < end && !printer.is_done() {
            looked += 1;
            if looked.is_multiple_of(LOOKED_AT_A_TIME) && Instant::now() >= until {
                break;
            }
            if capture.format() == Format::BinaryFile {
                let messages = match capture.next_messages() {
                    Err(error) if error.is_nothing_yet() => break,
                    messages => messages?,
                };
                let Some(messages) = messages else { return Ok(false) };
                for message in messages {
                    *place += 1;
                    printer.message(out, message, &At { sequence: Seq(*place), ts_recv: UnixNanos::ABSENT });
                    looked += 1;
                    if out.len() >= end || looked.is_multiple_of(LOOKED_AT_A_TIME) || printer.is_done() {
                        // The clock is looked at in the next turn.
                        looked = looked.next_multiple_of(LOOKED_AT_A_TIME) - 1;
                        break;
                    }
                }
                continue;
            }
            let frame = match capture.next_frame() {
                Err(error) if error.is_nothing_yet() => break,
                frame => frame?,
            };
            let Some(frame) = frame else { return Ok(false) };
            let Ok(datagram) = frame.datagram() else {
                *not_udp += 1;
                continue;
            };
            let Ok(packet) = Packet::parse(datagram.payload) else {
                *not_mold += 1;
                continue;
            };
            *damaged += u64::from(packet.is_damaged());
            let mut at = At { sequence: packet.sequence(), ts_recv: frame.ts };
            printer.packet(out, &packet, &at);
            for message in packet.messages() {
                printer.message(out, message, &at);
                at.sequence.0 = at.sequence.0.wrapping_add(1);
                if printer.is_done() {
                    break;
                }
            }
        }
        Ok(!printer.is_done())
    }

    /// What could not be shown, and how the file ended.
    pub fn warnings(&self) -> Vec<String> {
        let counted = [
            (self.not_udp, "frames hold no UDP datagram over IPv4"),
            (self.not_mold, "datagrams are not MoldUDP64"),
            (self.damaged, "packets hold fewer messages than they declare, or stray bytes"),
        ];
        let mut warnings: Vec<String> =
            counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        warnings.extend(crate::replay::end_warnings(&self.capture));
        warnings
    }
}

struct Printer<'a> {
    config: &'a InspectConfig,
    by_type: &'a [Option<&'static MessageSpec>; 256],
    shown: &'a mut u64,
}

impl Printer<'_> {
    fn is_done(&self) -> bool {
        self.config.limit.is_some_and(|limit| *self.shown >= limit)
    }

    /// A packet without messages is a line of its own; JSON is for messages only.
    fn packet(&self, out: &mut Vec<u8>, packet: &Packet<'_>, at: &At) {
        let what = match packet.kind() {
            PacketKind::Messages => return,
            PacketKind::Heartbeat => "heartbeat",
            PacketKind::EndOfSession => "end_of_session",
        };
        if self.config.style == Style::Line && self.config.types.is_empty() {
            let session = packet.session();
            let _ = writeln!(out, "{} {} - {what} session={session}", Time(at.ts_recv), at.sequence.0);
        }
    }

    fn message(&mut self, out: &mut Vec<u8>, message: &[u8], at: &At) {
        let type_code = message.first().copied();
        if !self.config.types.is_empty() && !type_code.is_some_and(|code| self.config.types.contains(&code)) {
            return;
        }
        *self.shown += 1;
        let spec = type_code.and_then(|code| self.by_type[usize::from(code)]).filter(|spec| spec.len == message.len());
        match self.config.style {
            Style::Line => {
                let kind = type_code.map_or("-".to_owned(), |code| code.escape_ascii().to_string());
                let _ = write!(out, "{} {} {kind} ", Time(at.ts_recv), at.sequence.0);
                let _ = match spec {
                    Some(spec) => {
                        // The type stands in its own column.
                        let fields = spec.fields.get(1..).unwrap_or_default();
                        writeln!(out, "{} {}", spec.name, Described { fields, bytes: message })
                    }
                    None => writeln!(out, "unknown bytes={}", Value::Bytes(message)),
                };
            }
            Style::Json => {
                // Writing into memory cannot fail.
                let _ = json(out, message, type_code, spec, at);
                out.push(b'\n');
            }
        }
    }
}

/// One JSON object. A message that the protocol does not have is `"unknown"`, with its bytes in hexadecimal.
fn json(
    out: &mut Vec<u8>,
    message: &[u8],
    type_code: Option<u8>,
    spec: Option<&MessageSpec>,
    at: &At,
) -> serde_json::Result<()> {
    let mut serializer = serde_json::Serializer::new(out);
    let mut object = serializer.serialize_map(None)?;
    object.serialize_entry("message", spec.map_or("unknown", |spec| spec.name))?;
    object.serialize_entry("type", &type_code.map(char::from))?;
    object.serialize_entry("sequence", &at.sequence.0)?;
    object.serialize_entry("ts_recv", &Some(at.ts_recv.0).filter(|ns| *ns > 0))?;
    match spec {
        Some(spec) => {
            for field in spec.fields.get(1..).unwrap_or_default() {
                match value(field, message) {
                    Some(Value::Uint(value)) => object.serialize_entry(field.name, &value)?,
                    Some(Value::Int(value)) => object.serialize_entry(field.name, &value)?,
                    Some(Value::Text(text) | Value::Bytes(text)) => {
                        object.serialize_entry(field.name, &latin1(text.trim_ascii()))?;
                    }
                    None => object.serialize_entry(field.name, &None::<u64>)?,
                }
            }
        }
        None => object.serialize_entry("bytes", &Value::Bytes(message).to_string())?,
    }
    object.end()
}

/// Text of which every byte is a character: what is no ASCII stays readable back into the bytes it was.
fn latin1(text: &[u8]) -> String {
    text.iter().copied().map(char::from).collect()
}

/// Seconds and nanoseconds since 1970, `-` where there is no time.
struct Time(UnixNanos);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            UnixNanos::ABSENT => f.write_str("-"),
            UnixNanos(ns) => write!(f, "{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000),
        }
    }
}
