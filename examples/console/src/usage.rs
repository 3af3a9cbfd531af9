//! What firmware takes of a chip.

/// Bytes of flash and RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Vectors and code.
    pub code_bytes: usize,
    /// Constants without the model.
    pub constant_bytes: usize,
    /// Initial values of statics, which are copied from flash.
    pub data_bytes: usize,
    /// Statics, those and the session's memory among them.
    pub ram_static_bytes: usize,
    /// The stack's high-water mark, where start-up painted it.
    pub stack_bytes: Option<usize>,
}

impl Usage {
    /// Flash besides the model.
    pub const fn flash_bytes(&self) -> usize {
        self.code_bytes + self.constant_bytes + self.data_bytes
    }
}

#[cfg(all(target_arch = "arm", target_os = "none"))]
impl Usage {
    /// Of firmware that cortex-m-rt's script has linked, as of now; `model` lies in flash, among the
    /// constants or elsewhere. The stack is known if cortex-m-rt has its feature `paint-stack`.
    pub fn of_cortex_m_rt(model: &[u8]) -> Self {
        linked::usage(model)
    }
}

#[cfg(all(target_arch = "arm", target_os = "none"))]
mod linked {
    use super::Usage;

    unsafe extern "C" {
        static __vector_table: u32;
        static __etext: u32;
        static __srodata: u32;
        static __erodata: u32;
        static __sdata: u32;
        static __edata: u32;
        static __sbss: u32;
        static __ebss: u32;
        static _stack_start: u32;
        static _stack_end: u32;
    }

    /// What cortex-m-rt's start-up fills the stack with.
    const PAINT: u32 = 0xcccc_cccc;

    /// Bytes from one of the linker's symbols to another.
    macro_rules! bytes_between {
        ($from:ident, $to:ident) => {
            (&raw const $to as usize).wrapping_sub(&raw const $from as usize)
        };
    }

    pub(super) fn usage(model: &[u8]) -> Usage {
        let constants = &raw const __srodata as usize..&raw const __erodata as usize;
        let among_them = constants.contains(&(model.as_ptr() as usize));
        let model_bytes = if among_them { model.len() } else { 0 };
        let data = bytes_between!(__sdata, __edata);
        Usage {
            code_bytes: bytes_between!(__vector_table, __etext),
            constant_bytes: constants.len().saturating_sub(model_bytes),
            data_bytes: data,
            ram_static_bytes: data + bytes_between!(__sbss, __ebss),
            stack_bytes: stack_used(),
        }
    }

    /// The most stack that was ever used: what of the paint is gone. Nothing if there is none.
    fn stack_used() -> Option<usize> {
        let words = bytes_between!(_stack_end, _stack_start) / 4;
        let end = &raw const _stack_end;
        let painted = (0..words).take_while(|&i| {
            // SAFETY: the linker script says that the stack is these words, in RAM and 4-aligned; the
            // read is volatile because the words are no Rust object.
            unsafe { end.add(i).read_volatile() == PAINT }
        });
        match painted.count() {
            0 => None,
            painted => Some(4 * (words - painted)),
        }
    }
}
