//! The XDP program that sends: what it does for one frame, and the memory that it shares with the process.

use crate::bpf::asm::{Assembler, Insn, Op, Operand, R, STACK, When, Wide, Width};

/// Longest frame: Ethernet's, without its check sequence.
pub(super) const MAX_FRAME: usize = 1_514;
/// Most units, such as messages, in one frame: the shortest order messages in the longest frame.
pub(super) const MAX_UNITS: usize = 72;
/// What frames are kept in: an element of the map. A frame lies in one.
pub(super) const SEGMENT_BYTES: usize = 1 << 16;
/// A frame's record: this head, the places of its times, the frame, to a multiple of 8.
pub(super) const RECORD_HEAD: usize = 24;
/// The longest record.
pub(super) const MAX_RECORD: usize = (RECORD_HEAD + 2 * MAX_UNITS + MAX_FRAME).next_multiple_of(8);

/// Bits of a fraction of a nanosecond.
pub(super) const FRACTION_BITS: u32 = 20;

/// Where a frame has UDP's checksum: no tag, no options.
pub(super) const CHECKSUM_AT: usize = 40;

/// What a record's head holds, at which byte.
pub(super) mod record {
    pub(crate) const LEN: i16 = 0;
    pub(crate) const FRAME_AT: i16 = 2;
    pub(crate) const UNITS: i16 = 4;
    /// Of the times, those that begin at an odd place from UDP's header.
    pub(crate) const ODD: i16 = 6;
    /// Of everything that the checksum is over but number and times; 32 bits, not folded.
    pub(crate) const SUM: i16 = 8;
    pub(crate) const NEXT_SEGMENT: i16 = 12;
    pub(crate) const NEXT_OFFSET: i16 = 16;
}

/// Words of 64 bits that program and process share. Times are ns by CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word {
    /// Nothing is to be sent any more.
    Stop,
    /// When the first frame is due.
    Start,
    /// What the frames' times are counted from.
    Origin,
    /// Between two units, in 2^-20 ns.
    Step,
    /// For so long frames become due.
    Duration,
    /// From here on nothing is sent, whatever is due.
    GiveUp,
    /// When the next frame is due, from the start on, in 2^-20 ns.
    Due,
    /// Where the next frame lies.
    Segment,
    Offset,
    Units,
    Frames,
    LateFrames,
    MaxLate,
    /// The last look at the clock.
    Last,
    /// Time between looks that were too far apart.
    Stolen,
    /// Everything that became due was sent, or given up.
    Ended,
    /// Calls of the program.
    Turn,
    /// A frame could not be made.
    Failed,
}

impl Word {
    pub(super) const COUNT: usize = Word::Failed as usize + 1;
}

/// What the program is made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    /// The map of one element that holds the words.
    pub(super) words: i32,
    /// The map that holds the frames.
    pub(super) frames: i32,
    /// Where frames leave.
    pub(super) interface: u32,
    /// Where a frame has the number of its first unit.
    pub(super) number_at: u16,
    /// Frames in one go, a power of two. Only for the first of them does it wait.
    pub(super) batch: u32,
    pub(super) late_ns: u32,
    pub(super) interrupted_ns: u32,
}

const CONTEXT: R = R(6);
const WORDS: R = R(7);
/// When the frame is due; then its record.
const RECORD: R = R(8);
const NOW: R = R(9);
const R0: R = R(0);
const R1: R = R(1);
const R2: R = R(2);
const R3: R = R(3);
const R4: R = R(4);
const R5: R = R(5);

/// Places on the stack, from its end.
const KEY: i16 = -4;
const KEPT_CONTEXT: i16 = -16;
const KEPT_LEN: i16 = -24;
const KEPT_RECORD: i16 = -32;
const POSITION: i16 = -40;

const XDP_DROP: i32 = 1;
const MAP_LOOKUP: i32 = 1;
const KTIME_GET_NS: i32 = 5;
const REDIRECT: i32 = 23;
const ADJUST_TAIL: i32 = 65;
const STORE_BYTES: i32 = 190;

/// Looks at the clock in one call, before others get a chance: some 20 us.
const LOOKS: i32 = 512;

impl Assembler {
    fn get(&mut self, to: R, word: Word) {
        self.load(Width::Double, to, WORDS, 8 * word as i16);
    }

    fn set(&mut self, word: Word, from: R) {
        self.store(Width::Double, WORDS, 8 * word as i16, from);
    }

    /// Adds to a word; `scratch` is used up.
    fn count(&mut self, word: Word, scratch: R, by: Operand) {
        self.get(scratch, word);
        self.op(Op::Add, scratch, by);
        self.set(word, scratch);
    }

    /// Adds the lowest so many 16-bit words of `from` to `to`; `from` and `scratch` are used up.
    fn add_words(&mut self, to: R, from: R, words: usize, scratch: R) {
        for _ in 0..words {
            self.op(Op::Move, scratch, Operand::In(from));
            self.op(Op::And, scratch, Operand::Is(0xffff));
            self.op(Op::Add, to, Operand::In(scratch));
            self.op(Op::ShiftRight, from, Operand::Is(16));
        }
    }

    /// Folds a sum of less than 2^48 to 16 bits.
    fn fold(&mut self, sum: R, scratch: R) {
        for _ in 0..3 {
            self.op(Op::Move, scratch, Operand::In(sum));
            self.op(Op::ShiftRight, scratch, Operand::Is(16));
            self.op(Op::And, sum, Operand::Is(0xffff));
            self.op(Op::Add, sum, Operand::In(scratch));
        }
    }
}

/// The program. A call of it sends one frame, or none when none is due for some time.
pub(super) fn assemble(made: &Made) -> Vec<Insn> {
    use Operand::{In, Is};
    let mut a = Assembler::default();
    let [look, turned, send, in_time, not_the_latest, ended, failed, drop] = std::array::from_fn(|_| a.label());

    a.store(Width::Double, STACK, KEPT_CONTEXT, R1);
    a.load64(WORDS, Wide::MapMemory(made.words));
    a.get(R1, Word::Turn);
    a.op(Op::Move, R2, In(R1));
    a.op(Op::Add, R2, Is(1));
    a.set(Word::Turn, R2);
    a.op(Op::And, R1, Is(made.batch as i32 - 1));
    a.store(Width::Double, STACK, POSITION, R1);
    a.get(R1, Word::Stop);
    a.jump_if(When::NotEqual, R1, Is(0), drop);
    a.get(R1, Word::Due);
    a.op(Op::ShiftRight, R1, Is(FRACTION_BITS as i32));
    a.get(R2, Word::Duration);
    a.jump_if(When::AtLeast, R1, In(R2), ended);
    a.get(RECORD, Word::Start);
    a.op(Op::Add, RECORD, In(R1));

    // Until it is due. Looks are counted where the context was.
    a.op(Op::Move, CONTEXT, Is(0));
    a.place(look);
    a.call(KTIME_GET_NS);
    a.op(Op::Move, NOW, In(R0));
    a.get(R1, Word::Last);
    a.jump_if(When::Above, R1, In(NOW), turned);
    a.set(Word::Last, NOW);
    a.op(Op::Move, R2, In(NOW));
    a.op(Op::Subtract, R2, In(R1));
    a.jump_if(When::Below, R2, Is(made.interrupted_ns as i32), turned);
    a.count(Word::Stolen, R1, In(R2));
    a.place(turned);
    a.jump_if(When::AtLeast, NOW, In(RECORD), send);
    a.load(Width::Double, R1, STACK, POSITION);
    a.jump_if(When::NotEqual, R1, Is(0), drop);
    a.op(Op::Add, CONTEXT, Is(1));
    a.jump_if(When::Below, CONTEXT, Is(LOOKS), look);
    a.jump(drop);

    a.place(send);
    a.get(R1, Word::GiveUp);
    a.jump_if(When::Above, NOW, In(R1), ended);
    a.op(Op::Move, R2, In(NOW));
    a.op(Op::Subtract, R2, In(RECORD));
    a.op(Op::Move, R3, Is(made.late_ns as i32));
    a.jump_if(When::AtLeast, R3, In(R2), in_time);
    a.count(Word::LateFrames, R1, Is(1));
    a.place(in_time);
    a.get(R1, Word::MaxLate);
    a.jump_if(When::AtLeast, R1, In(R2), not_the_latest);
    a.set(Word::MaxLate, R2);
    a.place(not_the_latest);

    // The frame's record.
    a.get(R1, Word::Segment);
    a.store(Width::Word, STACK, KEY, R1);
    a.op(Op::Move, R2, In(STACK));
    a.op(Op::Add, R2, Is(KEY.into()));
    a.load64(R1, Wide::Map(made.frames));
    a.call(MAP_LOOKUP);
    a.jump_if(When::Equal, R0, Is(0), failed);
    a.get(R1, Word::Offset);
    a.jump_if(When::Above, R1, Is((SEGMENT_BYTES - MAX_RECORD) as i32), failed);
    a.op(Op::Move, RECORD, In(R0));
    a.op(Op::Add, RECORD, In(R1));
    a.store(Width::Double, STACK, KEPT_RECORD, RECORD);

    // The frame as long as it is to be, and its bytes in it.
    a.load(Width::Double, CONTEXT, STACK, KEPT_CONTEXT);
    a.load(Width::Half, R2, RECORD, record::LEN);
    a.jump_if(When::Below, R2, Is(i32::from(made.number_at) + 8), failed);
    a.jump_if(When::Above, R2, Is(MAX_FRAME as i32), failed);
    a.store(Width::Double, STACK, KEPT_LEN, R2);
    a.op(Op::Subtract, R2, Is(MAX_FRAME as i32));
    a.op(Op::Move, R1, In(CONTEXT));
    a.call(ADJUST_TAIL);
    a.jump_if(When::NotEqual, R0, Is(0), failed);
    a.load(Width::Half, R5, RECORD, record::FRAME_AT);
    a.jump_if(When::Above, R5, Is((RECORD_HEAD + 2 * MAX_UNITS) as i32), failed);
    a.op(Op::Move, R3, In(RECORD));
    a.op(Op::Add, R3, In(R5));
    a.op(Op::Move, R1, In(CONTEXT));
    a.op(Op::Move, R2, Is(0));
    a.load(Width::Double, R4, STACK, KEPT_LEN);
    a.call(STORE_BYTES);
    a.jump_if(When::NotEqual, R0, Is(0), failed);

    // Its number. The checksum is added up meanwhile, in R5.
    a.load(Width::Word, R2, CONTEXT, 0);
    a.load(Width::Word, R3, CONTEXT, 4);
    a.op(Op::Move, R1, In(R2));
    a.op(Op::Add, R1, Is(i32::from(made.number_at) + 8));
    a.jump_if(When::Above, R1, In(R3), failed);
    a.load(Width::Word, R5, RECORD, record::SUM);
    a.get(R1, Word::Units);
    a.op(Op::Add, R1, Is(1));
    a.op(Op::Move, R4, In(R1));
    a.network_order(R4, 64);
    a.store(Width::Double, R2, made.number_at as i16, R4);
    a.add_words(R5, R1, 4, R0);

    // The time, which all its units have: at even places its words count as they are, at odd ones with their bytes
    // exchanged.
    a.get(R1, Word::Origin);
    a.op(Op::Subtract, NOW, In(R1));
    a.op(Op::Move, R4, In(NOW));
    a.op(Op::Move, CONTEXT, Is(0));
    a.add_words(CONTEXT, R4, 3, R0);
    a.fold(CONTEXT, R0);
    a.load(Width::Half, R4, RECORD, record::ODD);
    a.load(Width::Half, R1, RECORD, record::UNITS);
    a.op(Op::Subtract, R1, In(R4));
    a.op(Op::Multiply, R1, In(CONTEXT));
    a.op(Op::Add, R5, In(R1));
    a.op(Op::Move, R1, In(CONTEXT));
    a.op(Op::ShiftLeft, R1, Is(8));
    a.op(Op::ShiftRight, CONTEXT, Is(8));
    a.op(Op::Or, R1, In(CONTEXT));
    a.op(Op::And, R1, Is(0xffff));
    a.op(Op::Multiply, R1, In(R4));
    a.op(Op::Add, R5, In(R1));
    a.fold(R5, R0);
    a.op(Op::Xor, R5, Is(0xffff));
    let not_zero = a.label();
    a.jump_if(When::NotEqual, R5, Is(0), not_zero);
    a.op(Op::Move, R5, Is(0xffff));
    a.place(not_zero);
    a.network_order(R5, 16);
    a.store(Width::Half, R2, CHECKSUM_AT as i16, R5);

    // Into every unit.
    let (unit, stamped) = (a.label(), a.label());
    let (units, list) = (CONTEXT, NOW);
    a.op(Op::Move, R4, In(NOW));
    a.op(Op::ShiftRight, R4, Is(32));
    a.network_order(R4, 16);
    a.op(Op::Move, R5, In(NOW));
    a.network_order(R5, 32);
    a.load(Width::Half, units, RECORD, record::UNITS);
    a.op(Op::Move, list, In(RECORD));
    a.op(Op::Add, list, Is(RECORD_HEAD as i32));
    a.op(Op::Move, R1, Is(0));
    a.place(unit);
    a.jump_if(When::AtLeast, R1, In(units), stamped);
    a.load(Width::Half, R0, list, 0);
    a.jump_if(When::Above, R0, Is(MAX_FRAME as i32 - 6), failed);
    a.op(Op::Add, R0, In(R2));
    a.op(Op::Move, RECORD, In(R0));
    a.op(Op::Add, RECORD, Is(6));
    a.jump_if(When::Above, RECORD, In(R3), failed);
    a.store(Width::Half, R0, 0, R4);
    a.store(Width::Word, R0, 2, R5);
    a.op(Op::Add, list, Is(2));
    a.op(Op::Add, R1, Is(1));
    a.jump_if(When::Below, R1, Is(MAX_UNITS as i32), unit);
    a.place(stamped);

    // What comes next, and away with it.
    a.load(Width::Double, RECORD, STACK, KEPT_RECORD);
    a.load(Width::Half, R2, RECORD, record::UNITS);
    a.count(Word::Units, R1, In(R2));
    a.count(Word::Frames, R1, Is(1));
    a.get(R1, Word::Step);
    a.op(Op::Multiply, R2, In(R1));
    a.count(Word::Due, R1, In(R2));
    a.load(Width::Word, R1, RECORD, record::NEXT_SEGMENT);
    a.set(Word::Segment, R1);
    a.load(Width::Word, R1, RECORD, record::NEXT_OFFSET);
    a.set(Word::Offset, R1);
    a.op(Op::Move, R1, Is(made.interface as i32));
    a.op(Op::Move, R2, Is(0));
    a.call(REDIRECT);
    a.exit();

    a.place(failed);
    a.op(Op::Move, R1, Is(1));
    a.set(Word::Failed, R1);
    a.set(Word::Stop, R1);
    a.jump(drop);

    a.place(ended);
    a.op(Op::Move, R1, Is(1));
    a.set(Word::Ended, R1);

    a.place(drop);
    a.op(Op::Move, R0, Is(XDP_DROP));
    a.exit();
    a.finish()
}
