//! Which records a reader wants: instruments, kinds and sides, decided while reading.

use crate::reader::Reader;
use barewire_types::{Gap, Mbo, Record, RecordKind};
use std::collections::{HashMap, HashSet};

/// Instruments with a number below this are looked up in a table that grows to the highest one, others by hash.
const DENSE: u32 = 1 << 20;

/// Not looked up yet, or not announced yet.
const UNKNOWN: u8 = 0;
const WANTED: u8 = 1;
const UNWANTED: u8 = 2;

/// What passes a reader: see [`Reader::read_filtered`].
///
/// Gaps, and status records of the whole feed, always pass: they say what the others are worth. Everything else passes if
/// its kind, its instrument and its side are wanted. What was not named is not narrowed.
///
/// ```
/// use barewire_ring::Filter;
/// use barewire_types::RecordKind;
/// let quotes = Filter::default().kinds(&[RecordKind::Bbo]).symbols(["AAPL"]);
/// ```
#[derive(Clone, Debug)]
pub struct Filter {
    /// A bit a kind.
    kinds: u8,
    /// The sides of order events that pass, as letters; empty: all.
    sides: Vec<u8>,
    instruments: Option<Instruments>,
}

/// Symbols and numbers that are wanted, and what is known so far of the numbers that were met.
#[derive(Clone, Debug, Default)]
struct Instruments {
    symbols: HashSet<Vec<u8>>,
    ids: HashSet<u32>,
    /// By number: wanted, unwanted or unknown.
    dense: Vec<u8>,
    sparse: HashMap<u32, u8>,
    /// Directory entries that have been read.
    seen: u32,
}

impl Default for Filter {
    /// Everything passes.
    fn default() -> Filter {
        Filter { kinds: u8::MAX, sides: Vec::new(), instruments: None }
    }
}

impl Filter {
    /// Only these kinds (and what always passes).
    pub fn kinds(mut self, kinds: &[RecordKind]) -> Filter {
        self.kinds = kinds.iter().fold(0, |mask, kind| mask | 1 << *kind as u8);
        self
    }

    /// Not this kind.
    pub(crate) fn without(mut self, kind: RecordKind) -> Filter {
        self.kinds &= !(1 << kind as u8);
        self
    }

    /// Of the order events, only those of these sides: `B`, `A` or `N`. Other kinds have no side, and pass.
    pub fn sides(mut self, sides: &[u8]) -> Filter {
        self.sides = sides.to_vec();
        self
    }

    /// Only instruments of these symbols, those too that are announced later. Adds to [`ids`](Self::ids).
    pub fn symbols(mut self, symbols: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Filter {
        let wanted = &mut self.instruments.get_or_insert_default().symbols;
        wanted.extend(symbols.into_iter().map(|symbol| symbol.as_ref().to_vec()));
        self
    }

    /// Only instruments of these numbers. Adds to [`symbols`](Self::symbols).
    pub fn ids(mut self, ids: impl IntoIterator<Item = u32>) -> Filter {
        self.instruments.get_or_insert_default().ids.extend(ids);
        self
    }

    /// Forgets which numbers the symbols have, for a reader that attached anew: another epoch may give them others.
    pub fn forget(&mut self) {
        if let Some(instruments) = &mut self.instruments {
            instruments.dense.clear();
            instruments.sparse.clear();
            instruments.seen = 0;
        }
    }

    /// Whether a record passes. `directory` has the symbols.
    #[inline]
    pub(crate) fn takes(&mut self, record: &Record, directory: &Reader) -> bool {
        let head = Gap::from(*record);
        let kind = head.kind;
        if kind == RecordKind::Gap as u8 || (kind == RecordKind::Status as u8 && head.instrument_id == 0) {
            return true;
        }
        // A kind of a later version passes where kinds were not named.
        if self.kinds != u8::MAX && (kind > 7 || self.kinds & 1 << kind == 0) {
            return false;
        }
        if !self.sides.is_empty() && kind == RecordKind::Mbo as u8 && !self.sides.contains(&Mbo::from(*record).side) {
            return false;
        }
        match &mut self.instruments {
            None => true,
            Some(instruments) => match instruments.look_up(head.instrument_id) {
                UNKNOWN => instruments.learn(head.instrument_id, directory),
                known => known == WANTED,
            },
        }
    }

    /// Takes in what was announced since the last call: an instrument may have got another symbol.
    #[inline]
    pub(crate) fn refresh(&mut self, directory: &Reader) {
        if let Some(instruments) = &mut self.instruments
            && instruments.seen != directory.instrument_count()
        {
            instruments.refresh(directory);
        }
    }
}

impl Instruments {
    #[inline]
    fn look_up(&self, id: u32) -> u8 {
        match self.dense.get(id as usize) {
            Some(known) => *known,
            None => self.sparse.get(&id).copied().unwrap_or(UNKNOWN),
        }
    }

    /// An instrument that was not met before: it may just have been announced. One that was not is unwanted for now, and
    /// looked up again when it comes again.
    #[cold]
    fn learn(&mut self, id: u32, directory: &Reader) -> bool {
        self.refresh(directory);
        self.look_up(id) == WANTED || self.ids.contains(&id)
    }

    #[cold]
    fn refresh(&mut self, directory: &Reader) {
        for instrument in directory.instruments_from(self.seen) {
            self.seen += 1;
            let id = instrument.instrument_id;
            let wanted = self.ids.contains(&id) || self.symbols.contains(instrument.symbol());
            let known = if wanted { WANTED } else { UNWANTED };
            if id < DENSE {
                if self.dense.len() <= id as usize {
                    self.dense.resize(id as usize + 1, UNKNOWN);
                }
                self.dense[id as usize] = known;
            } else {
                self.sparse.insert(id, known);
            }
        }
    }
}
