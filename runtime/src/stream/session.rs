//! A sequence on its way through a model whose matrices are read.

use super::error::StreamError;
use super::reader::WeightReader;
use super::source::Reading;
use crate::error::{SampleError, SessionError};
use crate::memory::{Layout, SessionOptions};
use crate::model::Model;
use crate::sampler::{NotDrawn, Sampler};
use crate::session::{Finish, Generated, Session};
use crate::tokenizer::stored::StoredTokenizer;
use crate::tokenizer::{Decoder, Piece, Special};

/// Whether this build has tokenizers that are read.
const HAS_STORED: bool = cfg!(feature = "stored-tokenizer");

/// [`Session`] of a streamed model: the same logits, to the bit. What reads weights can fail, and may be
/// tried again then: the session is as it was, but for its logits.
pub struct StreamSession<'m, R> {
    session: Session<'m>,
    /// A tokenizer that is not in memory.
    stored: Option<&'m StoredTokenizer>,
    reader: &'m mut R,
    buffer: &'m mut [u8],
}

impl<R> core::fmt::Debug for StreamSession<'_, R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("StreamSession").field(&self.session).finish()
    }
}

impl<'m, R> StreamSession<'m, R> {
    #[inline(never)]
    pub(super) fn new(
        (model, stored): (&'m Model<'m>, Option<&'m StoredTokenizer>),
        (reader, buffer): (&'m mut R, &'m mut [u8]),
        memory: &'m mut (impl AsMut<[u8]> + ?Sized),
        options: SessionOptions,
    ) -> Result<Self, SessionError> {
        Ok(Self { session: Session::new(model, memory, options)?, stored, reader, buffer })
    }

    /// How many tokens were taken in.
    pub const fn position(&self) -> usize {
        self.session.position()
    }

    /// How many tokens fit.
    pub const fn context(&self) -> usize {
        self.session.context()
    }

    /// How the session's memory is divided.
    pub const fn layout(&self) -> &Layout {
        self.session.layout()
    }

    /// The tokens taken in.
    pub fn tokens(&self) -> &[u32] {
        self.session.tokens()
    }

    /// [`Session::rewind`].
    pub fn rewind(&mut self, position: usize) {
        self.session.rewind(position);
    }

    /// [`Session::logits`].
    pub fn logits(&self) -> &[f32] {
        self.session.logits()
    }

    /// [`Session::sample`].
    ///
    /// # Errors
    /// [`SampleError::NoFiniteLogit`].
    pub fn sample(&mut self, sampler: &mut Sampler) -> Result<u32, SampleError> {
        self.session.sample(sampler)
    }
}

impl<'m, R: WeightReader> StreamSession<'m, R> {
    /// [`Session::step`].
    ///
    /// # Errors
    /// The reader's, or as for [`Session::step`].
    pub fn step(&mut self, token: u32) -> Result<&[f32], StreamError<R::Error>> {
        self.feed(&[token])?;
        Ok(self.logits())
    }

    /// [`Session::feed`]: a prompt's weights are read once for `prompt_block` tokens.
    ///
    /// # Errors
    /// The reader's, or as for [`Session::feed`].
    pub fn feed(&mut self, tokens: &[u32]) -> Result<(), StreamError<R::Error>> {
        self.session.accept(tokens)?;
        self.take_in(tokens.len())
    }

    /// [`Session::prompt`].
    ///
    /// # Errors
    /// The reader's, or as for [`Session::prompt`].
    pub fn prompt(&mut self, text: &str) -> Result<usize, StreamError<R::Error>> {
        self.prompt_with(text, Special::Plain)
    }

    /// [`Session::prompt_with`].
    ///
    /// # Errors
    /// As for [`StreamSession::prompt`].
    #[inline(never)]
    pub fn prompt_with(&mut self, text: &str, special: Special) -> Result<usize, StreamError<R::Error>> {
        let n = match self.stored {
            Some(stored) if HAS_STORED => {
                if special != Special::Plain {
                    return Err(StreamError::SpecialTokens);
                }
                let reader = &mut *self.reader;
                self.session.accept_with(|begins, out, scratch| {
                    stored.encode(reader, text, begins && stored.add_bos, out, scratch)
                })?
            }
            _ => self.session.accept_text(text, special)?,
        };
        self.take_in(n)?;
        Ok(n)
    }

    /// Whether a token ends the text.
    fn is_end(&mut self, token: u32) -> Result<bool, R::Error> {
        match self.stored {
            Some(stored) if HAS_STORED => stored.is_end(self.reader, token),
            _ => Ok(self.session.model().tokenizer().is_some_and(|tokenizer| tokenizer.is_end(token))),
        }
    }

    fn take_in(&mut self, n: usize) -> Result<(), StreamError<R::Error>> {
        let model = self.session.model();
        let mut source = Reading { model, reader: &mut *self.reader, buffer: &mut *self.buffer };
        self.session.take_in_from(&mut source, n).map_err(StreamError::Read)
    }

    /// [`Session::sample_bounded`]: the head is read now.
    ///
    /// # Errors
    /// The reader's, or [`StreamError::Sample`].
    pub fn sample_bounded(&mut self, sampler: &mut Sampler) -> Result<u32, StreamError<R::Error>> {
        let model = self.session.model();
        let mut source = Reading { model, reader: &mut *self.reader, buffer: &mut *self.buffer };
        self.session.sample_from(&mut source, sampler).map_err(|error| match error {
            NotDrawn::Sample(error) => StreamError::Sample(error),
            NotDrawn::Read(error) => StreamError::Read(error),
        })
    }

    /// [`Session::generate`]: the iterator ends after an error.
    pub fn generate<'s>(&'s mut self, sampler: &'s mut Sampler) -> StreamGenerate<'s, 'm, R> {
        let decoder = if self.position() > 1 { Decoder::mid_text() } else { Decoder::new() };
        let sample =
            |session: &mut Self, sampler: &mut Sampler| session.sample(sampler).map_err(StreamError::Sample);
        StreamGenerate { session: self, sampler, decoder, finish: None, sample }
    }

    /// The same with [`StreamSession::sample_bounded`].
    pub fn generate_bounded<'s>(&'s mut self, sampler: &'s mut Sampler) -> StreamGenerate<'s, 'm, R> {
        StreamGenerate { sample: Self::sample_bounded, ..self.generate(sampler) }
    }
}

/// Generated tokens one by one: what [`StreamSession::generate`] gives.
pub struct StreamGenerate<'s, 'm, R: WeightReader> {
    session: &'s mut StreamSession<'m, R>,
    sampler: &'s mut Sampler,
    decoder: Decoder,
    finish: Option<Finish>,
    sample: Sample<'m, R>,
}

type Sample<'m, R> =
    fn(&mut StreamSession<'m, R>, &mut Sampler) -> Result<u32, StreamError<<R as WeightReader>::Error>>;

impl<R: WeightReader> core::fmt::Debug for StreamGenerate<'_, '_, R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("StreamGenerate").field("session", &self.session).finish_non_exhaustive()
    }
}

impl<'m, R: WeightReader> StreamGenerate<'_, 'm, R> {
    /// Why there are no further tokens; `None` while there may be some.
    pub const fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// What is left of an unfinished character (U+FFFD), to be printed at the very end.
    pub fn flush(&mut self) -> Piece<'static> {
        self.decoder.finish()
    }

    /// The session, between two tokens.
    pub const fn session(&self) -> &StreamSession<'m, R> {
        self.session
    }
}

impl<'m, R: WeightReader> StreamGenerate<'_, 'm, R> {
    /// The next token with its text, which is there until the one after it: of any model, and the only way
    /// to the text if the tokenizer is not in memory ([`StreamOptions::stored_tokenizer`]).
    ///
    /// [`StreamOptions::stored_tokenizer`]: super::StreamOptions::stored_tokenizer
    pub fn next_text(&mut self) -> Option<Result<Generated<'_>, StreamError<R::Error>>> {
        let token = match self.choose()? {
            Ok(token) => token,
            Err(error) => return Some(Err(error)),
        };
        if let Err(error) = self.take_in(token) {
            return Some(Err(error));
        }
        let piece = match self.session.stored {
            Some(stored) if HAS_STORED => {
                match stored.text_of(self.session.reader, token, self.session.buffer) {
                    Ok(bytes) => {
                        self.decoder.push_text(stored.is_sentencepiece(), stored.add_space_prefix(), bytes)
                    }
                    Err(error) => {
                        self.finish = Some(Finish::ReadFailed);
                        return Some(Err(StreamError::Read(error)));
                    }
                }
            }
            _ => {
                let tokenizer = self.session.session.model().tokenizer();
                tokenizer.map_or(Piece::EMPTY, |tokenizer| self.decoder.push(tokenizer, token))
            }
        };
        Some(Ok(Generated { token, piece }))
    }

    /// The next token, if there is one.
    fn choose(&mut self) -> Option<Result<u32, StreamError<R::Error>>> {
        if self.finish.is_some() {
            return None;
        }
        let chosen = (self.sample)(self.session, self.sampler);
        let chosen = chosen.and_then(|token| match self.session.is_end(token) {
            Ok(end) => Ok((token, end)),
            Err(error) => Err(StreamError::Read(error)),
        });
        match chosen {
            Ok((token, false)) => Some(Ok(token)),
            Ok((_, true)) => {
                self.finish = Some(Finish::EndOfText);
                None
            }
            Err(StreamError::Sample(error)) => {
                self.finish = Some(Finish::Failed(error));
                None
            }
            Err(error) => {
                self.finish = Some(Finish::ReadFailed);
                Some(Err(error))
            }
        }
    }

    /// Takes it in. A token that ends the context is still text; only what would follow it is missing.
    fn take_in(&mut self, token: u32) -> Result<(), StreamError<R::Error>> {
        match self.session.feed(&[token]) {
            Ok(()) => Ok(()),
            Err(StreamError::Step(_)) => {
                self.finish = Some(Finish::ContextFull);
                Ok(())
            }
            Err(error) => {
                self.finish = Some(Finish::ReadFailed);
                Err(error)
            }
        }
    }
}

/// Pieces are empty if the tokenizer is not in memory: [`StreamGenerate::next_text`] has them.
impl<'m, R: WeightReader> Iterator for StreamGenerate<'_, 'm, R> {
    type Item = Result<Generated<'m>, StreamError<R::Error>>;

    fn next(&mut self) -> Option<Self::Item> {
        let token = match self.choose()? {
            Ok(token) => token,
            Err(error) => return Some(Err(error)),
        };
        let tokenizer = self.session.session.model().tokenizer();
        let piece = tokenizer.map_or(Piece::EMPTY, |tokenizer| self.decoder.push(tokenizer, token));
        Some(self.take_in(token).map(|()| Generated { token, piece }))
    }
}
