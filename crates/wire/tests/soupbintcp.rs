//! SoupBinTCP packets and GLIMPSE's end: hand-made ones, whole streams cut anywhere, and any bytes.

use barewire_types::{Layout, Seq};
use barewire_wire::glimpse50::{self, GlimpseError};
use barewire_wire::soupbintcp::*;
use proptest::collection::vec;
use proptest::prelude::*;

const SESSION: Session = Session(*b"000010059B");

const LOGIN: LoginRequest =
    LoginRequest { username: *b"user  ", password: *b"pass word ", session: CURRENT_SESSION, sequence: Seq(1) };

/// The one packet that the bytes are.
fn whole(bytes: &[u8]) -> Frame<'_> {
    match step(bytes) {
        Step::Packet { frame, rest: [] } => frame,
        other => panic!("{other:?}"),
    }
}

/// Every packet, as bytes written by hand from the document, as what it says, and as text.
#[test]
fn hand_made_packets() {
    let mut out = [0; 16];
    let mut encoded = |encode: fn(&mut [u8], &[u8]) -> Option<usize>, payload: &[u8]| {
        let len = encode(&mut out, payload).expect("room");
        out[..len].to_vec()
    };
    let accepted = Packet::LoginAccepted { session: SESSION, next: Seq(4_711) };
    for (encoded, bytes, packet, text) in [
        (encoded(debug, b"hi\n"), &b"\0\x04+hi\n"[..], Packet::Debug(b"hi\n"), r"debug text=hi\n"),
        (
            LOGIN.encode().to_vec(),
            concat!("\0\x2fL", "user  ", "pass word ", "          ", "                   1").as_bytes(),
            Packet::LoginRequest(LOGIN),
            "login_request username=user session= sequence=1",
        ),
        (
            login_accepted(SESSION, Seq(4_711)).to_vec(),
            b"\0\x1fA000010059B                4711",
            accepted,
            "login_accepted session=000010059B sequence=4711",
        ),
        (login_rejected(NOT_AUTHORIZED).to_vec(), b"\0\x02JA", Packet::LoginRejected(b'A'), "login_rejected reason=A"),
        (encoded(sequenced, b"abc"), b"\0\x04Sabc", Packet::Sequenced(b"abc"), "sequenced bytes=3"),
        (encoded(unsequenced, b""), b"\0\x01U", Packet::Unsequenced(b""), "unsequenced bytes=0"),
        (SERVER_HEARTBEAT.to_vec(), b"\0\x01H", Packet::ServerHeartbeat, "server_heartbeat"),
        (CLIENT_HEARTBEAT.to_vec(), b"\0\x01R", Packet::ClientHeartbeat, "client_heartbeat"),
        (END_OF_SESSION.to_vec(), b"\0\x01Z", Packet::EndOfSession, "end_of_session"),
        (LOGOUT_REQUEST.to_vec(), b"\0\x01O", Packet::LogoutRequest, "logout_request"),
    ] {
        assert_eq!(encoded, bytes);
        assert_eq!(whole(bytes).parse(), Ok(packet));
        assert_eq!(packet.to_string(), text);
        assert!(SPEC.meaning("packet_type", &bytes[2..3]).is_some());
    }
    assert_eq!(sequenced_header(3), Some([0, 4, b'S']));
    assert_eq!(
        [Header::LEN, LoginRequestPacket::LEN, LoginAcceptedPacket::LEN, LoginRejectedPacket::LEN],
        [3, 49, 33, 4]
    );
}

#[test]
fn what_is_refused() {
    assert_eq!(step(b"\0\0S"), Step::Broken);
    for (bytes, error) in [
        (&b"\0\x01?"[..], SoupError::UnknownType(b'?')),
        (b"\0\x02H!", SoupError::BadLength),
        (b"\0\x02R!", SoupError::BadLength),
        (b"\0\x02Z!", SoupError::BadLength),
        (b"\0\x02O!", SoupError::BadLength),
        (b"\0\x01J", SoupError::BadLength),
        (b"\0\x03JAS", SoupError::BadLength),
        (b"\0\x05A0000", SoupError::BadLength),
        (b"\0\x20A000010059B                 4711", SoupError::BadLength),
        (b"\0\x1fA000010059B                47x1", SoupError::BadNumber),
        (b"\0\x1fA000010059B                    ", SoupError::BadNumber),
        // Version 4.00 adds five digits.
        (
            concat!("\0\x34L", "user  ", "pass word ", "          ", "                   1", "01000").as_bytes(),
            SoupError::BadLength,
        ),
        (
            concat!("\0\x2fL", "user  ", "pass word ", "          ", "                  -1").as_bytes(),
            SoupError::BadNumber,
        ),
    ] {
        assert_eq!(whole(bytes).parse(), Err(error), "{bytes:?}");
        assert!(!error.name().is_empty() && !error.to_string().is_empty());
    }
    let mut out = vec![7; 70_000];
    assert_eq!(sequenced(&mut out, &[0; MAX_PAYLOAD_LEN + 1]), None);
    assert_eq!(sequenced(&mut out[..5], b"abc"), None);
    assert!(out.iter().all(|byte| *byte == 7));
    assert_eq!(sequenced(&mut out, &[0; MAX_PAYLOAD_LEN]), Some(MAX_PACKET_LEN));
    assert_eq!(whole(&out[..MAX_PACKET_LEN]).payload.len(), MAX_PAYLOAD_LEN);
}

#[test]
fn numbers_and_text_are_padded() {
    assert_eq!(ascii(0), *b"                   0");
    assert_eq!(ascii(u64::MAX), *b"18446744073709551615");
    assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
    for (text, expected) in [
        (&b"18446744073709551616"[..], None),
        (b"99999999999999999999", None),
        (b"00000000000000000007", Some(7)),
        (b"7                   ", Some(7)),
        (b"               7 7  ", None),
        (b"                  +7", None),
        (b"                 7\0 ", None),
        (b"                  7\n", None),
        (b"", None),
    ] {
        assert_eq!(number(text), expected, "{text:?}");
    }
    assert_eq!(padded("user"), Some(*b"user  "));
    assert_eq!(padded("user12"), Some(*b"user12"));
    assert_eq!(padded(""), Some([b' '; 6]));
    assert_eq!(["user123", "us\0r", "b\u{e4}r"].map(padded::<6>), [None; 3]);
}

#[test]
fn the_end_of_a_snapshot() {
    use glimpse50::{END_LEN, Message, end_of_snapshot};
    assert_eq!(end_of_snapshot(Seq(29_633)), *b"G               29633");
    assert_eq!(END_LEN, 21);
    assert_eq!(Message::parse(b"G               29633"), Ok(Message::End(Seq(29_633))));
    assert_eq!(Message::parse(b"Sanything"), Ok(Message::Itch(b"Sanything")));
    for (bytes, error) in [
        (&b""[..], GlimpseError::Empty),
        (b"G", GlimpseError::BadLength),
        (b"G               29633 ", GlimpseError::BadLength),
        (b"G                    ", GlimpseError::BadNumber),
        (b"G                 -10", GlimpseError::BadNumber),
        (b"G99999999999999999999", GlimpseError::BadNumber),
    ] {
        assert_eq!(Message::parse(bytes), Err(error), "{bytes:?}");
        assert!(!error.name().is_empty() && !error.to_string().is_empty());
    }
}

proptest! {
    /// However a stream is cut, the same packets come, and no byte is lost or read twice.
    #[test]
    fn packets_come_back_however_they_are_cut(
        payloads in vec((0..3usize, vec(any::<u8>(), 0..70)), 0..20),
        cuts in vec(1..90usize, 1..20),
    ) {
        let encoders = [sequenced, unsequenced, debug];
        let mut stream = Vec::new();
        for (kind, payload) in &payloads {
            let mut out = [0; 80];
            let len = encoders[*kind](&mut out, payload).unwrap();
            stream.extend_from_slice(&out[..len]);
        }
        let (mut buffer, mut found, mut at) = (Vec::new(), Vec::new(), 0);
        for cut in cuts.iter().cycle() {
            let end = stream.len().min(at + cut);
            buffer.extend_from_slice(&stream[at..end]);
            at = end;
            let mut rest = &buffer[..];
            while let Step::Packet { frame, rest: behind } = step(rest) {
                found.push(match frame.parse().unwrap() {
                    Packet::Sequenced(payload) => (0, payload.to_vec()),
                    Packet::Unsequenced(payload) => (1, payload.to_vec()),
                    Packet::Debug(payload) => (2, payload.to_vec()),
                    other => panic!("{other}"),
                });
                rest = behind;
            }
            prop_assert_eq!(step(rest), Step::NeedMore);
            buffer = rest.to_vec();
            if at == stream.len() {
                break;
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(found, payloads);
    }

    #[test]
    fn logins_come_back(
        username in any::<[u8; 6]>(), password in any::<[u8; 10]>(), session in any::<[u8; 10]>(), sequence in any::<u64>(),
    ) {
        let login = LoginRequest { username, password, session: Session(session), sequence: Seq(sequence) };
        let request = login.encode();
        prop_assert_eq!(whole(&request).parse(), Ok(Packet::LoginRequest(login)));
        let accepted = login_accepted(Session(session), Seq(sequence));
        let expected = Packet::LoginAccepted { session: Session(session), next: Seq(sequence) };
        prop_assert_eq!(whole(&accepted).parse(), Ok(expected));
        let end = glimpse50::end_of_snapshot(Seq(sequence));
        prop_assert_eq!(glimpse50::Message::parse(&end), Ok(glimpse50::Message::End(Seq(sequence))));
    }

    /// A number is one exactly if the standard library, told what padding is, reads it so.
    #[test]
    fn numbers_are_what_the_standard_library_reads(text in "[ ]{0,3}[0-9]{0,21}[ +x]{0,1}") {
        let expected = match text.trim() {
            signed if signed.contains('+') => None,
            text => text.parse().ok(),
        };
        prop_assert_eq!(number(text.as_bytes()), expected);
    }
}
