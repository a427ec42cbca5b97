//! Records as Python objects, and the callbacks that take them.

use std::array;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use barewire_ring::{Record, RingRecord};
use barewire_types::{Bbo, Gap, Mbo, RecordKind, Status};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::block::Block;

/// What is done with one kind of record.
struct Call {
    /// The event's class: a tuple's subclass with as many fields as the record.
    class: Py<PyType>,
    callback: Option<Py<PyAny>>,
    /// Of trades, after the other.
    on_trade: Option<Py<PyAny>>,
}

/// An instrument, as far as the callbacks care.
struct Known {
    symbol: Py<PyString>,
    wanted: bool,
}

/// Makes an event of each record that a callback takes, and calls it.
#[pyclass(module = "barewire._core", frozen)]
pub struct Dispatcher {
    calls: [Option<Call>; 4],
    on_lost: Option<Py<PyAny>>,
    /// Instrument number to symbol, wherever that is known.
    symbol_of: Py<PyAny>,
    /// The chosen symbols; `None`: all.
    subscribed: Option<Py<PyAny>>,
    /// What `symbol_of` said, and when it was asked: as many announcements ago as have come since.
    known: Mutex<(u64, HashMap<u32, Known>)>,
    letters: [Py<PyString>; 256],
    empty: Py<PyString>,
}

/// What every record has, in the events' order.
fn head<'py>(py: Python<'py>, record: &RingRecord) -> PyResult<[Bound<'py, PyAny>; 9]> {
    let head = Gap::from(record.record);
    Ok([
        record.ring_sequence.into_pyobject(py)?.into_any(),
        head.ts_event.into_pyobject(py)?.into_any(),
        head.ts_recv.into_pyobject(py)?.into_any(),
        head.sequence.into_pyobject(py)?.into_any(),
        head.instrument_id.into_pyobject(py)?.into_any(),
        head.publisher_id.into_pyobject(py)?.into_any(),
        head.kind.into_pyobject(py)?.into_any(),
        head.flags.into_pyobject(py)?.into_any(),
        head.ts_source.into_pyobject(py)?.into_any(),
    ])
}

/// `class(items)` of a tuple's subclass, without passing through Python.
fn event<'py>(py: Python<'py>, class: &Bound<'py, PyType>, items: Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let arguments = PyTuple::new(py, [items])?;
    // SAFETY: the slot of a type that is always there, which is a `newfunc`; the class is a subclass of tuple (see `new`),
    // the arguments are a tuple, keywords may be null. What it returns is a new reference, or null and an exception.
    unsafe {
        let slot = ffi::PyType_GetSlot(&raw mut ffi::PyTuple_Type, ffi::Py_tp_new);
        let new: ffi::newfunc = std::mem::transmute::<*mut std::ffi::c_void, ffi::newfunc>(slot);
        let made = new(class.as_type_ptr(), arguments.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(py, made)
    }
}

fn place(kind: RecordKind) -> usize {
    kind as usize - 1
}

impl Dispatcher {
    fn known(&self) -> MutexGuard<'_, (u64, HashMap<u32, Known>)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instrument's symbol, and whether it is among the chosen ones.
    fn instrument<'py>(&self, py: Python<'py>, id: u32) -> PyResult<(Bound<'py, PyString>, bool)> {
        if let Some(known) = self.known().1.get(&id) {
            return Ok((known.symbol.bind(py).clone(), known.wanted));
        }
        let symbol = self.symbol_of.bind(py).call1((id,))?.cast_into::<PyString>()?;
        let wanted = match &self.subscribed {
            Some(chosen) => chosen.bind(py).contains(&symbol)?,
            None => true,
        };
        // What is unknown has a stand-in for a name until it is announced, which then counts.
        let stand_in = symbol.to_cow()?.starts_with('#');
        if !stand_in {
            let known = Known { symbol: symbol.clone().unbind(), wanted };
            self.known().1.insert(id, known);
        }
        Ok((symbol, wanted))
    }

    /// Forgets names that may have changed: `announced` is how many instruments were announced so far.
    pub fn refresh(&self, announced: u64) {
        let mut known = self.known();
        if known.0 != announced {
            *known = (announced, HashMap::new());
        }
    }

    fn letter<'py>(&self, py: Python<'py>, byte: u8) -> Bound<'py, PyAny> {
        self.letters[usize::from(byte)].bind(py).clone().into_any()
    }

    /// Says how many records were lost.
    pub fn lose(&self, py: Python<'_>, lost: u64) -> PyResult<()> {
        match &self.on_lost {
            Some(on_lost) if lost > 0 => on_lost.bind(py).call1((lost,)).map(drop),
            _ => Ok(()),
        }
    }

    /// Makes the event, if a callback wants it, and calls.
    pub fn deliver(&self, py: Python<'_>, record: &RingRecord) -> PyResult<()> {
        let Some(kind) = record.record.kind() else { return Ok(()) };
        let Some(call) = &self.calls[place(kind)] else { return Ok(()) };
        let Some(items) = self.items(py, record, kind)? else { return Ok(()) };
        let event = event(py, call.class.bind(py), items)?;
        if let Some(callback) = &call.callback {
            callback.bind(py).call1((&event,))?;
        }
        if let Some(on_trade) = &call.on_trade
            && Mbo::from(record.record).action == b'T'
        {
            on_trade.bind(py).call1((&event,))?;
        }
        Ok(())
    }

    /// The event's fields; `None` where its instrument is not a chosen one.
    fn items<'py>(
        &self,
        py: Python<'py>,
        record: &RingRecord,
        kind: RecordKind,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Record(words) = record.record;
        let id = Gap::from(Record(words)).instrument_id;
        let items = match kind {
            RecordKind::Mbo | RecordKind::Bbo => {
                let (symbol, wanted) = self.instrument(py, id)?;
                if !wanted {
                    return Ok(None);
                }
                let [a, b, c, d, e, f, g, h, i] = head(py, record)?;
                let symbol = symbol.into_any();
                if kind == RecordKind::Mbo {
                    let mbo = Mbo::from(Record(words));
                    let order_id = mbo.order_id.into_pyobject(py)?.into_any();
                    let price = mbo.price.into_pyobject(py)?.into_any();
                    let size = mbo.size.into_pyobject(py)?.into_any();
                    let (action, side) = (self.letter(py, mbo.action), self.letter(py, mbo.side));
                    PyTuple::new(py, [a, b, c, d, e, f, g, h, i, order_id, price, size, action, side, symbol])
                } else {
                    let bbo = Bbo::from(Record(words));
                    let bid_price = bbo.bid_price.into_pyobject(py)?.into_any();
                    let ask_price = bbo.ask_price.into_pyobject(py)?.into_any();
                    let bid_size = bbo.bid_size.into_pyobject(py)?.into_any();
                    let ask_size = bbo.ask_size.into_pyobject(py)?.into_any();
                    PyTuple::new(py, [a, b, c, d, e, f, g, h, i, bid_price, ask_price, bid_size, ask_size, symbol])
                }
            }
            RecordKind::Gap => {
                let gap = Gap::from(Record(words));
                let [a, b, c, d, e, f, g, h, i] = head(py, record)?;
                let count = gap.count.into_pyobject(py)?.into_any();
                let reason = gap.reason.into_pyobject(py)?.into_any();
                let symbol = self.empty.bind(py).clone().into_any();
                PyTuple::new(py, [a, b, c, d, e, f, g, h, i, count, reason, symbol])
            }
            RecordKind::Status => {
                let status = Status::from(Record(words));
                let symbol = if id == 0 { self.empty.bind(py).clone() } else { self.instrument(py, id)?.0 };
                let [a, b, c, d, e, f, g, h, i] = head(py, record)?;
                let value = status.value.into_pyobject(py)?.into_any();
                let (code, state) = (self.letter(py, status.code), self.letter(py, status.state));
                let end = status.reason.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |last| last + 1);
                let reason: String = status.reason[..end].iter().copied().map(char::from).collect();
                let reason = reason.into_pyobject(py)?.into_any();
                PyTuple::new(py, [a, b, c, d, e, f, g, h, i, value, code, state, reason, symbol.into_any()])
            }
        };
        items.map(Some)
    }
}

#[pymethods]
impl Dispatcher {
    /// calls: kind to (event's class, callback or `None`, on_trade or `None`).
    #[new]
    #[pyo3(signature = (calls, *, on_lost, symbol_of, subscribed))]
    fn new(
        py: Python<'_>,
        calls: &Bound<'_, PyDict>,
        on_lost: Option<Py<PyAny>>,
        symbol_of: Py<PyAny>,
        subscribed: Option<Py<PyAny>>,
    ) -> PyResult<Dispatcher> {
        type Entry = (Py<PyType>, Option<Py<PyAny>>, Option<Py<PyAny>>);
        let mut found = [const { None }; 4];
        for (kind, entry) in calls.iter() {
            let (kind, (class, callback, on_trade)): (usize, Entry) = (kind.extract()?, entry.extract()?);
            if !class.bind(py).is_subclass_of::<PyTuple>()? {
                return Err(PyTypeError::new_err("an event's class: expected a subclass of tuple"));
            }
            if let Some(place) = kind.checked_sub(1).and_then(|place| found.get_mut(place)) {
                *place = Some(Call { class, callback, on_trade });
            }
        }
        let text = |text: &str| PyString::intern(py, text).unbind();
        // A byte of zero is no letter.
        let letter = |byte: usize| text(&if byte == 0 { String::new() } else { char::from(byte as u8).to_string() });
        Ok(Dispatcher {
            calls: found,
            on_lost,
            symbol_of,
            subscribed,
            known: Mutex::default(),
            letters: array::from_fn(letter),
            empty: text(""),
        })
    }

    /// Delivers the first `count` records of a buffer, after what was lost; `announced` as of the symbols.
    fn records(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        count: usize,
        lost: u64,
        announced: u64,
    ) -> PyResult<()> {
        self.refresh(announced);
        self.lose(py, lost)?;
        if count == 0 {
            return Ok(());
        }
        let mut block = Block::new(buffer)?;
        for at in 0..count.min(block.records().len()) {
            // Copied: the callback may do with the buffer what it likes.
            let record = block.records()[at];
            self.deliver(py, &record)?;
        }
        Ok(())
    }
}
