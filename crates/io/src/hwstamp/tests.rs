use super::*;

fn card() -> Capabilities {
    Capabilities {
        so_timestamping: 0b101_1111,
        phc: Some(2),
        tx_types: 0b11,
        rx_filters: (1 << RxFilter::NONE.0) | (1 << RxFilter::ALL.0),
    }
}

fn config(tx_type: u32, rx_filter: RxFilter) -> Config {
    Config { flags: 0, tx_type, rx_filter }
}

fn os(error: i32) -> io::Error {
    io::Error::from_raw_os_error(error)
}

#[test]
fn only_what_must_be_changed_is_and_what_was_got_counts() {
    let not_asked = |_| -> io::Result<Config> { panic!("nothing is to be set") };
    let all = config(1, RxFilter::ALL);
    assert_eq!(decide(card(), Ok(all), not_asked), Ok(Stamping { phc: 2, before: None, now: all }));
    // ptp4l's transmit stamps and flags stay.
    let ptp4l = Config { flags: 1, ..config(1, RxFilter(12)) };
    let now = Config { flags: 1, ..all };
    assert_eq!(decide(card(), Ok(ptp4l), Ok), Ok(Stamping { phc: 2, before: Some(ptp4l), now }));
    let off = config(0, RxFilter::NONE);
    let now = config(0, RxFilter::ALL);
    assert_eq!(decide(card(), Ok(off), Ok), Ok(Stamping { phc: 2, before: Some(off), now }));
    assert_eq!(decide(card(), Err(os(libc::EOPNOTSUPP)), Ok), Ok(Stamping { phc: 2, before: None, now: all }));

    let refused = |capabilities, set: fn(Config) -> io::Result<Config>| {
        decide(capabilities, Ok(config(0, RxFilter::NONE)), set).unwrap_err().name()
    };
    assert_eq!(refused(card(), |_| Ok(config(0, RxFilter::SOME))), "filter_refused");
    assert_eq!(refused(card(), |_| Err(os(libc::EPERM))), "not_permitted");
    assert_eq!(refused(card(), |_| Err(os(libc::ERANGE))), "ptp_only");
    assert_eq!(refused(card(), |_| Err(os(libc::EBUSY))), "os");
    assert_eq!(refused(Capabilities { so_timestamping: 0b1_1010, ..card() }, not_asked), "unsupported");
    assert_eq!(refused(Capabilities { phc: None, ..card() }, not_asked), "no_phc");
    assert_eq!(refused(Capabilities { rx_filters: 1 << 12, ..card() }, not_asked), "ptp_only");
    assert!(!card().has_filter(RxFilter(32)) && !card().has_filter(RxFilter(u32::MAX)));
    assert_eq!((RxFilter(12).name(), RxFilter(16).name()), ("ptpv2-event", "unknown"));
}

/// For real: the loopback has software stamps and nothing else.
#[test]
fn the_loopback_says_that_it_has_none() {
    let found = capabilities("lo").unwrap();
    assert!(found.rx_software() && !found.rx_hardware() && !found.tx_hardware(), "{found:?}");
    assert_eq!(found.phc, None);
    assert_eq!(stamp_all("lo"), Err(NoHardwareStamps::Unsupported));
    assert!(get("lo").is_err() && set("lo", config(0, RxFilter::NONE)).is_err());
    for name in ["no-such-if0", "", "nul\0byte", "a-name-longer-than-fits"] {
        assert_eq!(capabilities(name).unwrap_err().raw_os_error(), Some(libc::ENODEV), "{name:?}");
    }
}

/// What a C compiler makes of the kernel's own headers: the number, or the size or offset, of each of these.
macro_rules! layout {
    ($($c:literal => $rust:expr),+ $(,)?) => {
        [$(($c, $rust as u64)),+]
    };
}

/// Every structure and number that goes to the kernel, byte for byte.
#[test]
fn structures_and_numbers_are_the_kernels() {
    use libc::*;
    use std::mem::{offset_of, size_of};
    let expected = layout![
        "sizeof(struct ethtool_ts_info)" => size_of::<EthtoolTsInfo>(),
        "offsetof(struct ethtool_ts_info, cmd)" => offset_of!(EthtoolTsInfo, cmd),
        "offsetof(struct ethtool_ts_info, so_timestamping)" => offset_of!(EthtoolTsInfo, so_timestamping),
        "offsetof(struct ethtool_ts_info, phc_index)" => offset_of!(EthtoolTsInfo, phc_index),
        "offsetof(struct ethtool_ts_info, tx_types)" => offset_of!(EthtoolTsInfo, tx_types),
        "offsetof(struct ethtool_ts_info, rx_filters)" => offset_of!(EthtoolTsInfo, rx_filters),
        "ETHTOOL_GET_TS_INFO" => ETHTOOL_GET_TS_INFO,
        "SIOCETHTOOL" => SIOCETHTOOL,
        "SIOCSHWTSTAMP" => SIOCSHWTSTAMP,
        "SIOCGHWTSTAMP" => SIOCGHWTSTAMP,
        "sizeof(struct hwtstamp_config)" => size_of::<hwtstamp_config>(),
        "offsetof(struct hwtstamp_config, tx_type)" => offset_of!(hwtstamp_config, tx_type),
        "offsetof(struct hwtstamp_config, rx_filter)" => offset_of!(hwtstamp_config, rx_filter),
        "sizeof(struct ifreq)" => size_of::<ifreq>(),
        "offsetof(struct ifreq, ifr_data)" => offset_of!(ifreq, ifr_ifru),
        "HWTSTAMP_FILTER_ALL" => RxFilter::ALL.0,
        "HWTSTAMP_FILTER_SOME" => RxFilter::SOME.0,
        "HWTSTAMP_FILTER_PTP_V2_EVENT" => 12,
        "HWTSTAMP_FILTER_NTP_ALL" => RxFilter::NAMES.len() - 1,
        "HWTSTAMP_TX_ON" => HWTSTAMP_TX_ON,
        "SOF_TIMESTAMPING_RX_HARDWARE" => SOF_TIMESTAMPING_RX_HARDWARE,
        "SOF_TIMESTAMPING_RX_SOFTWARE" => SOF_TIMESTAMPING_RX_SOFTWARE,
        "SOF_TIMESTAMPING_SOFTWARE" => SOF_TIMESTAMPING_SOFTWARE,
        "SOF_TIMESTAMPING_RAW_HARDWARE" => SOF_TIMESTAMPING_RAW_HARDWARE,
        "SOF_TIMESTAMPING_TX_HARDWARE" => SOF_TIMESTAMPING_TX_HARDWARE,
        "SO_TIMESTAMPING" => SO_TIMESTAMPING,
        "sizeof(struct scm_timestamping)" => 3 * size_of::<timespec>(),
        "sizeof(struct ptp_clock_time)" => size_of::<ptp_clock_time>(),
        "offsetof(struct ptp_clock_time, nsec)" => offset_of!(ptp_clock_time, nsec),
        "sizeof(struct ptp_clock_caps)" => size_of::<ptp_clock_caps>(),
        "offsetof(struct ptp_clock_caps, n_per_out)" => offset_of!(ptp_clock_caps, n_per_out),
        "offsetof(struct ptp_clock_caps, pps)" => offset_of!(ptp_clock_caps, pps),
        "offsetof(struct ptp_clock_caps, n_pins)" => offset_of!(ptp_clock_caps, n_pins),
        "offsetof(struct ptp_clock_caps, cross_timestamping)" => offset_of!(ptp_clock_caps, cross_timestamping),
        "offsetof(struct ptp_clock_caps, adjust_phase)" => offset_of!(ptp_clock_caps, adjust_phase),
        "sizeof(struct ptp_sys_offset)" => size_of::<ptp_sys_offset>(),
        "offsetof(struct ptp_sys_offset, ts)" => offset_of!(ptp_sys_offset, ts),
        "sizeof(struct ptp_sys_offset_extended)" => size_of::<ptp_sys_offset_extended>(),
        "offsetof(struct ptp_sys_offset_extended, ts)" => offset_of!(ptp_sys_offset_extended, ts),
        // Later headers call the first reserved word the clock's number.
        "offsetof(struct ptp_sys_offset_extended, n_samples) + 4" => offset_of!(ptp_sys_offset_extended, clockid),
        "sizeof(struct ptp_sys_offset_precise)" => size_of::<ptp_sys_offset_precise>(),
        "offsetof(struct ptp_sys_offset_precise, sys_realtime)" => offset_of!(ptp_sys_offset_precise, sys_realtime),
        "offsetof(struct ptp_sys_offset_precise, sys_monoraw)" => offset_of!(ptp_sys_offset_precise, sys_monoraw),
        "PTP_MAX_SAMPLES" => PTP_MAX_SAMPLES,
        "PTP_CLOCK_GETCAPS" => PTP_CLOCK_GETCAPS,
        "PTP_SYS_OFFSET" => PTP_SYS_OFFSET,
        "PTP_SYS_OFFSET_EXTENDED" => PTP_SYS_OFFSET_EXTENDED,
        "PTP_SYS_OFFSET_PRECISE" => PTP_SYS_OFFSET_PRECISE,
        "sizeof(struct timex)" => size_of::<timex>(),
        "offsetof(struct timex, offset)" => offset_of!(timex, offset),
        "offsetof(struct timex, freq)" => offset_of!(timex, freq),
        "offsetof(struct timex, maxerror)" => offset_of!(timex, maxerror),
        "offsetof(struct timex, esterror)" => offset_of!(timex, esterror),
        "offsetof(struct timex, status)" => offset_of!(timex, status),
        "offsetof(struct timex, time)" => offset_of!(timex, time),
        "offsetof(struct timex, tai)" => offset_of!(timex, tai),
        "STA_NANO" => STA_NANO,
        "STA_UNSYNC" => STA_UNSYNC,
        "TIME_INS" => TIME_INS,
        "TIME_DEL" => TIME_DEL,
        "TIME_OOP" => TIME_OOP,
    ];
    let headers = [
        "stddef.h",
        "stdio.h",
        "time.h",
        "sys/ioctl.h",
        "sys/socket.h",
        "sys/timex.h",
        "net/if.h",
        "linux/types.h",
        "linux/ethtool.h",
        "linux/sockios.h",
        "linux/net_tstamp.h",
        "linux/ptp_clock.h",
        "linux/errqueue.h",
    ];
    let mut source: String = headers.map(|header| format!("#include <{header}>\n")).concat();
    source.push_str("int main(void) {\n");
    for (c, _) in expected {
        source.push_str(&format!("printf(\"%llu\\n\", (unsigned long long)({c}));\n"));
    }
    source.push_str("return 0; }\n");
    let Some(printed) = compiled(&source) else { return };
    let printed: Vec<&str> = printed.lines().collect();
    assert_eq!(printed.len(), expected.len());
    for ((c, ours), theirs) in expected.into_iter().zip(printed) {
        assert_eq!(ours.to_string(), theirs, "{c}");
    }
}

/// What a C program prints; `None` where this machine has no compiler or no kernel headers.
fn compiled(source: &str) -> Option<String> {
    use std::process::Command;
    let folder = std::env::temp_dir().join(format!("barewire-layout-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (text, program) = (folder.join("layout.c"), folder.join("layout"));
    std::fs::write(&text, source).unwrap();
    let built = Command::new("cc").arg("-o").args([&program, &text]).output();
    let printed = match built {
        Ok(output) if output.status.success() => {
            Some(String::from_utf8(Command::new(&program).output().unwrap().stdout).unwrap())
        }
        other => {
            let said = other.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
            assert!(std::env::var_os("CI").is_none(), "{said:?}");
            eprintln!("skipped: no C compiler with the kernel's headers: {said:?}");
            None
        }
    };
    std::fs::remove_dir_all(&folder).unwrap();
    printed
}
