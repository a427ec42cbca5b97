//! Being a member of groups where no kernel sees to it: IGMPv3's side of a host (RFC 3376), and what it says to older
//! routers (RFC 2236, RFC 1112).
//!
//! [`Speaker`] does no input or output and reads no clock: it is told of queries and of the time, and hands over frames to
//! be sent. What it says:
//!
//! - at the start, that it wants its groups: from any source (CHANGE_TO_EXCLUDE_MODE of none) or from some
//!   (ALLOW_NEW_SOURCES), twice or as often as the router's robustness wants, within a second of each other (section 5.1);
//! - asked, its groups as they are, after a time by chance within what the query allows (section 5.2). A query for some
//!   sources of a group that is wanted from any is answered with the group;
//! - at the end, that it wants them no more.
//!
//! A router that asks in an older version's words is answered in that version's for some minutes (section 7.2.1).
//!
//! Queries come from the network and may be anything: what is not a sound query is passed over, and however many there are,
//! each group is answered for once in the time that its query allowed.

use std::net::Ipv4Addr;

use crate::packet::LineConfig;

/// 224.0.0.22, to which version 3's reports go (section 4.2.14).
const ROUTERS_V3: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
/// 224.0.0.2, to which version 2's leaves go.
const ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
/// 224.0.0.1, to which general queries go.
pub(super) const HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

const QUERY: u8 = 0x11;
const REPORT_V1: u8 = 0x12;
const REPORT_V2: u8 = 0x16;
const LEAVE_V2: u8 = 0x17;
const REPORT_V3: u8 = 0x22;

const PROTOCOL: u8 = 2;
const ETHERNET_LEN: usize = 14;
/// The header with its Router Alert option (RFC 2113), which all of these messages carry.
const IP_LEN: usize = 24;
/// Sources in one record, and bytes of records in one report: it stays below any network's packet length.
const MAX_SOURCES: usize = 64;
const MAX_RECORDS: usize = 1024;

const SECOND: u64 = 1_000_000_000;
/// Unsolicited Report Interval (section 8.11).
const REPEAT_NS: u64 = SECOND;
/// Robustness Variable, as long as no router says otherwise (section 8.1).
const ROBUSTNESS: u8 = 2;
/// Older Version Querier Present Timeout (section 8.12) with the defaults of its parts.
const OLDER_NS: u64 = 260 * SECOND;

/// Record types (section 4.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    IsInclude = 1,
    IsExclude = 2,
    ToInclude = 3,
    ToExclude = 4,
    Allow = 5,
    Block = 6,
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Join,
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
    V3,
}

#[derive(Clone, Debug)]
struct Group {
    address: Ipv4Addr,
    /// The sources wanted; empty for any.
    sources: Vec<Ipv4Addr>,
    /// Those of the sources that a pending answer is about; all, for one about the group.
    asked: Vec<bool>,
    /// When to answer.
    due: Option<u64>,
}

/// A host's side of IGMP for the groups of one port. Times are nanoseconds of any clock that is never set back.
#[derive(Debug)]
pub(super) struct Speaker {
    groups: Vec<Group>,
    mac: [u8; 6],
    address: Ipv4Addr,
    vlan: Option<u16>,
    robustness: u8,
    /// How often the join is to be said again, and when next.
    repeats: u8,
    repeat_due: u64,
    /// Until when routers of the older versions are taken to be around.
    v1_until: u64,
    v2_until: u64,
    /// When to answer for all groups.
    general_due: Option<u64>,
    chance: u64,
    frame: Vec<u8>,
    pub(super) queries: u64,
    pub(super) reports: u64,
}

impl Speaker {
    /// For the groups of these lines, if there is one.
    pub(super) fn new<'a>(
        lines: impl IntoIterator<Item = &'a LineConfig>,
        mac: [u8; 6],
        address: Ipv4Addr,
        vlan: Option<u16>,
    ) -> Option<Speaker> {
        let mut groups: Vec<(Ipv4Addr, Vec<Option<Ipv4Addr>>)> = Vec::new();
        for line in lines.into_iter().filter(|line| line.group.is_multicast()) {
            match groups.iter_mut().find(|(address, _)| *address == line.group) {
                Some((_, sources)) => sources.push(line.source),
                None => groups.push((line.group, vec![line.source])),
            }
        }
        let group = |(address, sources): (Ipv4Addr, Vec<Option<Ipv4Addr>>)| {
            // Who wants any wants all.
            let mut sources: Vec<Ipv4Addr> = sources.into_iter().collect::<Option<Vec<_>>>().unwrap_or_default();
            sources.sort_unstable();
            sources.dedup();
            Group { address, asked: vec![false; sources.len()], sources, due: None }
        };
        let groups: Vec<Group> = groups.into_iter().map(group).collect();
        // Any number will do that is not the same for all hosts.
        let chance = mac.iter().fold(0x9e37_79b9_7f4a_7c15, |sum: u64, byte| sum.rotate_left(8) ^ u64::from(*byte));
        (!groups.is_empty()).then_some(Speaker {
            groups,
            mac,
            address,
            vlan,
            robustness: ROBUSTNESS,
            repeats: 0,
            repeat_due: 0,
            v1_until: 0,
            v2_until: 0,
            general_due: None,
            chance: chance | 1,
            frame: Vec::with_capacity(2048),
            queries: 0,
            reports: 0,
        })
    }

    /// The Ethernet addresses that the port has to let in.
    pub(super) fn addresses(&self) -> impl Iterator<Item = [u8; 6]> {
        self.groups.iter().map(|group| ethernet(group.address)).chain([ethernet(HOSTS)])
    }

    /// Joins all groups.
    pub(super) fn start(&mut self, now: u64, send: &mut dyn FnMut(&[u8])) {
        self.say_all(Change::Join, now, send);
        self.repeats = self.robustness - 1;
        self.repeat_due = now + self.within(REPEAT_NS);
    }

    /// Leaves all groups: nobody will be there to say it again, so it is said as often as it has to be.
    pub(super) fn end(&mut self, now: u64, send: &mut dyn FnMut(&[u8])) {
        for _ in 0..self.robustness {
            self.say_all(Change::Leave, now, send);
        }
    }

    /// Whether [`work`](Self::work) has something to say.
    #[inline]
    pub(super) fn is_due(&self, now: u64) -> bool {
        let past = |due: Option<u64>| due.is_some_and(|due| due <= now);
        (self.repeats > 0 && self.repeat_due <= now)
            || past(self.general_due)
            || self.groups.iter().any(|group| past(group.due))
    }

    /// Says what is due.
    pub(super) fn work(&mut self, now: u64, send: &mut dyn FnMut(&[u8])) {
        if self.repeats > 0 && self.repeat_due <= now {
            self.repeats -= 1;
            self.repeat_due = now + self.within(REPEAT_NS);
            self.say_all(Change::Join, now, send);
        }
        if self.general_due.is_some_and(|due| due <= now) {
            // Answers for all, so nothing more is owed for any.
            self.general_due = None;
            for group in &mut self.groups {
                group.due = None;
                group.asked.fill(false);
            }
            self.say_all(Change::None, now, send);
        }
        let due: Vec<usize> = (0..self.groups.len())
            .filter(|at| self.groups.get(*at).and_then(|group| group.due).is_some_and(|due| due <= now))
            .collect();
        if !due.is_empty() {
            self.say(&due, Change::None, true, now, send);
        }
        for at in due {
            if let Some(group) = self.groups.get_mut(at) {
                group.due = None;
                group.asked.fill(false);
            }
        }
    }

    /// Takes in a frame that holds IGMP: [`is_igmp`].
    pub(super) fn hear(&mut self, frame: &[u8], now: u64) {
        if let Some(query) = Query::read(frame) {
            self.queries += 1;
            self.answer_later(&query, now);
        }
    }

    fn answer_later(&mut self, query: &Query<'_>, now: u64) {
        match query.version {
            Version::V3 => {
                // Zero says nothing (section 4.1.6).
                if query.robustness != 0 {
                    self.robustness = query.robustness;
                }
            }
            Version::V2 => self.v2_until = now + OLDER_NS,
            Version::V1 => self.v1_until = now + OLDER_NS,
        }
        let due = now + self.within(query.within_ns);
        if self.general_due.is_some_and(|pending| pending <= due) {
            return;
        }
        if query.group.is_unspecified() {
            self.general_due = Some(due);
            return;
        }
        let Some(group) = self.groups.iter_mut().find(|group| group.address == query.group) else { return };
        let about_group = query.sources.is_empty() || group.sources.is_empty();
        let mut wanted = about_group;
        for (source, asked) in group.sources.iter().zip(&mut group.asked) {
            if about_group || query.sources.as_chunks().0.contains(&source.octets()) {
                (*asked, wanted) = (true, true);
            }
        }
        if wanted {
            group.due = Some(group.due.map_or(due, |pending| pending.min(due)));
        }
    }

    /// The version that the routers here understand: the oldest that is around.
    fn spoken(&self, now: u64) -> Version {
        match (now < self.v1_until, now < self.v2_until) {
            (true, _) => Version::V1,
            (_, true) => Version::V2,
            _ => Version::V3,
        }
    }

    /// A time by chance.
    fn within(&mut self, ns: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % ns.max(1)
    }

    fn say_all(&mut self, change: Change, now: u64, send: &mut dyn FnMut(&[u8])) {
        let all: Vec<usize> = (0..self.groups.len()).collect();
        self.say(&all, change, false, now, send);
    }

    /// `asked_only`: of a group's sources only those that were asked for.
    fn say(&mut self, groups: &[usize], change: Change, asked_only: bool, now: u64, send: &mut dyn FnMut(&[u8])) {
        let mut frame = std::mem::take(&mut self.frame);
        let mut emit = |speaker: &mut Speaker, frame: &mut Vec<u8>, to| {
            speaker.finish(frame, to);
            send(frame);
            speaker.reports += 1;
        };
        let version = self.spoken(now);
        if version != Version::V3 {
            for at in groups {
                let Some(group) = self.groups.get(*at).map(|group| group.address) else { continue };
                let (kind, to) = match (version, change) {
                    (Version::V1, Change::Leave) => continue,
                    (Version::V1, _) => (REPORT_V1, group),
                    (_, Change::Leave) => (LEAVE_V2, ROUTERS),
                    _ => (REPORT_V2, group),
                };
                self.begin(&mut frame);
                frame.extend([kind, 0, 0, 0]);
                frame.extend(group.octets());
                emit(self, &mut frame, to);
            }
            self.frame = frame;
            return;
        }
        let head = self.begin(&mut frame) + 8;
        let mut records = 0u16;
        let start = |frame: &mut Vec<u8>| frame.extend([REPORT_V3, 0, 0, 0, 0, 0, 0, 0]);
        start(&mut frame);
        for at in groups {
            let Some(group) = self.groups.get(*at).cloned() else { continue };
            let kind = match (change, group.sources.is_empty()) {
                (Change::None, true) => Record::IsExclude,
                (Change::None, false) => Record::IsInclude,
                (Change::Join, true) => Record::ToExclude,
                (Change::Join, false) => Record::Allow,
                (Change::Leave, true) => Record::ToInclude,
                (Change::Leave, false) => Record::Block,
            };
            let sources = group.sources.iter().zip(&group.asked).filter(|(_, asked)| !asked_only || **asked);
            let sources: Vec<Ipv4Addr> = sources.map(|(source, _)| *source).collect();
            let none: &[Ipv4Addr] = &[];
            let pieces = if sources.is_empty() { vec![none] } else { sources.chunks(MAX_SOURCES).collect() };
            for piece in pieces {
                if frame.len() - head + 8 + 4 * piece.len() > MAX_RECORDS {
                    put(&mut frame, head - 2, records);
                    emit(self, &mut frame, ROUTERS_V3);
                    self.begin(&mut frame);
                    start(&mut frame);
                    records = 0;
                }
                frame.extend([kind as u8, 0]);
                frame.extend((piece.len() as u16).to_be_bytes());
                frame.extend(group.address.octets());
                piece.iter().for_each(|source| frame.extend(source.octets()));
                records += 1;
            }
        }
        put(&mut frame, head - 2, records);
        emit(self, &mut frame, ROUTERS_V3);
        self.frame = frame;
    }

    /// Room for the headers; returns where the message begins.
    fn begin(&self, frame: &mut Vec<u8>) -> usize {
        let len = ETHERNET_LEN + if self.vlan.is_some() { 4 } else { 0 } + IP_LEN;
        frame.clear();
        frame.resize(len, 0);
        len
    }

    /// Writes the headers, the message's checksum, and what Ethernet's shortest frame lacks.
    fn finish(&self, frame: &mut Vec<u8>, to: Ipv4Addr) {
        let mut headers: Vec<u8> = Vec::with_capacity(ETHERNET_LEN + 4 + IP_LEN);
        headers.extend(ethernet(to));
        headers.extend(self.mac);
        if let Some(vlan) = self.vlan {
            headers.extend(0x8100u16.to_be_bytes());
            headers.extend(vlan.to_be_bytes());
        }
        headers.extend(0x0800u16.to_be_bytes());
        let ip = headers.len();
        let begin = ip + IP_LEN;
        let total = (frame.len() - ip) as u16;
        // Version 4, six words; internetwork control (section 4); no id, not to be cut up; one hop.
        headers.extend([0x46, 0xc0]);
        headers.extend(total.to_be_bytes());
        headers.extend([0, 0, 0x40, 0, 1, PROTOCOL, 0, 0]);
        headers.extend(self.address.octets());
        headers.extend(to.octets());
        headers.extend([0x94, 4, 0, 0]);
        let sum = checksum(headers.get(ip..).unwrap_or(&[]));
        put(&mut headers, ip + 10, sum);
        let sum = checksum(frame.get(begin..).unwrap_or(&[]));
        put(frame, begin + 2, sum);
        if let Some(room) = frame.get_mut(..begin) {
            room.copy_from_slice(&headers);
        }
        frame.resize(frame.len().max(60), 0);
    }
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let half = |pair: &[u8]| u32::from(pair.first().copied().unwrap_or(0)) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(half).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A group's Ethernet address (RFC 1112, section 6.4).
pub(super) fn ethernet(group: Ipv4Addr) -> [u8; 6] {
    let [_, b, c, d] = group.octets();
    [0x01, 0x00, 0x5e, b & 0x7f, c, d]
}

/// Whether a frame holds IGMP.
#[inline]
pub(super) fn is_igmp(frame: &[u8]) -> bool {
    match frame.get(12..28) {
        Some([0x08, 0x00, _, _, _, _, _, _, _, _, _, protocol, ..]) => *protocol == PROTOCOL,
        Some([0x81, 0x00, _, _, 0x08, 0x00, _, _, _, _, _, _, _, _, _, protocol]) => *protocol == PROTOCOL,
        _ => false,
    }
}

/// A sound query.
#[derive(Debug)]
struct Query<'a> {
    version: Version,
    group: Ipv4Addr,
    within_ns: u64,
    robustness: u8,
    /// Four bytes each.
    sources: &'a [u8],
}

impl Query<'_> {
    /// Section 4.1; section 7.1 for which version it is.
    fn read(frame: &[u8]) -> Option<Query<'_>> {
        let ip = match frame.get(12..14)? {
            [0x81, 0x00] => frame.get(18..)?,
            _ => frame.get(14..)?,
        };
        let header_len = usize::from(ip.first()? & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes(*ip.get(2..)?.first_chunk()?));
        let header = ip.get(..header_len)?;
        let message = ip.get(header_len..total)?;
        let fragment = u16::from_be_bytes(*header.get(6..)?.first_chunk()?) & 0x3fff;
        if header_len < 20
            || header.first()? >> 4 != 4
            || fragment != 0
            || checksum(header) != 0
            || checksum(message) != 0
        {
            return None;
        }
        let [QUERY, code, _, _, a, b, c, d, rest @ ..] = message else { return None };
        let group = Ipv4Addr::new(*a, *b, *c, *d);
        let tenths = |code: u8| u64::from(code) * (SECOND / 10);
        let (version, within_ns, robustness, sources): (_, _, _, &[u8]) = match rest {
            [] if *code == 0 => (Version::V1, tenths(100), 0, &[]),
            [] => (Version::V2, tenths(*code), 0, &[]),
            [flags, _interval, high, low, sources @ ..] => {
                let count = usize::from(u16::from_be_bytes([*high, *low]));
                let tenths_v3 = match code {
                    0..128 => u64::from(*code),
                    _ => u64::from(code & 0x0f | 0x10) << (u64::from(code >> 4 & 7) + 3),
                };
                (Version::V3, tenths_v3 * (SECOND / 10), flags & 7, sources.get(..4 * count)?)
            }
            _ => return None,
        };
        Some(Query { version, group, within_ns, robustness, sources })
    }
}

#[cfg(test)]
mod tests;
