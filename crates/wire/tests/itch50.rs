//! Messages of every type: hand-made bytes, their structs built from values, and arbitrary bytes.

use barewire_types::Layout;
use barewire_wire::itch50::*;
use barewire_wire::{U48, Value, value};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{U16, U32, U64};

/// Pairs of bytes in hexadecimal and what they say.
const GOLDEN: &str = include_str!("itch50_golden.txt");

fn golden() -> Vec<(Vec<u8>, &'static str)> {
    let lines: Vec<&str> = GOLDEN.lines().filter(|line| !line.starts_with('#')).collect();
    let bytes =
        |hex: &str| (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    lines.as_chunks().0.iter().map(|[hex, text]| (bytes(hex), text.trim_start())).collect()
}

#[test]
fn hand_made_messages_say_what_they_should() {
    let golden = golden();
    for spec in SPEC.messages {
        assert_eq!(golden.iter().filter(|(bytes, _)| bytes[0] == spec.type_code).count(), 1, "{}", spec.name);
    }
    for (bytes, text) in golden {
        let message = Message::parse(&bytes).unwrap();
        // Empty text at the end of a line is nothing.
        assert_eq!(message.to_string().trim_end(), text);
        assert_eq!(message.as_bytes(), bytes);
        assert_eq!(message.spec(), spec(bytes[0]).unwrap());
    }
}

/// A field's value, taken out and put in again.
trait Again: Copy {
    fn again(self) -> Self;
}

macro_rules! again {
    ($($ty:ty),+) => { $( impl Again for $ty { fn again(self) -> Self { <$ty>::new(self.get()) } } )+ };
}
again!(U16, U32, U64, U48);

impl Again for u8 {
    fn again(self) -> u8 {
        self
    }
}

impl<const N: usize> Again for [u8; N] {
    fn again(self) -> Self {
        self.map(|byte| byte)
    }
}

/// Builds each message from the values of another. The literals name every field: one more would not compile.
macro_rules! rebuild {
    ($($name:ident $locate:ident { $($field:ident),* })+) => {
        fn rebuild(message: Message<'_>) -> Vec<u8> {
            match message {
                $( Message::$name(m) => $name {
                    message_type: $name::TYPE,
                    $locate: m.$locate.again(),
                    tracking_number: m.tracking_number.again(),
                    timestamp: m.timestamp.again(),
                    $( $field: m.$field.again(), )*
                }.as_bytes().to_vec(), )+
            }
        }
    };
}

rebuild! {
    SystemEvent stock_locate { event_code }
    StockDirectory stock_locate {
        stock, market_category, financial_status_indicator, round_lot_size, round_lots_only, issue_classification,
        issue_sub_type, authenticity, short_sale_threshold_indicator, ipo_flag, luld_reference_price_tier, etp_flag,
        etp_leverage_factor, inverse_indicator
    }
    StockTradingAction stock_locate { stock, trading_state, reserved, reason_code }
    RegSho locate_code { stock, reg_sho_action }
    MarketParticipantPosition stock_locate {
        mpid, stock, primary_market_maker, market_maker_mode, market_participant_state
    }
    MwcbDeclineLevel stock_locate { level_1, level_2, level_3 }
    MwcbStatus stock_locate { breached_level }
    IpoQuotingPeriod stock_locate {
        stock, ipo_quotation_release_time, ipo_quotation_release_qualifier, ipo_price
    }
    LuldAuctionCollar stock_locate {
        stock, auction_collar_reference_price, upper_auction_collar_price, lower_auction_collar_price,
        auction_collar_extension
    }
    OperationalHalt stock_locate { stock, market_code, operational_halt_action }
    AddOrder stock_locate { order_reference_number, buy_sell_indicator, shares, stock, price }
    AddOrderMpid stock_locate { order_reference_number, buy_sell_indicator, shares, stock, price, attribution }
    OrderExecuted stock_locate { order_reference_number, executed_shares, match_number }
    OrderExecutedWithPrice stock_locate {
        order_reference_number, executed_shares, match_number, printable, execution_price
    }
    OrderCancel stock_locate { order_reference_number, canceled_shares }
    OrderDelete stock_locate { order_reference_number }
    OrderReplace stock_locate { original_order_reference_number, new_order_reference_number, shares, price }
    NonCrossTrade stock_locate { order_reference_number, buy_sell_indicator, shares, stock, price, match_number }
    CrossTrade stock_locate { cross_shares, stock, cross_price, match_number, cross_type }
    BrokenTrade stock_locate { match_number }
    NetOrderImbalance stock_locate {
        paired_shares, imbalance_shares, imbalance_direction, stock, far_price, near_price, current_reference_price,
        cross_type, price_variation_indicator
    }
    RetailPriceImprovement stock_locate { stock, interest_flag }
    DirectListing stock_locate {
        stock, open_eligibility_status, minimum_allowable_price, maximum_allowable_price, near_execution_price,
        near_execution_time, lower_price_range_collar, upper_price_range_collar
    }
}

/// Writes each value where its row of the table has it: the encoding without the structs.
fn rebuild_by_table(bytes: &[u8]) -> Vec<u8> {
    let spec = spec(bytes[0]).unwrap();
    let mut out = vec![0; spec.len];
    for field in spec.fields {
        let to = &mut out[field.offset..field.offset + field.len];
        match value(field, bytes).unwrap() {
            Value::Uint(value) => to.copy_from_slice(&value.to_be_bytes()[8 - field.len..]),
            Value::Text(text) => {
                to.fill(b' ');
                to[..text.len()].copy_from_slice(text);
            }
            Value::Bytes(bytes) => to.copy_from_slice(bytes),
            other => panic!("{other:?}"),
        }
    }
    out
}

/// Any bytes behind the code of a type that there is, in that type's length.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    select(SPEC.messages).prop_flat_map(|spec| {
        vec(any::<u8>(), spec.len).prop_map(move |mut bytes| {
            bytes[0] = spec.type_code;
            bytes
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn every_message_comes_back(bytes in messages()) {
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.as_bytes(), &bytes);
        prop_assert_eq!(rebuild(message), &bytes[..]);
        prop_assert_eq!(rebuild_by_table(&bytes), &bytes[..]);
        prop_assert_eq!(message.to_string().matches('=').count() >= message.spec().fields.len() - 1, true);
    }

    #[test]
    fn the_prefix_is_every_messages(bytes in messages()) {
        let fields = spec(bytes[0]).unwrap().fields;
        let uint = |row: usize| match value(&fields[row], &bytes) { Some(Value::Uint(value)) => value, _ => panic!() };
        let prefix = Prefix::of(&bytes).unwrap();
        prop_assert_eq!(prefix.message_type, bytes[0]);
        prop_assert_eq!(u64::from(prefix.stock_locate.get()), uint(1));
        prop_assert_eq!(locate(&bytes).map(u64::from), Some(uint(1)));
        prop_assert_eq!(u64::from(prefix.tracking_number.get()), uint(2));
        prop_assert_eq!(prefix.timestamp.get(), uint(3));
        prop_assert_eq!(prefix.timestamp_ns(), uint(3));
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in vec(any::<u8>(), 0..60)) {
        let expected = match bytes.first() {
            None => Err(ItchError::Empty),
            Some(&code) => match SPEC.message(code) {
                None => Err(ItchError::UnknownType(code)),
                Some(spec) if spec.len != bytes.len() =>
                    Err(ItchError::BadLength { type_code: code, expected: spec.len, found: bytes.len() }),
                Some(_) => Ok(&bytes[..]),
            },
        };
        prop_assert_eq!(Message::parse(&bytes).map(|message| message.as_bytes()), expected);
    }

    #[test]
    fn prices_keep_their_value(raw in any::<u32>(), raw8 in any::<u64>()) {
        prop_assert_eq!(i128::from(price4(raw).0) * 10_000, i128::from(raw) * 1_000_000_000);
        prop_assert_eq!(to_price4(price4(raw)), (raw <= MAX_PRICE4).then_some(raw));
        prop_assert_eq!(to_price4(barewire_types::Price(price4(raw).0 + 1)), None);
        let price = price8(raw8);
        prop_assert_eq!(price.is_defined(), raw8 <= i64::MAX as u64 / 10);
        prop_assert!(!price.is_defined() || i128::from(price.0) == i128::from(raw8) * 10);
    }
}

#[test]
fn one_byte_more_or_less_is_refused() {
    for (mut bytes, _) in golden() {
        let (type_code, expected) = (bytes[0], bytes.len());
        bytes.push(0);
        for found in (1..expected).chain([expected + 1]) {
            let error = ItchError::BadLength { type_code, expected, found };
            assert_eq!(Message::parse(&bytes[..found]), Err(error));
            assert_eq!(error.name(), "bad_length");
        }
    }
}

#[test]
fn errors_say_what_was_found() {
    let error = Message::parse(&[0xff, 1]).unwrap_err();
    assert_eq!((error.name(), error.to_string().as_str()), ("unknown_type", "unknown message type '\\xff'"));
    let error = Message::parse(b"S").unwrap_err();
    assert_eq!(error.to_string(), "message type 'S' has 12 bytes, found 1");
    assert_eq!(Message::parse(b"").unwrap_err().name(), "empty");
}

/// A message is aligned to nothing: it may begin at any byte of a packet.
#[test]
fn layouts_have_no_alignment() {
    assert_eq!((align_of::<AddOrder>(), AddOrder::LEN), (1, 36));
    let (bytes, text) = golden().into_iter().find(|(bytes, _)| bytes[0] == AddOrder::TYPE).unwrap();
    for shift in 0..8 {
        let shifted = [vec![0; shift], bytes.clone()].concat();
        assert_eq!(Message::parse(&shifted[shift..]).unwrap().to_string(), text);
    }
}

/// A code that no edition has, text that is no text: decoded, shown, and nothing else.
#[test]
fn unknown_codes_decode() {
    let (mut bytes, _) = golden().into_iter().find(|(bytes, _)| bytes[0] == AddOrder::TYPE).unwrap();
    bytes[19] = b'?';
    bytes[24..32].copy_from_slice(b"\0A\xff\n\"\\  ");
    let text = Message::parse(&bytes).unwrap().to_string();
    assert!(text.contains("buy_sell_indicator=? "), "{text}");
    assert!(text.contains(r#"stock=\x00A\xff\n\"\\ price"#), "{text}");
    assert_eq!(SPEC.meaning("buy_sell_indicator", b"?"), None);
}
