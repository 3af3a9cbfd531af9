//! A sequence in progress: its tokens, its cache, its memory.

use crate::cast;
use crate::error::{SampleError, SessionError, StepError};
use crate::forward::{InMemory, Pass, Source};
use crate::kernels::Level;
use crate::memory::{Layout, SessionOptions, State};
use crate::model::Model;
use crate::sampler::{Logits, NotDrawn, Sampler};
use crate::tokenizer::{Decoder, Piece, Special};
use crate::workers::{Serial, Workers};

/// One sequence of tokens on its way through a model.
///
/// A session owns nothing: model and memory are the caller's. The same tokens give the same logits,
/// to the bit, however they are fed (one by one or as a prompt), on any level, with any workers.
pub struct Session<'m> {
    model: &'m Model<'m>,
    layout: Layout,
    options: SessionOptions,
    state: State<'m>,
    workers: &'m dyn Workers,
    level: Level,
    /// Tokens taken in.
    position: usize,
    /// Where the last forward pass began, and with how many tokens: logits can be asked for those.
    last_block: (usize, usize),
}

impl core::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session")
            .field("position", &self.position)
            .field("options", &self.options)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

impl<'m> Session<'m> {
    /// Begins an empty sequence in the caller's memory, with the best kernels of this CPU, on the
    /// caller's core alone.
    ///
    /// # Errors
    /// [`SessionError`] with the exact number of bytes needed if `memory` is too small.
    pub fn new(
        model: &'m Model<'m>,
        memory: &'m mut (impl AsMut<[u8]> + ?Sized),
        options: SessionOptions,
    ) -> Result<Self, SessionError> {
        Self::begin(model, memory.as_mut(), options, Level::detect(), &Serial)
    }

    /// The same with kernels of the caller's choice and with other cores. At most
    /// `options.workers` jobs run side by side in attention, and [`Workers::count`] elsewhere.
    ///
    /// # Errors
    /// As for [`Session::new`].
    #[cfg(feature = "workers")]
    pub fn with_workers(
        model: &'m Model<'m>,
        memory: &'m mut (impl AsMut<[u8]> + ?Sized),
        options: SessionOptions,
        level: Level,
        workers: &'m dyn Workers,
    ) -> Result<Self, SessionError> {
        Self::begin(model, memory.as_mut(), options, level, workers)
    }

    #[inline(never)]
    fn begin(
        model: &'m Model<'m>,
        memory: &'m mut [u8],
        options: SessionOptions,
        level: Level,
        workers: &'m dyn Workers,
    ) -> Result<Self, SessionError> {
        let layout = Layout::new(model.config(), model.kv_type(), options)?;
        Ok(Self {
            model,
            layout,
            options,
            state: State::carve(memory, &layout)?,
            workers,
            level,
            position: 0,
            last_block: (0, 0),
        })
    }

    /// The model.
    pub const fn model(&self) -> &'m Model<'m> {
        self.model
    }

    /// How many tokens were taken in.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// How many tokens fit.
    pub const fn context(&self) -> usize {
        self.options.context
    }

    /// How the memory is divided.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The tokens taken in.
    pub fn tokens(&self) -> &[u32] {
        self.state.tokens.get(..self.position).unwrap_or(&[])
    }

    /// Takes the sequence back to its first `position` tokens; what came after is forgotten.
    /// The logits are those of the last step until the next one.
    pub fn rewind(&mut self, position: usize) {
        self.position = self.position.min(position);
    }

    /// Makes `tokens` the whole sequence: what it shares with the present one from the beginning
    /// stays in the cache, and only the rest goes through the model (at least the last token, whose
    /// logits are wanted). This is how a chat's next turn, or a server's next request, reuses the last.
    /// Returns how many tokens were reused. The logits are those of a new session, to the bit.
    ///
    /// # Errors
    /// As for [`Session::feed`]; the session is unchanged then.
    pub fn go_on_as(&mut self, tokens: &[u32]) -> Result<usize, StepError> {
        let shared = self.tokens().iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let reused = shared.min(tokens.len().saturating_sub(1));
        let before = core::mem::replace(&mut self.position, reused);
        match self.feed(tokens.get(reused..).unwrap_or(&[])) {
            Ok(()) => Ok(reused),
            Err(error) => {
                self.position = before;
                Err(error)
            }
        }
    }

    /// Makes room in a full context: forgets all but the first `keep` tokens and the latter half of
    /// the others, which go through the model again at their new positions. So the session is then,
    /// to the bit, a new one that was fed what is left; moving cached keys would be faster and not
    /// exact. Returns how many tokens were forgotten: 0 if none could be, and nothing happened then.
    pub fn slide(&mut self, keep: usize) -> usize {
        let keep = keep.min(self.position);
        let recent = (self.position - keep) / 2;
        let from = self.position - recent;
        if recent == 0 || from == keep {
            return 0;
        }
        for i in 0..recent {
            let token = self.state.tokens.get(from + i).copied().unwrap_or(0);
            if let Some(place) = self.state.tokens.get_mut(keep + i) {
                *place = token;
            }
        }
        self.position = keep;
        self.take_in(recent);
        from - keep
    }

    /// Takes in one token and gives the logits of what comes next, `[vocab_size]`.
    ///
    /// # Errors
    /// [`StepError::ContextFull`] or [`StepError::UnknownToken`]; the session is unchanged then.
    pub fn step(&mut self, token: u32) -> Result<&[f32], StepError> {
        self.feed(&[token])?;
        Ok(self.logits())
    }

    /// Takes in tokens, `prompt_block` of them at a time, and computes the logits behind the last.
    ///
    /// # Errors
    /// [`StepError::EmptyPrompt`], [`StepError::ContextFull`] (if they do not all fit) or
    /// [`StepError::UnknownToken`]; the session is unchanged then.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<(), StepError> {
        self.accept(tokens)?;
        self.take_in(tokens.len());
        Ok(())
    }

    /// Puts tokens that the model knows and that fit behind those taken in.
    pub(crate) fn accept(&mut self, tokens: &[u32]) -> Result<(), StepError> {
        let place = self.place_for(tokens.len())?;
        let vocab_size = self.model.config().vocab_size;
        if let Some(&token) = tokens.iter().find(|&&token| token >= vocab_size) {
            return Err(StepError::UnknownToken { token, vocab_size });
        }
        if let Some(place) = self.state.tokens.get_mut(place) {
            place.copy_from_slice(tokens);
        }
        Ok(())
    }

    /// Encodes a text and takes it in; the model's begin-of-text token comes first if the
    /// sequence is empty and the model wants it. Special tokens' texts are ordinary text here.
    /// Returns how many tokens it was.
    ///
    /// # Errors
    /// As for [`Session::feed`], or [`StepError::Encode`]; the session is unchanged then.
    pub fn prompt(&mut self, text: &str) -> Result<usize, StepError> {
        self.prompt_with(text, Special::Plain)
    }

    /// [`Session::prompt`] that says what the texts of special tokens mean.
    ///
    /// # Errors
    /// As for [`Session::prompt`].
    #[inline(never)]
    pub fn prompt_with(&mut self, text: &str, special: Special) -> Result<usize, StepError> {
        let n = self.accept_text(text, special)?;
        self.take_in(n);
        Ok(n)
    }

    /// [`Session::accept`] of a text's tokens; gives their number.
    pub(crate) fn accept_text(&mut self, text: &str, special: Special) -> Result<usize, StepError> {
        let tokenizer = self.model.tokenizer().ok_or(StepError::NoTokenizer)?;
        let add_bos = self.position == 0 && tokenizer.adds_bos();
        let scratch = cast::f32_as_u32_mut(self.state.logits);
        let out = self.state.tokens.get_mut(self.position..).unwrap_or(&mut []);
        let n = tokenizer.encode(text, special, add_bos, out, scratch)?;
        self.place_for(n)?;
        Ok(n)
    }

    /// [`Session::accept_text`] with another tokenizer: `encode` is told whether the sequence is empty, and
    /// gets the tokens' places and scratch memory.
    pub(crate) fn accept_with<E: From<StepError>>(
        &mut self,
        encode: impl FnOnce(bool, &mut [u32], &mut [u32]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let scratch = cast::f32_as_u32_mut(self.state.logits);
        let out = self.state.tokens.get_mut(self.position..).unwrap_or(&mut []);
        let n = encode(self.position == 0, out, scratch)?;
        self.place_for(n)?;
        Ok(n)
    }

    /// Where the next `n` tokens go, if they fit.
    fn place_for(&self, n: usize) -> Result<core::ops::Range<usize>, StepError> {
        if n == 0 {
            return Err(StepError::EmptyPrompt);
        }
        match self.position.checked_add(n) {
            Some(end) if end <= self.options.context => Ok(self.position..end),
            _ => Err(StepError::ContextFull { context: self.options.context }),
        }
    }

    /// Runs the `n` tokens that stand at the present position through the model.
    fn take_in(&mut self, n: usize) {
        let end = self.position + n;
        while self.position < end {
            let n = (end - self.position).min(self.options.prompt_block);
            self.pass(self.position, n, |pass, state| pass.forward(state));
            self.last_block = (self.position, n);
            self.position += n;
        }
        if self.layout.candidates == 0 {
            self.logits_at(self.last_block.1 - 1);
        }
    }

    /// [`Session::take_in`] with matrices from elsewhere. After an error the session is what it was, but
    /// for its logits.
    pub(crate) fn take_in_from<S: Source>(&mut self, source: &mut S, n: usize) -> Result<(), S::Error> {
        let (begin, end) = (self.position, self.position + n);
        let mut at = begin;
        while at < end {
            let n = (end - at).min(self.options.prompt_block);
            let mut done = Ok(());
            self.pass(at, n, |pass, state| {
                done = pass.forward_from(source, state);
                if at + n == end && pass.layout.candidates == 0 && done.is_ok() {
                    done = pass.logits(n - 1, source, state);
                }
            });
            done?;
            self.last_block = (at, n);
            at += n;
        }
        self.position = end;
        Ok(())
    }

    fn pass(&mut self, position: usize, n: usize, run: impl FnOnce(Pass<'_>, &mut State<'m>)) {
        let pass = Pass {
            model: self.model,
            layout: &self.layout,
            workers: self.workers,
            level: self.level,
            position,
            n,
        };
        run(pass, &mut self.state);
    }

    /// Computes the logits behind token `index` of the last block that went through the model.
    fn logits_at(&mut self, index: usize) {
        let (position, n) = self.last_block;
        self.pass(position, n, |pass, state| {
            let Ok(()) = pass.logits(index, &mut InMemory(pass.model), state);
        });
    }

    /// Takes in at most `prompt_block` tokens and calls `each` with every one's index and the
    /// logits behind it: what measuring a model's loss needs.
    ///
    /// # Errors
    /// As for [`Session::feed`]; [`StepError::ContextFull`] too if there are more than `prompt_block`.
    pub fn feed_with_logits(
        &mut self,
        tokens: &[u32],
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<(), StepError> {
        if tokens.len() > self.options.prompt_block {
            return Err(StepError::ContextFull { context: self.options.prompt_block });
        }
        self.feed(tokens)?;
        for index in 0..tokens.len() {
            self.logits_at(index);
            each(index, self.logits());
        }
        Ok(())
    }

    /// The logits behind the last token, `[vocab_size]`: zeros before the first, used up after
    /// [`Session::sample`]. None in a session with [`SessionOptions::candidates`].
    pub fn logits(&self) -> &[f32] {
        if self.layout.candidates > 0 {
            return &[];
        }
        self.state.logits.get(..self.model.config().vocab_size as usize).unwrap_or(&[])
    }

    /// Draws the next token from the logits, which are used up by it.
    ///
    /// # Errors
    /// [`SampleError::NoFiniteLogit`]; always in a session with [`SessionOptions::candidates`].
    pub fn sample(&mut self, sampler: &mut Sampler) -> Result<u32, SampleError> {
        let there = self.layout.candidates == 0;
        let vocab_size = if there { self.model.config().vocab_size as usize } else { 0 };
        let logits = self.state.logits.get_mut(..vocab_size).unwrap_or(&mut []);
        let tokens = self.state.tokens.get(..self.position).unwrap_or(&[]);
        sampler.sample(logits, tokens)
    }

    /// [`Session::sample`] without all logits: they are computed now, some at a time, mostly once and as
    /// often as it takes to choose what [`Session::sample`] would. Between taking in a token and the next
    /// it may be called repeatedly.
    ///
    /// # Errors
    /// [`SampleError::NoFiniteLogit`], also if the session has taken in nothing yet.
    pub fn sample_bounded(&mut self, sampler: &mut Sampler) -> Result<u32, SampleError> {
        self.sample_from(&mut InMemory(self.model), sampler).map_err(|error| match error {
            NotDrawn::Sample(error) => error,
            NotDrawn::Read(never) => match never {},
        })
    }

    /// [`Session::sample_bounded`] with matrices from elsewhere.
    pub(crate) fn sample_from<S: Source>(
        &mut self,
        source: &mut S,
        sampler: &mut Sampler,
    ) -> Result<u32, NotDrawn<S::Error>> {
        let (begin, n) = self.last_block;
        let index = n.checked_sub(1).ok_or(SampleError::NoFiniteLogit)?;
        let vocab_size = self.model.config().vocab_size as usize;
        // Apart from what a pass needs.
        let candidates = core::mem::take(&mut self.state.candidates);
        let tokens = core::mem::take(&mut self.state.tokens);
        let history = tokens.get(..self.position).unwrap_or(&[]);
        let mut head = Head { session: self, source, begin, index };
        let drawn = sampler.sample_bounded(&mut head, vocab_size, candidates, history);
        (self.state.candidates, self.state.tokens) = (candidates, tokens);
        drawn
    }

    /// Generates until an end-of-text token, the end of the context, or as long as the caller
    /// iterates. The session must have taken in a prompt.
    pub fn generate<'s>(&'s mut self, sampler: &'s mut Sampler) -> Generate<'s, 'm> {
        let decoder = if self.position > 1 { Decoder::mid_text() } else { Decoder::new() };
        Generate { session: self, sampler, decoder, finish: None, slide: None, sample: Session::sample }
    }

    /// The same with [`Session::sample_bounded`].
    pub fn generate_bounded<'s>(&'s mut self, sampler: &'s mut Sampler) -> Generate<'s, 'm> {
        Generate { sample: Session::sample_bounded, ..self.generate(sampler) }
    }
}

/// The logits behind token `index` of the block that began at `begin`, again and again.
struct Head<'s, 'm, S> {
    session: &'s mut Session<'m>,
    source: &'s mut S,
    begin: usize,
    index: usize,
}

impl<S: Source> Logits for Head<'_, '_, S> {
    type Error = S::Error;

    fn pass(&mut self, each: &mut dyn FnMut(u32, &mut [f32])) -> Result<(), S::Error> {
        let mut done = Ok(());
        let (source, index) = (&mut *self.source, self.index);
        self.session.pass(self.begin, index + 1, |pass, state| {
            done = pass.logits_by_slabs(index, source, state, each);
        });
        done
    }
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Finish {
    /// The model said that the text ends.
    EndOfText,
    /// No further token fits into the context.
    ContextFull,
    /// The session had taken in nothing yet, or its logits were no numbers.
    Failed(SampleError),
    /// Weights could not be read ([`crate::stream`]): the generator's last item says why.
    ReadFailed,
}

/// One generated token.
#[derive(Clone, Copy, Debug)]
pub struct Generated<'a> {
    /// Its id.
    pub token: u32,
    /// The text that it completes; empty while a character is unfinished.
    pub piece: Piece<'a>,
}

impl core::fmt::Display for Generated<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.piece.fmt(f)
    }
}

/// Generated tokens one by one: what [`Session::generate`] gives.
#[derive(Debug)]
pub struct Generate<'s, 'm> {
    session: &'s mut Session<'m>,
    sampler: &'s mut Sampler,
    decoder: Decoder,
    finish: Option<Finish>,
    slide: Option<usize>,
    sample: fn(&mut Session<'m>, &mut Sampler) -> Result<u32, SampleError>,
}

impl Generate<'_, '_> {
    /// Does not end when the context is full, but [`Session::slide`]s, keeping the first `keep` tokens.
    #[must_use]
    pub const fn sliding(mut self, keep: usize) -> Self {
        self.slide = Some(keep);
        self
    }

    /// Why there are no further tokens; `None` while there may be some.
    pub const fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// What is left of an unfinished character (U+FFFD), to be printed at the very end.
    pub fn flush(&mut self) -> Piece<'static> {
        self.decoder.finish()
    }

    /// The session, between two tokens.
    pub const fn session(&self) -> &Session<'_> {
        self.session
    }
}

impl<'m> Iterator for Generate<'_, 'm> {
    type Item = Generated<'m>;

    fn next(&mut self) -> Option<Generated<'m>> {
        if self.finish.is_some() {
            return None;
        }
        let token = match (self.sample)(self.session, self.sampler) {
            Ok(token) => token,
            Err(error) => {
                self.finish = Some(Finish::Failed(error));
                return None;
            }
        };
        let model = self.session.model;
        if model.tokenizer().is_some_and(|tokenizer| tokenizer.is_end(token)) {
            self.finish = Some(Finish::EndOfText);
            return None;
        }
        let piece = match model.tokenizer() {
            Some(tokenizer) => self.decoder.push(tokenizer, token),
            None => Piece::EMPTY,
        };
        // A token that ends the context is still text; only what would follow it is missing.
        let full = self.session.position == self.session.context();
        if let (true, Some(keep)) = (full, self.slide) {
            self.session.slide(keep);
        }
        if self.session.feed(&[token]).is_err() {
            self.finish = Some(Finish::ContextFull);
        }
        Some(Generated { token, piece })
    }
}
