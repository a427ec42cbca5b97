//! Whom a line hears: one source, a list of networks, or anybody.
//!
//! Anybody who reaches a group can send to it. A list says who is meant to; what others send is counted, and not handed
//! over. It is looked at in the process, for every path alike: a source-specific join keeps others away already in the
//! network, but knows single hosts only.

use std::fmt;
use std::net::Ipv4Addr;

use crate::packet::LineConfig;

/// The most networks that a line's list may have: a packet is compared with six of so many.
pub const MAX_ALLOWED: usize = 64;

/// An IPv4 network, or one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: Ipv4Addr,
    bits: u8,
}

impl Network {
    /// The network of `address` that is told by its first `bits` bits, 32 for the host alone; `None` for more than 32.
    pub fn new(address: Ipv4Addr, bits: u8) -> Option<Network> {
        let first = Ipv4Addr::from_bits(address.to_bits() & !host_bits(bits)?);
        Some(Network { first, bits })
    }

    /// Whether it has this address.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let (first, last) = self.range();
        (first..=last).contains(&address.to_bits())
    }

    fn range(self) -> (u32, u32) {
        let first = self.first.to_bits();
        (first, first | host_bits(self.bits).unwrap_or(0))
    }
}

/// The bits that tell a network's hosts apart.
fn host_bits(bits: u8) -> Option<u32> {
    (bits <= 32).then(|| u32::MAX.checked_shr(bits.into()).unwrap_or(0))
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits {
            32 => self.first.fmt(f),
            bits => write!(f, "{}/{bits}", self.first),
        }
    }
}

/// A line's senders, made ready to be asked for each packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Senders {
    /// First and last address of each range: in order, and none touches the next.
    ranges: Box<[(u32, u32)]>,
}

impl Senders {
    pub(crate) fn of(line: &LineConfig) -> Senders {
        if let Some(source) = line.source {
            let heard = line.allow.is_empty() || line.allow.iter().any(|network| network.contains(source));
            let range = heard.then_some((source.to_bits(), source.to_bits()));
            return Senders { ranges: range.into_iter().collect() };
        }
        let mut given: Vec<(u32, u32)> = line.allow.iter().map(|network| network.range()).collect();
        given.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::with_capacity(given.len().max(1));
        for (first, last) in given {
            match ranges.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => ranges.push((first, last)),
            }
        }
        if ranges.is_empty() {
            ranges.push((0, u32::MAX));
        }
        Senders { ranges: ranges.into() }
    }

    /// Whether packets of this sender are wanted.
    #[inline(always)]
    pub(crate) fn include(&self, sender: Ipv4Addr) -> bool {
        let sender = sender.to_bits();
        match &*self.ranges {
            [(first, last)] => (*first..=*last).contains(&sender),
            ranges => {
                let behind = ranges.partition_point(|(first, _)| *first <= sender);
                behind.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| sender <= *last)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn network(text: &str) -> Network {
        let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
        Network::new(address.parse().unwrap(), bits.parse().unwrap()).unwrap()
    }

    fn senders(source: Option<&str>, allow: &[&str]) -> Senders {
        Senders::of(&LineConfig {
            group: Ipv4Addr::new(239, 1, 1, 1),
            port: 1,
            interface: None,
            source: source.map(|source| source.parse().unwrap()),
            allow: allow.iter().map(|text| network(text)).collect(),
            line: 0,
        })
    }

    #[test]
    fn a_network_is_its_first_address_and_a_length() {
        assert_eq!(network("10.1.2.3/16"), network("10.1.0.0/16"));
        assert_eq!(network("10.1.2.3/16").to_string(), "10.1.0.0/16");
        assert_eq!(network("10.1.2.3").to_string(), "10.1.2.3");
        assert!(network("0.0.0.0/0").contains(Ipv4Addr::BROADCAST));
        assert!(!network("10.0.0.0/31").contains(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(Network::new(Ipv4Addr::LOCALHOST, 33), None);
    }

    #[test]
    fn without_a_list_everybody_is_heard_and_a_source_is_the_only_one() {
        let hears = |senders: &Senders, who: &str| senders.include(who.parse().unwrap());
        let anybody = senders(None, &[]);
        assert!(hears(&anybody, "0.0.0.0") && hears(&anybody, "255.255.255.255"));
        let one = senders(Some("10.0.0.9"), &["10.0.0.0/8"]);
        assert!(hears(&one, "10.0.0.9") && !hears(&one, "10.0.0.8") && !hears(&one, "10.0.0.10"));
        let nobody = senders(Some("10.0.0.9"), &["11.0.0.0/8"]);
        assert!(!hears(&nobody, "10.0.0.9") && !hears(&nobody, "11.0.0.1"));
    }

    proptest! {
        /// Against each network asked on its own: neighbours, overlaps and repetitions included.
        #[test]
        fn a_list_is_all_of_its_networks(
            list in prop::collection::vec((0u32..64, 24u8..=32), 1..MAX_ALLOWED),
            high in prop::sample::select(vec![0u32, 0x0a00_0000, 0xffff_ff00]),
        ) {
            let allow: Vec<Network> =
                list.iter().map(|(low, bits)| Network::new(Ipv4Addr::from_bits(high | low), *bits).unwrap()).collect();
            let text: Vec<String> = allow.iter().map(ToString::to_string).collect();
            let senders = senders(None, &text.iter().map(String::as_str).collect::<Vec<_>>());
            for low in 0..=300 {
                let sender = Ipv4Addr::from_bits(high.wrapping_add(low));
                let expected = allow.iter().any(|network| network.contains(sender));
                prop_assert_eq!(senders.include(sender), expected, "{}", sender);
            }
        }
    }
}
