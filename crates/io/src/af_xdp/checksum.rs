//! UDP checksums that no card has finished.
//!
//! A sender on this machine leaves it to the card to sum up its packet: the checksum field then holds the sum over the
//! pseudo-header alone (the kernel's CHECKSUM_PARTIAL). Over veth, to a container or from a virtual machine, no card ever
//! comes, and a socket would be told so beside the packet; a frame by AF_XDP comes with nothing beside it. So a field that
//! holds just that sum passes for unfinished. On a wire it would have to be damage that chance made look so, once in
//! 65,536 damaged packets that the Ethernet checksum let by: as often as a sum comes out right by chance.

/// Whether the UDP checksum of a frame, if it holds a UDP packet, covers no more than the pseudo-header.
#[inline]
pub(crate) fn is_unfinished(frame: &[u8]) -> bool {
    covers_pseudo_header_only(frame).unwrap_or(false)
}

#[inline]
fn covers_pseudo_header_only(frame: &[u8]) -> Option<bool> {
    let packet = match frame.get(12..14)? {
        [0x08, 0x00] => frame.get(14..)?,
        [0x81, 0x00] | [0x88, 0xa8] => frame.get(18..)?,
        _ => return None,
    };
    let header = packet.first_chunk::<20>()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let udp = packet.get(header_len..)?.first_chunk::<8>()?;
    let half = |bytes: &[u8]| bytes.iter().fold(0, |sum: u32, byte| sum << 8 | u32::from(*byte));
    let [_, _, _, _, _, _, _, _, _, protocol, _, _, addresses @ ..] = header;
    let addresses: u32 = addresses.chunks(2).map(half).sum();
    let sum = addresses + u32::from(*protocol) + half(&udp[4..6]);
    // Six numbers of 16 bits: two rounds take in all carries.
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    Some(sum == half(&udp[6..8]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use barewire_wire::frame;
    use std::net::{Ipv4Addr, SocketAddrV4};

    fn frame(vlan: Option<u16>, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 256];
        let address = |last, port| SocketAddrV4::new(Ipv4Addr::new(239, 255, 254, last), port);
        let len = frame::encode(&mut out, vlan, address(1, 65_535), address(2, 65_534), payload).unwrap();
        out.truncate(len);
        out
    }

    /// The sum over the pseudo-header, slowly (RFC 768, RFC 1071).
    fn pseudo_header_sum(ip: &[u8]) -> u16 {
        let mut words: Vec<u16> = ip[12..20].chunks(2).map(|half| u16::from_be_bytes([half[0], half[1]])).collect();
        words.extend([17, u16::from_be_bytes([ip[24], ip[25]])]);
        words.into_iter().fold(0, |sum: u16, word| {
            let (sum, carry) = sum.overflowing_add(word);
            sum + u16::from(carry)
        })
    }

    #[test]
    fn only_the_pseudo_headers_sum_passes_for_unfinished() {
        for (vlan, ip) in [(None, 14), (Some(5), 18)] {
            let mut frame = frame(vlan, b"a payload");
            assert!(!is_unfinished(&frame));
            let sum = pseudo_header_sum(&frame[ip..]);
            frame[ip + 26..ip + 28].copy_from_slice(&sum.to_be_bytes());
            assert!(is_unfinished(&frame));
            frame[ip + 26..ip + 28].copy_from_slice(&(sum ^ 1).to_be_bytes());
            assert!(!is_unfinished(&frame));
            assert!((0..frame.len()).all(|cut| cut > ip + 27 || !is_unfinished(&frame[..cut])));
        }
    }
}
