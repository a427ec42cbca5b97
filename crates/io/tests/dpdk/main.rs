//! What only DPDK does, over virtual devices: files as the wire (net_pcap), a virtual pair (net_af_packet). Needs `make
//! dpdk`: skips without, but not where CI is set.

#[path = "../paths/any.rs"]
#[allow(dead_code, reason = "the other paths' are not asked for here")]
mod any;
#[path = "../paths/net.rs"]
#[allow(dead_code, reason = "as above")]
mod net;

use any::*;
use net::*;

/// Many packets of all lengths, one by one from a sender on the same machine: all come, whole and in order.
#[test]
fn a_stream_comes_whole() {
    in_namespace(|| {
        let mut receiver = Any::open(dpdk_af_packet, &[line(0, A, "left")], &PLAIN);
        let mut right = sender("right", RIGHT, false);
        let payloads: Vec<Vec<u8>> =
            (0..20_000usize).map(|n| (0..n * 37 % 1473).map(|at| (at * 7 + n) as u8).collect()).collect();
        for batch in payloads.chunks(50) {
            send(&mut right, A, batch.iter().map(Vec::as_slice));
            let kept = receiver.take(batch.len());
            assert!(kept.iter().map(|kept| &kept.payload).eq(batch), "{:?}", receiver.counters());
        }
        assert_eq!(receiver.counters().malformed, 0);
    });
}
