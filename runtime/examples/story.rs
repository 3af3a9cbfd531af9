//! `story MODEL DUMP TOKENS SEED PROMPT`: tells a story and writes the logits of every choice to DUMP
//! (little-endian f32, `[choices, vocab_size]`). It needs nothing but the runtime, so that it builds for
//! every target that has a standard library.

#[path = "tell.rs"]
mod tell;

use std::io::Write;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, dump, tokens, seed, prompt] = arguments.as_slice() else {
        return Err(std::io::Error::other("usage: story MODEL DUMP TOKENS SEED PROMPT"));
    };
    let number = |text: &String| {
        text.parse::<u32>().map_err(|error| std::io::Error::other(format!("{text:?}: {error}")))
    };
    let story = tell::tell(&std::fs::read(model)?, prompt, number(tokens)? as usize, number(seed)?.into());
    let logits: Vec<u8> = story.logits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    std::fs::write(dump, logits)?;
    std::io::stdout().write_all(&story.text)
}
