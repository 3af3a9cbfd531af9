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

#[cfg(all(target_arch = "riscv32", target_os = "none"))]
impl Usage {
    /// Of firmware that esp-hal's script has linked, and after it a script that sets `_code_bytes` to the
    /// size of its code sections. esp-hal does not paint the stack, so its depth is not known.
    pub fn of_esp_hal(model: &[u8]) -> Self {
        linked::usage(model)
    }
}

/// Bytes from one of the linker's symbols to another.
#[cfg(target_os = "none")]
macro_rules! bytes_between {
    ($from:ident, $to:ident) => {
        (&raw const $to as usize).wrapping_sub(&raw const $from as usize)
    };
}

/// Constants that are not the model, which may lie among them.
#[cfg(target_os = "none")]
fn without(model: &[u8], constants: core::ops::Range<usize>) -> usize {
    let among_them = constants.contains(&(model.as_ptr() as usize));
    constants.len().saturating_sub(if among_them { model.len() } else { 0 })
}

#[cfg(all(target_arch = "riscv32", target_os = "none"))]
mod linked {
    use super::{Usage, without};

    unsafe extern "C" {
        static _code_bytes: u32;
        static _rodata_start: u32;
        static _rodata_end: u32;
        static _data_start: u32;
        static _data_end: u32;
        static _bss_start: u32;
        static _bss_end: u32;
    }

    pub(super) fn usage(model: &[u8]) -> Usage {
        let data = bytes_between!(_data_start, _data_end);
        Usage {
            // A size, which linkers can only say as an address.
            code_bytes: &raw const _code_bytes as usize,
            constant_bytes: without(
                model,
                &raw const _rodata_start as usize..&raw const _rodata_end as usize,
            ),
            data_bytes: data,
            ram_static_bytes: data + bytes_between!(_bss_start, _bss_end),
            stack_bytes: None,
        }
    }
}

#[cfg(all(target_arch = "arm", target_os = "none"))]
mod linked {
    use super::{Usage, without};

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

    pub(super) fn usage(model: &[u8]) -> Usage {
        let data = bytes_between!(__sdata, __edata);
        Usage {
            code_bytes: bytes_between!(__vector_table, __etext),
            constant_bytes: without(model, &raw const __srodata as usize..&raw const __erodata as usize),
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
