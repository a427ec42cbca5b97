//! The 23 layouts, in the order of the specification's sections: system, stocks, orders, trades, auctions.

use barewire_types::layout;
use zerocopy::Unaligned;
use zerocopy::byteorder::big_endian::{U16, U32, U64};

use crate::U48;

/// Declares messages: code, struct and name, and the fields behind the four that all have.
macro_rules! messages {
    ($locate:ident: $(
        $(#[$meta:meta])*
        $code:literal $name:ident: $text:literal { $($fields:tt)* }
    )+) => { $(
        layout! {
            $(#[$meta])*
            #[derive(PartialEq, Eq, Unaligned)]
            pub struct $name: $text {
                /// Which message this is.
                message_type: u8 as Text,
                /// The day's number of the instrument; 0 where the message is about none.
                $locate: U16,
                /// Nasdaq's own number of the message.
                tracking_number: U16,
                /// When it happened.
                timestamp: U48 ["ns since midnight, US Eastern"],
                $($fields)*
            }
        }

        impl $name {
            #[doc = concat!("The message's type: ", stringify!($code), ".")]
            pub const TYPE: u8 = $code;
        }
    )+ };
}

messages! { stock_locate:
    /// System event: a stage of the day has begun.
    b'S' SystemEvent: "system_event_message" {
        /// Which stage.
        event_code: u8 as Text,
    }

    /// Stock directory: an instrument, its number for the day and what it is. Sent for all before the day begins.
    b'R' StockDirectory: "stock_directory_message" {
        /// Symbol.
        stock: [u8; 8],
        /// Where the stock is listed.
        market_category: u8 as Text,
        /// Whether the issuer meets Nasdaq's requirements.
        financial_status_indicator: u8 as Text,
        /// Shares in a round lot.
        round_lot_size: U32 ["shares"],
        /// Whether only round lots may be entered.
        round_lots_only: u8 as Text,
        /// Class of security.
        issue_classification: u8 as Text,
        /// Kind within the class.
        issue_sub_type: [u8; 2],
        /// Whether the stock is real or Nasdaq's own for tests.
        authenticity: u8 as Text,
        /// Whether short sales must be delivered (Reg SHO threshold list).
        short_sale_threshold_indicator: u8 as Text,
        /// Whether the stock is set up for its first day of trading.
        ipo_flag: u8 as Text,
        /// Limit up, limit down: which tier's bands apply.
        luld_reference_price_tier: u8 as Text,
        /// Whether this is an exchange traded product.
        etp_flag: u8 as Text,
        /// An exchange traded product's leverage as a whole number, e.g. 2; 0 or 1 where there is none.
        etp_leverage_factor: U32,
        /// Whether the product moves against its index.
        inverse_indicator: u8 as Text,
    }

    /// Stock trading action: an instrument's trading state, at the start of the day and whenever it changes.
    b'H' StockTradingAction: "stock_trading_action_message" {
        /// Symbol.
        stock: [u8; 8],
        /// The state from now on.
        trading_state: u8 as Text,
        /// Not used.
        reserved: [u8; 1],
        /// Why.
        reason_code: [u8; 4],
    }

    /// Market participant position: whether a firm makes a market in an instrument.
    b'L' MarketParticipantPosition: "market_participant_position_message" {
        /// The firm.
        mpid: [u8; 4],
        /// Symbol.
        stock: [u8; 8],
        /// Whether the firm qualifies as primary market maker.
        primary_market_maker: u8 as Text,
        /// How it makes the market.
        market_maker_mode: u8 as Text,
        /// Its registration with the market.
        market_participant_state: u8 as Text,
    }

    /// MWCB decline level: where the market-wide circuit breaker will trip today. The levels are values of the S&P 500
    /// index.
    b'V' MwcbDeclineLevel: "mwcb_decline_level_message" {
        /// Level 1 of the breaker.
        level_1: U64 ["1e-8 index points"],
        /// Level 2 of the breaker.
        level_2: U64 ["1e-8 index points"],
        /// Level 3 of the breaker.
        level_3: U64 ["1e-8 index points"],
    }

    /// MWCB status: the market-wide circuit breaker has tripped.
    b'W' MwcbStatus: "mwcb_status_level_message" {
        /// At which level.
        breached_level: u8 as Text,
    }

    /// IPO quoting period update: when quoting in a new issue is expected to begin.
    b'K' IpoQuotingPeriod: "ipo_quoting_period_update" {
        /// Symbol.
        stock: [u8; 8],
        /// When quoting will begin. Seconds, unlike every other time.
        ipo_quotation_release_time: U32 ["s since midnight, US Eastern"],
        /// Whether the time is expected or the issue put off.
        ipo_quotation_release_qualifier: u8 as Text,
        /// The issue's price.
        ipo_price: U32 ["1e-4 USD"],
    }

    /// LULD auction collar: the prices within which an auction may reopen a paused instrument.
    b'J' LuldAuctionCollar: "luld_auction_collar_message" {
        /// Symbol.
        stock: [u8; 8],
        /// The price that the collar is set from.
        auction_collar_reference_price: U32 ["1e-4 USD"],
        /// The auction's highest price.
        upper_auction_collar_price: U32 ["1e-4 USD"],
        /// The auction's lowest price.
        lower_auction_collar_price: U32 ["1e-4 USD"],
        /// How often the collar has been widened.
        auction_collar_extension: U32,
    }

    /// Operational halt: a market cannot trade an instrument, for reasons of its own.
    b'h' OperationalHalt: "operational_halt_message" {
        /// Symbol.
        stock: [u8; 8],
        /// Which market.
        market_code: u8 as Text,
        /// Whether the halt begins or ends.
        operational_halt_action: u8 as Text,
    }

    /// Add order, no MPID attribution: an order enters the book.
    b'A' AddOrder: "add_order_no_mpid_attribution_message" {
        /// The order's number, unique within the day.
        order_reference_number: U64,
        /// Which side.
        buy_sell_indicator: u8 as Text,
        /// Displayed size.
        shares: U32 ["shares"],
        /// Symbol.
        stock: [u8; 8],
        /// Displayed price.
        price: U32 ["1e-4 USD"],
    }

    /// Add order with MPID attribution: an order enters the book and its firm is named.
    b'F' AddOrderMpid: "add_order_with_mpid_attribution_message" {
        /// The order's number, unique within the day.
        order_reference_number: U64,
        /// Which side.
        buy_sell_indicator: u8 as Text,
        /// Displayed size.
        shares: U32 ["shares"],
        /// Symbol.
        stock: [u8; 8],
        /// Displayed price.
        price: U32 ["1e-4 USD"],
        /// The firm.
        attribution: [u8; 4],
    }

    /// Order executed: shares of an order traded at its displayed price.
    b'E' OrderExecuted: "order_executed_message" {
        /// The order.
        order_reference_number: U64,
        /// Shares traded, to be taken from what the order has left.
        executed_shares: U32 ["shares"],
        /// The trade's number, unique within the day.
        match_number: U64,
    }

    /// Order executed with price: shares of an order traded at another price than it displays.
    b'C' OrderExecutedWithPrice: "order_executed_with_price_message" {
        /// The order.
        order_reference_number: U64,
        /// Shares traded, to be taken from what the order has left.
        executed_shares: U32 ["shares"],
        /// The trade's number, unique within the day.
        match_number: U64,
        /// Whether the trade counts in the volume; if not, a cross will count it.
        printable: u8 as Text,
        /// Price of the trade.
        execution_price: U32 ["1e-4 USD"],
    }

    /// Order cancel: part of an order is withdrawn.
    b'X' OrderCancel: "order_cancel_message" {
        /// The order.
        order_reference_number: U64,
        /// Shares withdrawn, to be taken from what the order has left.
        canceled_shares: U32 ["shares"],
    }

    /// Order delete: an order leaves the book.
    b'D' OrderDelete: "order_delete_message" {
        /// The order.
        order_reference_number: U64,
    }

    /// Order replace: an order leaves the book and another takes its place. Side, symbol and attribution stay.
    b'U' OrderReplace: "order_replace_message" {
        /// The order that leaves.
        original_order_reference_number: U64,
        /// The order that takes its place.
        new_order_reference_number: U64,
        /// The new order's size.
        shares: U32 ["shares"],
        /// The new order's price.
        price: U32 ["1e-4 USD"],
    }

    /// Non-cross trade: an order that was not displayed traded. No effect on the book.
    b'P' NonCrossTrade: "non_cross_trade_message" {
        /// The order; 0 since 2010-12-06.
        order_reference_number: U64,
        /// The order's side; always B since 2014-07-14.
        buy_sell_indicator: u8 as Text,
        /// Shares traded.
        shares: U32 ["shares"],
        /// Symbol.
        stock: [u8; 8],
        /// Price of the trade.
        price: U32 ["1e-4 USD"],
        /// The trade's number, unique within the day.
        match_number: U64,
    }

    /// Cross trade: an auction's one trade for all. No effect on the book.
    b'Q' CrossTrade: "cross_trade_message" {
        /// Shares traded; may be 0.
        cross_shares: U64 ["shares"],
        /// Symbol.
        stock: [u8; 8],
        /// The auction's price.
        cross_price: U32 ["1e-4 USD"],
        /// The trade's number, unique within the day.
        match_number: U64,
        /// Which auction.
        cross_type: u8 as Text,
    }

    /// Broken trade: a trade of the day never happened. No effect on the book.
    b'B' BrokenTrade: "broken_trade_message" {
        /// The trade.
        match_number: U64,
    }

    /// Net order imbalance indicator: how an auction would turn out now.
    b'I' NetOrderImbalance: "net_order_imbalance_indicator_message" {
        /// Shares that would trade at the current reference price.
        paired_shares: U64 ["shares"],
        /// Shares that would not.
        imbalance_shares: U64 ["shares"],
        /// On which side those are.
        imbalance_direction: u8 as Text,
        /// Symbol.
        stock: [u8; 8],
        /// Price at which the auction's own orders would clear.
        far_price: U32 ["1e-4 USD"],
        /// Price at which the auction's and the book's orders would clear.
        near_price: U32 ["1e-4 USD"],
        /// Price that the imbalance is computed at.
        current_reference_price: U32 ["1e-4 USD"],
        /// Which auction.
        cross_type: u8 as Text,
        /// How far the near price is from the current reference price.
        price_variation_indicator: u8 as Text,
    }

    /// Retail price improvement indicator: on which sides there is interest for retail orders within the spread.
    b'N' RetailPriceImprovement: "retail_price_improvement_indicator_message" {
        /// Symbol.
        stock: [u8; 8],
        /// Which sides.
        interest_flag: u8 as Text,
    }

    /// Direct listing with capital raise price discovery: when and where a direct listing may open.
    b'O' DirectListing: "direct_listing_with_capital_raise_price_discovery_message" {
        /// Symbol.
        stock: [u8; 8],
        /// Whether the stock may be released.
        open_eligibility_status: u8 as Text,
        /// 20% below the lowest registered price.
        minimum_allowable_price: U32 ["1e-4 USD"],
        /// 80% above the highest registered price.
        maximum_allowable_price: U32 ["1e-4 USD"],
        /// The reference price as of the near execution time.
        near_execution_price: U32 ["1e-4 USD"],
        /// When the near execution price was set.
        near_execution_time: U64 ["ns since midnight, US Eastern"],
        /// 10% below the near execution price.
        lower_price_range_collar: U32 ["1e-4 USD"],
        /// 10% above the near execution price.
        upper_price_range_collar: U32 ["1e-4 USD"],
    }
}

// Here the specification calls the instrument's number otherwise.
messages! { locate_code:
    /// Reg SHO short sale price test restricted indicator: whether an instrument may be sold short below the bid.
    b'Y' RegSho: "reg_sho_short_sale_price_test_restricted_indicator_message" {
        /// Symbol.
        stock: [u8; 8],
        /// Whether the restriction is in effect.
        reg_sho_action: u8 as Text,
    }
}
