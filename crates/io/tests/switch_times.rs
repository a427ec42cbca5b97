//! Receive times of a capture switch, in frames that one has written.

use std::path::PathBuf;

use barewire_io::capture::{Capture, SwitchClock, SwitchTimes};
use barewire_wire::trailers::{Kind, StampError};

/// Where real captures lie; they are not ours to ship.
fn captures() -> PathBuf {
    std::env::var_os("BAREWIRE_CAPTURES")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/captures")), PathBuf::from)
}

/// 111 frames by way of a Metamako switch, 73 of them UDP. The values were unpacked from the file by hand, by the bytes'
/// place behind the IP packet.
#[test]
fn metamakos_own_capture() {
    let path = captures().join("trailers/metamako_trailer.pcap");
    if !path.exists() {
        eprintln!("skipped: no {} (set BAREWIRE_CAPTURES)", path.display());
        return;
    }
    for times in [SwitchTimes::Of(Kind::Metamako), SwitchTimes::Auto] {
        let mut capture = Capture::open(&path).unwrap();
        let mut clock = SwitchClock::new(times);
        let (mut found, mut frames) = (Vec::new(), 0);
        while let Some(frame) = capture.next_frame().unwrap() {
            frames += 1;
            match clock.time(&frame) {
                Ok(time) => {
                    assert!(!time.degraded && !time.corrected && frame.datagram().is_ok());
                    // The capture's own times are the same, cut to microseconds.
                    assert!(time.ts.0.abs_diff(frame.ts.0) < 1_000);
                    found.push(time.ts.0);
                }
                // Echo requests: only UDP is looked at.
                Err(error) => assert_eq!((error, frame.datagram().is_ok()), (StampError::Missing, false)),
            }
        }
        assert_eq!((frames, found.len()), (111, 73));
        assert_eq!(found[..2], [1_454_635_868_495_676_994, 1_454_635_868_497_343_063]);
        assert_eq!(found.iter().map(|ts| u128::from(*ts)).sum::<u128>(), 106_188_419_364_534_142_455);
    }
    // Another kind's are not found in them.
    for kind in [Kind::Exablaze, Kind::Arista7280] {
        let mut capture = Capture::open(&path).unwrap();
        let mut clock = SwitchClock::new(SwitchTimes::Of(kind));
        while let Some(frame) = capture.next_frame().unwrap() {
            assert!(clock.time(&frame).is_err());
        }
    }
}
