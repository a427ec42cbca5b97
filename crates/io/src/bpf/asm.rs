//! Programs, written instruction by instruction (RFC 9669), as far as they are needed here: nothing is compiled, neither
//! at build nor at run time, and no object file is carried along.

/// One instruction, as the kernel's `bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Insn {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// A register: r0 results, r1 to r5 arguments and scratch, r6 to r9 kept over calls, r10 the end of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct R(pub(crate) u8);

/// The end of the stack.
pub(crate) const STACK: R = R(10);

/// Widths of memory accesses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Width {
    Byte = 0x10,
    Half = 0x08,
    Word = 0x00,
    Double = 0x18,
}

/// Comparisons and operations take an immediate or a register.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operand {
    Is(i32),
    In(R),
}

/// Operations on 64 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Add = 0x07,
    Subtract = 0x17,
    Multiply = 0x27,
    Or = 0x47,
    And = 0x57,
    ShiftLeft = 0x67,
    ShiftRight = 0x77,
    Xor = 0xa7,
    Move = 0xb7,
}

/// Comparisons of 64 bits, unsigned.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    Equal = 0x15,
    Above = 0x25,
    AtLeast = 0x35,
    NotEqual = 0x55,
    Below = 0xa5,
}

/// What the 64 bits of a load stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wide {
    /// Themselves.
    Value(u64),
    /// A map, by its descriptor.
    Map(i32),
    /// The memory of a map of one element, by its descriptor.
    MapMemory(i32),
}

/// A place to jump to, that may be yet to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label(usize);

/// Puts a program together.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    code: Vec<Insn>,
    /// Where each label stands, once it does.
    labels: Vec<usize>,
    /// Instructions that jump, and where to.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    fn emit(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        // Two 4-bit fields of a C struct: their order is that of the machine's bytes.
        let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
        self.code.push(Insn { code, registers, offset, immediate });
    }

    fn with(&mut self, code: u8, to: R, operand: Operand) {
        /// The source is a register.
        const X: u8 = 0x08;
        match operand {
            Operand::Is(immediate) => self.emit(code, to.0, 0, 0, immediate),
            Operand::In(register) => self.emit(code | X, to.0, register.0, 0, 0),
        }
    }

    pub(crate) fn op(&mut self, op: Op, to: R, operand: Operand) {
        self.with(op as u8, to, operand);
    }

    /// Puts the low 16, 32 or 64 bits into network order, or back; the others become zero.
    pub(crate) fn network_order(&mut self, to: R, bits: i32) {
        self.emit(0xdc, to.0, 0, 0, bits);
    }

    pub(crate) fn load(&mut self, width: Width, to: R, base: R, offset: i16) {
        self.emit(0x61 | width as u8, to.0, base.0, offset, 0);
    }

    pub(crate) fn store(&mut self, width: Width, base: R, offset: i16, from: R) {
        self.emit(0x63 | width as u8, base.0, from.0, offset, 0);
    }

    pub(crate) fn load64(&mut self, to: R, wide: Wide) {
        // How the kernel is told that an immediate is a map's descriptor (BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE).
        let (kind, value) = match wide {
            Wide::Value(value) => (0, value),
            Wide::Map(fd) => (1, u64::from(fd as u32)),
            Wide::MapMemory(fd) => (2, u64::from(fd as u32)),
        };
        self.emit(0x18, to.0, kind, 0, value as u32 as i32);
        self.emit(0, 0, 0, 0, (value >> 32) as u32 as i32);
    }

    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(usize::MAX);
        Label(self.labels.len() - 1)
    }

    pub(crate) fn place(&mut self, label: Label) {
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = self.code.len();
        }
    }

    pub(crate) fn jump_if(&mut self, when: When, left: R, right: Operand, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.with(when as u8, left, right);
    }

    pub(crate) fn jump(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.emit(0x05, 0, 0, 0, 0);
    }

    pub(crate) fn call(&mut self, helper: i32) {
        self.emit(0x85, 0, 0, 0, helper);
    }

    /// Calls a function of the kernel's by its number (BPF_PSEUDO_KFUNC_CALL).
    pub(crate) fn call_kernel(&mut self, function: i32) {
        self.emit(0x85, 0, 2, 0, function);
    }

    pub(crate) fn exit(&mut self) {
        self.emit(0x95, 0, 0, 0, 0);
    }

    /// The program. Jumps reach 32,767 instructions; programs are shorter.
    pub(crate) fn finish(mut self) -> Vec<Insn> {
        for (at, label) in self.jumps {
            let target = self.labels.get(label.0).copied().unwrap_or(usize::MAX);
            let offset = i16::try_from(target.wrapping_sub(at + 1) as isize);
            if let (Some(insn), Ok(offset)) = (self.code.get_mut(at), offset) {
                insn.offset = offset;
            }
        }
        self.code
    }
}
