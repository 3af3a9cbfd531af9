//! What it took: flash, RAM, stack, instructions.

use core::fmt;

use smidgen_runtime::Layout;

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

/// Bytes from one of the linker's symbols to another.
macro_rules! bytes_between {
    ($from:ident, $to:ident) => {
        (&raw const $to as usize).wrapping_sub(&raw const $from as usize)
    };
}

/// Figures of one story.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    model_bytes: usize,
    session_bytes: usize,
    layout: Layout,
    /// Instructions of loading (checking every byte of the file).
    pub load: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Instructions of taking them in.
    pub prompt: u64,
    tokens: u64,
    first: u64,
    last: u64,
    sum: u64,
}

impl Report {
    /// Nothing measured yet; a model of so many bytes, a session of so many with these parts.
    pub const fn new(model_bytes: usize, session_bytes: usize, layout: Layout) -> Self {
        Self {
            model_bytes,
            session_bytes,
            layout,
            load: 0,
            prompt_tokens: 0,
            prompt: 0,
            tokens: 0,
            first: 0,
            last: 0,
            sum: 0,
        }
    }

    /// Takes in one generated token's instructions: sampling, forward pass, decoding.
    pub fn token(&mut self, instructions: u64) {
        if self.tokens == 0 {
            self.first = instructions;
        }
        self.tokens += 1;
        self.last = instructions;
        self.sum += instructions;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = bytes_between!(__vector_table, __etext);
        let constants = bytes_between!(__srodata, __erodata).saturating_sub(self.model_bytes);
        let data = bytes_between!(__sdata, __edata);
        let statics = data + bytes_between!(__sbss, __ebss);
        let flash = code + constants + data + self.model_bytes;
        writeln!(f, "flash_bytes {flash}")?;
        writeln!(f, "flash_code_bytes {code}")?;
        writeln!(f, "flash_constant_bytes {constants}")?;
        writeln!(f, "flash_model_bytes {}", self.model_bytes)?;
        writeln!(f, "ram_static_bytes {statics}")?;
        writeln!(f, "ram_session_bytes {}", self.session_bytes)?;
        writeln!(f, "ram_kv_bytes {}", self.layout.kv_bytes())?;
        writeln!(f, "ram_logits_bytes {}", 4 * self.layout.logits)?;
        writeln!(f, "ram_token_bytes {}", 4 * self.layout.tokens)?;
        writeln!(f, "ram_stack_bytes {}", stack_used())?;
        writeln!(f, "load_instructions {}", self.load)?;
        writeln!(f, "prompt_tokens {}", self.prompt_tokens)?;
        writeln!(f, "prompt_instructions {}", self.prompt)?;
        writeln!(f, "tokens {}", self.tokens)?;
        if let Some(mean) = self.sum.checked_div(self.tokens) {
            writeln!(f, "token_instructions_mean {mean}")?;
            writeln!(f, "token_instructions_first {}", self.first)?;
            writeln!(f, "token_instructions_last {}", self.last)?;
        }
        Ok(())
    }
}

/// The most stack that was ever used, in bytes: what of the paint that start-up put there is gone.
fn stack_used() -> usize {
    let words = bytes_between!(_stack_end, _stack_start) / 4;
    let end = &raw const _stack_end;
    let painted = (0..words).take_while(|&i| {
        // SAFETY: the linker script says that the stack is these words, in RAM and 4-aligned; the
        // read is volatile because the words are no Rust object.
        unsafe { end.add(i).read_volatile() == cortex_m_rt::STACK_PAINT_VALUE }
    });
    4 * (words - painted.count())
}
