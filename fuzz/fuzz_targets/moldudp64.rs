//! Any bytes as a MoldUDP64 packet and as a request.
#![no_main]

use barewire_wire::moldudp64::{
    BLOCK_HEADER_LEN, Builder, HEADER_LEN, MoldError, Packet, PacketKind, Request, end_of_session,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = Request::parse(bytes) {
        assert_eq!(request.encode(), bytes);
    }
    let packet = match Packet::parse(bytes) {
        Ok(packet) => packet,
        Err(error) => return assert_eq!(error == MoldError::Truncated, bytes.len() < HEADER_LEN),
    };
    let messages: Vec<&[u8]> = packet.messages().collect();
    assert_eq!(messages.len(), packet.whole().into());
    assert_eq!(messages.len(), packet.messages().len());
    assert_eq!(packet.next_sequence().0, packet.sequence().0 + messages.len() as u64);
    let blocks: usize = messages.iter().map(|message| BLOCK_HEADER_LEN + message.len()).sum();
    assert_eq!(HEADER_LEN + blocks + packet.trailing().len(), bytes.len());
    assert!(bytes.ends_with(packet.trailing()));

    let declared = if packet.kind() == PacketKind::Messages { packet.declared() } else { 0 };
    assert!(packet.whole() <= declared);
    assert_eq!(packet.is_damaged(), packet.whole() < declared || !packet.trailing().is_empty());
    // Where a block is missing, what is left over is not a whole one.
    if packet.whole() < declared
        && let Some((len, rest)) = packet.trailing().split_first_chunk()
    {
        assert!(rest.len() < usize::from(u16::from_be_bytes(*len)));
    }

    let mut out = vec![0; HEADER_LEN + blocks];
    let mut builder = Builder::new(&mut out, packet.session(), packet.sequence());
    for message in &messages {
        builder.push(message.len()).unwrap().copy_from_slice(message);
    }
    assert!(builder.push(0).is_none());
    assert_eq!(builder.finish(), out.len());
    assert!(Packet::parse(&out).unwrap().messages().eq(messages));
    if packet.kind() == PacketKind::EndOfSession {
        out = end_of_session(packet.session(), packet.sequence()).to_vec();
    }
    if !packet.is_damaged() {
        assert_eq!(out, bytes);
    }
    assert!(packet.to_string().starts_with("session="));
});
