//! What it took: flash, RAM, stack, instructions.

use core::fmt;

use smidgen_console::Usage;
use smidgen_runtime::Layout;

/// Figures of one story.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    model: &'static [u8],
    session_bytes: usize,
    hot_bytes: usize,
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
    /// Nothing measured yet; a model in flash, a session of so many bytes, copies of tensors of so many, and
    /// the session's parts.
    pub const fn new(model: &'static [u8], session_bytes: usize, hot_bytes: usize, layout: Layout) -> Self {
        Self {
            model,
            session_bytes,
            hot_bytes,
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
        let usage = Usage::of_cortex_m_rt(self.model);
        writeln!(f, "flash_bytes {}", usage.flash_bytes() + self.model.len())?;
        writeln!(f, "flash_code_bytes {}", usage.code_bytes)?;
        writeln!(f, "flash_constant_bytes {}", usage.constant_bytes)?;
        writeln!(f, "flash_model_bytes {}", self.model.len())?;
        writeln!(f, "ram_static_bytes {}", usage.ram_static_bytes)?;
        writeln!(f, "ram_session_bytes {}", self.session_bytes)?;
        writeln!(f, "ram_kv_bytes {}", self.layout.kv_bytes())?;
        writeln!(f, "ram_logits_bytes {}", 4 * self.layout.logits)?;
        writeln!(f, "ram_token_bytes {}", 4 * self.layout.tokens)?;
        if self.hot_bytes > 0 {
            writeln!(f, "ram_hot_bytes {}", self.hot_bytes)?;
        }
        if let Some(stack) = usage.stack_bytes {
            writeln!(f, "ram_stack_bytes {stack}")?;
        }
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
