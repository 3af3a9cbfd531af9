//! A story with the logits of every choice, through the runtime and nothing else: what programs and
//! tests on different machines compare.

use smidgen_runtime::{Model, Sampler, SamplerOptions, Session, SessionOptions, memory_needed};

/// What a run says.
pub struct Story {
    /// Prompt, story and a line's end.
    pub text: Vec<u8>,
    /// The logits of every choice as bits, `[choices, vocab_size]`.
    pub logits: Vec<u32>,
}

/// Tells `tokens` tokens at most, with the default options, in the model's whole context.
pub fn tell(file: &[u8], prompt: &str, tokens: usize, seed: u64) -> Story {
    let mut aligned = vec![0; file.len() + 64];
    let begin = aligned.as_ptr().align_offset(64);
    let place = &mut aligned[begin..begin + file.len()];
    place.copy_from_slice(file);
    let model = Model::load(place).expect("the file is valid");

    let options = SessionOptions::new(model.config().context_len as usize);
    let mut memory = vec![0; memory_needed(file, options) + 63];
    let mut session = Session::new(&model, memory.as_mut_slice(), options).expect("the memory is enough");
    let mut sampler = Sampler::new(SamplerOptions::default(), seed).expect("the options are in range");
    session.prompt(prompt).expect("the prompt fits");
    let mut logits = Vec::new();
    let mut text = prompt.to_owned();
    let mut generate = session.generate(&mut sampler);
    for _ in 0..tokens {
        logits.extend(generate.session().logits().iter().map(|logit| logit.to_bits()));
        let Some(generated) = generate.next() else { break };
        text += &generated.to_string();
    }
    text += &generate.flush().to_string();
    text.push('\n');
    Story { text: text.into_bytes(), logits }
}
