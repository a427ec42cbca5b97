//! Which instruments are listed: their symbols, and what tells them apart.

/// What moves together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Sector {
    Technology,
    Communication,
    Consumer,
    Health,
    Finance,
    Industry,
    Energy,
    /// Funds on the whole market: no sector of their own moves them.
    Market,
}

/// How many sectors there are.
pub(super) const SECTORS: usize = 8;

use Sector::{Communication, Consumer, Energy, Finance, Health, Industry, Market, Technology};

/// One listed instrument.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listing {
    /// Padded with spaces on the right.
    pub(super) symbol: [u8; 8],
    /// Usual price in cents.
    pub(super) cents: u32,
    pub(super) sector: Sector,
    /// What a move of the market does to the price, in percent of it; negative for inverse funds.
    pub(super) beta: i32,
    /// How much the price moves by itself, in percent of how much the market moves.
    pub(super) own: i64,
    /// Whether it is an exchange-traded product.
    pub(super) fund: bool,
}

/// Symbol, usual price in dollars, sector, beta in percent. The first ones trade most.
const WELL_KNOWN: &[(&str, u32, Sector, i32)] = &[
    ("AAPL", 190, Technology, 115),
    ("MSFT", 410, Technology, 105),
    ("NVDA", 125, Technology, 175),
    ("TSLA", 240, Consumer, 190),
    ("AMZN", 180, Consumer, 125),
    ("QQQ", 470, Technology, 115),
    ("SPY", 540, Market, 100),
    ("META", 500, Communication, 130),
    ("GOOGL", 165, Communication, 110),
    ("GOOG", 166, Communication, 110),
    ("AMD", 155, Technology, 170),
    ("INTC", 31, Technology, 110),
    ("AVGO", 160, Technology, 140),
    ("TQQQ", 72, Technology, 345),
    ("SQQQ", 9, Technology, -345),
    ("MU", 105, Technology, 145),
    ("CSCO", 48, Technology, 85),
    ("NFLX", 650, Communication, 120),
    ("SMCI", 60, Technology, 190),
    ("PLTR", 28, Technology, 180),
    ("SOFI", 7, Finance, 175),
    ("MARA", 19, Finance, 230),
    ("COIN", 220, Finance, 240),
    ("QCOM", 175, Technology, 130),
    ("AMAT", 205, Technology, 145),
    ("LRCX", 90, Technology, 150),
    ("TXN", 195, Technology, 100),
    ("ADBE", 540, Technology, 115),
    ("CRM", 250, Technology, 110),
    ("ORCL", 140, Technology, 100),
    ("PYPL", 65, Finance, 135),
    ("SBUX", 80, Consumer, 95),
    ("PEP", 168, Consumer, 55),
    ("KO", 63, Consumer, 55),
    ("COST", 850, Consumer, 80),
    ("WMT", 68, Consumer, 55),
    ("TGT", 147, Consumer, 90),
    ("HD", 350, Consumer, 95),
    ("LOW", 225, Consumer, 100),
    ("MCD", 258, Consumer, 65),
    ("NKE", 74, Consumer, 100),
    ("DIS", 98, Communication, 110),
    ("CMCSA", 39, Communication, 80),
    ("TMUS", 180, Communication, 60),
    ("VZ", 41, Communication, 50),
    ("T", 19, Communication, 60),
    ("JPM", 205, Finance, 105),
    ("BAC", 40, Finance, 115),
    ("WFC", 59, Finance, 110),
    ("C", 63, Finance, 125),
    ("GS", 470, Finance, 120),
    ("MS", 100, Finance, 120),
    ("SCHW", 70, Finance, 110),
    ("BLK", 800, Finance, 115),
    ("V", 270, Finance, 90),
    ("MA", 450, Finance, 95),
    ("AXP", 235, Finance, 110),
    ("BRK.B", 415, Finance, 75),
    ("XOM", 114, Energy, 85),
    ("CVX", 157, Energy, 85),
    ("COP", 112, Energy, 100),
    ("SLB", 46, Energy, 115),
    ("OXY", 62, Energy, 120),
    ("KMI", 20, Energy, 80),
    ("JNJ", 147, Health, 50),
    ("PFE", 28, Health, 60),
    ("MRK", 128, Health, 50),
    ("ABBV", 172, Health, 60),
    ("LLY", 880, Health, 75),
    ("UNH", 500, Health, 60),
    ("BMY", 41, Health, 50),
    ("AMGN", 315, Health, 60),
    ("GILD", 68, Health, 55),
    ("VRTX", 475, Health, 65),
    ("REGN", 1050, Health, 60),
    ("MRNA", 120, Health, 140),
    ("BIIB", 228, Health, 70),
    ("ISRG", 430, Health, 110),
    ("TMO", 560, Health, 80),
    ("ABT", 104, Health, 70),
    ("MDT", 80, Health, 70),
    ("CVS", 60, Health, 70),
    ("CAT", 330, Industry, 115),
    ("DE", 375, Industry, 95),
    ("BA", 182, Industry, 130),
    ("GE", 160, Industry, 115),
    ("HON", 210, Industry, 90),
    ("UNP", 225, Industry, 90),
    ("UPS", 137, Industry, 90),
    ("FDX", 255, Industry, 105),
    ("LMT", 465, Industry, 50),
    ("RTX", 103, Industry, 75),
    ("MMM", 102, Industry, 90),
    ("AAL", 11, Industry, 145),
    ("UAL", 50, Industry, 140),
    ("DAL", 50, Industry, 125),
    ("F", 12, Consumer, 120),
    ("GM", 47, Consumer, 125),
    ("RIVN", 12, Consumer, 185),
    ("LCID", 3, Consumer, 180),
    ("NIO", 4, Consumer, 160),
    ("IWM", 205, Market, 115),
    ("DIA", 390, Market, 88),
    ("VOO", 496, Market, 100),
    ("IVV", 543, Market, 100),
    ("VTI", 265, Market, 102),
    ("XLF", 42, Finance, 95),
    ("XLE", 91, Energy, 90),
    ("XLK", 222, Technology, 120),
    ("XLV", 146, Health, 62),
    ("XLI", 122, Industry, 98),
    ("XLY", 180, Consumer, 115),
    ("SOXL", 50, Technology, 480),
    ("SOXS", 25, Technology, -480),
    ("ARKK", 44, Technology, 170),
    ("PDD", 140, Consumer, 120),
    ("JD", 28, Consumer, 105),
    ("BABA", 75, Consumer, 100),
    ("BIDU", 90, Technology, 105),
    ("ASML", 1000, Technology, 145),
    ("TSM", 172, Technology, 135),
    ("ARM", 150, Technology, 190),
    ("MRVL", 70, Technology, 155),
    ("ON", 72, Technology, 160),
    ("NXPI", 265, Technology, 135),
    ("ADI", 230, Technology, 115),
    ("KLAC", 820, Technology, 145),
    ("SNPS", 590, Technology, 120),
    ("CDNS", 305, Technology, 120),
    ("PANW", 320, Technology, 120),
    ("CRWD", 380, Technology, 135),
    ("FTNT", 60, Technology, 120),
    ("ZS", 190, Technology, 130),
    ("OKTA", 92, Technology, 125),
    ("DDOG", 125, Technology, 135),
    ("NET", 80, Technology, 145),
    ("SNOW", 130, Technology, 150),
    ("MDB", 250, Technology, 150),
    ("TEAM", 175, Technology, 135),
    ("WDAY", 225, Technology, 120),
    ("NOW", 770, Technology, 120),
    ("INTU", 650, Technology, 115),
    ("ADSK", 245, Technology, 120),
    ("SHOP", 66, Technology, 170),
    ("SQ", 65, Finance, 175),
    ("HOOD", 22, Finance, 180),
    ("AFRM", 30, Finance, 220),
    ("UPST", 25, Finance, 220),
    ("ABNB", 150, Consumer, 125),
    ("BKNG", 3900, Consumer, 115),
    ("UBER", 72, Industry, 125),
    ("LYFT", 14, Industry, 150),
    ("DASH", 115, Consumer, 140),
    ("ROKU", 60, Communication, 165),
    ("SPOT", 315, Communication, 130),
    ("PINS", 42, Communication, 125),
    ("SNAP", 16, Communication, 150),
    ("EA", 138, Communication, 70),
    ("TTWO", 155, Communication, 80),
    ("WBD", 7, Communication, 120),
    ("CHTR", 295, Communication, 90),
    ("SIRI", 3, Communication, 90),
    ("MNST", 50, Consumer, 65),
    ("KDP", 33, Consumer, 55),
    ("MDLZ", 66, Consumer, 55),
    ("KHC", 33, Consumer, 50),
    ("ROST", 146, Consumer, 95),
    ("LULU", 310, Consumer, 110),
    ("ORLY", 1050, Consumer, 75),
    ("MAR", 240, Consumer, 105),
    ("CTAS", 700, Industry, 95),
    ("PAYX", 119, Industry, 85),
    ("ADP", 240, Industry, 80),
    ("CSX", 33, Industry, 90),
    ("ODFL", 180, Industry, 110),
    ("PCAR", 105, Industry, 95),
    ("FAST", 64, Industry, 95),
    ("VRSK", 270, Industry, 75),
    ("CPRT", 54, Industry, 90),
    ("EXC", 35, Energy, 55),
    ("AEP", 88, Energy, 50),
    ("XEL", 54, Energy, 45),
    ("CEG", 215, Energy, 90),
    ("FANG", 195, Energy, 110),
    ("BKR", 34, Energy, 105),
    ("DXCM", 112, Health, 110),
    ("IDXX", 490, Health, 110),
    ("ILMN", 105, Health, 110),
    ("ALGN", 245, Health, 140),
    ("WBA", 15, Health, 75),
    ("EBAY", 53, Consumer, 95),
    ("ETSY", 60, Consumer, 140),
    ("ZM", 59, Technology, 85),
    ("DOCU", 53, Technology, 110),
];

/// The funds among them: they follow what they hold.
const FUNDS: &[&str] = &[
    "QQQ", "SPY", "TQQQ", "SQQQ", "IWM", "DIA", "VOO", "IVV", "VTI", "XLF", "XLE", "XLK", "XLV", "XLI", "XLY", "SOXL",
    "SOXS", "ARKK",
];

/// The first `count` listings, the same for every seed.
pub(super) fn listings(count: usize) -> Vec<Listing> {
    let known = WELL_KNOWN.iter().map(|&(symbol, dollars, sector, beta)| {
        let fund = FUNDS.contains(&symbol);
        let own = if fund { 4 } else { 45 };
        Listing { symbol: padded(symbol.as_bytes()), cents: dollars * 100, sector, beta, own, fund }
    });
    known.chain((0..).filter_map(invented)).take(count).collect()
}

/// The symbol with spaces behind it, cut to eight bytes.
fn padded(text: &[u8]) -> [u8; 8] {
    let mut symbol = [b' '; 8];
    symbol.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
    symbol
}

/// The invented listing of this number: four letters, each combination once; `None` where a well-known one has them.
fn invented(number: u32) -> Option<Listing> {
    const COMBINATIONS: u32 = 26 * 26 * 26 * 26;
    // The multiplier shares no factor with 26, so no two numbers meet.
    let code = (number * 7_919 + 123_457) % COMBINATIONS;
    let letter = |place: u32| b'A' + (code / 26_u32.pow(place) % 26) as u8;
    let text = [letter(3), letter(2), letter(1), letter(0)];
    if WELL_KNOWN.iter().any(|known| known.0.as_bytes() == text) {
        return None;
    }
    // Any mixing of bits will do here: what is wanted is that neighbours differ.
    let mixed =
        u64::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = |from: u32, n: u32| ((mixed >> from) as u32) % n;
    let sectors = [Technology, Communication, Consumer, Health, Finance, Industry, Energy];
    Some(Listing {
        symbol: padded(&text),
        // Evenly over the powers of two from 1.30 to 333 dollars, and a few below, where prices have four decimals and stay there.
        cents: if bits(50, 32) == 0 { 30 + bits(8, 40) } else { (130 << bits(40, 8)) * (256 + bits(16, 256)) / 256 },
        sector: sectors[bits(20, 7) as usize],
        beta: 40 + bits(28, 140) as i32,
        own: 100,
        fund: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn symbols_are_distinct_and_begin_with_the_well_known() {
        let all = listings(crate::MAX_INSTRUMENTS as usize);
        assert_eq!(all.len(), crate::MAX_INSTRUMENTS as usize);
        assert_eq!(&all[0].symbol, b"AAPL    ");
        assert_eq!(&all[2].symbol, b"NVDA    ");
        let symbols: HashSet<_> = all.iter().map(|listing| listing.symbol).collect();
        assert_eq!(symbols.len(), all.len());
        assert!(all.iter().all(|listing| listing.cents >= 30 && listing.symbol[0].is_ascii_uppercase()));
        assert_eq!(FUNDS.iter().filter(|fund| WELL_KNOWN.iter().any(|known| known.0 == **fund)).count(), FUNDS.len());
    }
}
