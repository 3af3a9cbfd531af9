//! Before the first step: a tokenizer that fits the text, and the text as tokens.

use std::sync::atomic::{AtomicBool, Ordering};

use smidgen_converter::tokenizer::huggingface;
use smidgen_runtime::tokenizer::{CachedEncoder, OwnedTokenizer, PreTokenizer, Special, TokenizerSpec};

use super::checkpoint::share;
use super::config::{DataConfig, RunConfig, TokenizerChoice};
use super::error::TrainError;
use super::folder::RunFolder;
use super::observer::{Event, Observer};
use super::start;
use crate::bpe::{BpeTrainer, char_level};
use crate::data::hash::Hasher;
use crate::data::parts::{for_parts, next_batch};
use crate::data::source::SEPARATOR;
use crate::data::tokens::{Encoder, Encoding};
use crate::data::{Corpus, DataError, Piece, TokenCache, TokenFiles};
use crate::parallel::Pool;
use crate::rng::Rng;

/// Text that a vocabulary is learned from: of more, a sample is taken. More text changes the
/// merges of a small vocabulary hardly at all.
const SAMPLE_BYTES: u64 = 64 << 20;

/// Changes whenever the same text would give other tokens, or files of another form.
const CACHE_VERSION: &[u8] = b"1";

/// A tokenizer and the text as its tokens.
pub(super) struct Prepared {
    pub(super) tokenizer: TokenizerSpec,
    pub(super) tokens: TokenFiles,
}

/// Opens what an earlier process has prepared in the folder, or makes it.
pub(super) fn prepare(
    folder: &RunFolder,
    config: &RunConfig,
    cache: Option<&TokenCache>,
    pool: &Pool,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Prepared, TrainError> {
    let open = || {
        let tokenizer = huggingface::read_directory(folder.path()).map_err(smidgen_converter::Error::from)?;
        Ok(Prepared { tokenizer, tokens: TokenFiles::open(&folder.tokens())? })
    };
    if TokenFiles::exist(&folder.tokens()) && folder.tokenizer().exists() {
        return open();
    }
    let corpus = config.data.corpus(config.training.seed)?;
    let given = config.from.as_deref().map(start::open).transpose()?.and_then(|from| from.tokenizer);
    let entry = match cache {
        Some(cache) => Some((cache, cache_key(config, &corpus, given.as_ref())?)),
        None => None,
    };
    if let Some((cache, key)) = &entry
        && cache.fetch(key, folder.path())?
    {
        return open();
    }
    let tokenizer = match (given, config.data.tokenizer) {
        (Some(tokenizer), _) => tokenizer,
        (None, TokenizerChoice::Bpe) => learn_bpe(&corpus, config.data.vocab_size, pool, stop, observer)?,
        (None, TokenizerChoice::Char) => learn_characters(&corpus, stop, observer)?,
    };
    huggingface::write_directory(&tokenizer, folder.path()).map_err(smidgen_converter::Error::from)?;
    share(folder.path(), &folder.config())?;
    let owned = OwnedTokenizer::build(&tokenizer).map_err(tokenizer_error)?;
    let view = owned.tokenizer();
    let end_of_text = tokenizer.end_tokens.first().copied().or(tokenizer.bos);
    let end_of_text = end_of_text.ok_or_else(|| tokenizer_error("it has no token that ends a text"))?;
    let encoding = Encoding {
        vocab_size: view.n_tokens(),
        end_of_text,
        new_encoder: &|| -> Encoder<'_> {
            let mut encoder = CachedEncoder::new(view);
            Box::new(move |text, ids| {
                encoder.encode(text, Special::Plain, false, ids).map_err(|error| error.to_string())
            })
        },
    };
    let mut progress = |done, total| observer.notice(Event::Tokenizing { done, total });
    let context = config.model.context as usize;
    let tokens = TokenFiles::build(&corpus, &encoding, &folder.tokens(), context, pool, stop, &mut progress)?;
    if let Some((cache, key)) = &entry {
        cache.add(key, folder.path(), &["tokenizer.json", "tokenizer_config.json"]);
    }
    Ok(Prepared { tokenizer, tokens })
}

/// A name for everything that decides tokenizer and tokens.
fn cache_key(
    config: &RunConfig,
    corpus: &Corpus,
    given: Option<&TokenizerSpec>,
) -> Result<String, TrainError> {
    let mut hasher = Hasher::new();
    hasher.field(CACHE_VERSION).bytes(&config.model.context.to_le_bytes());
    match given {
        Some(spec) => {
            let json = huggingface::to_json(spec).map_err(smidgen_converter::Error::from)?;
            hasher.field(b"given").field(json.as_bytes());
            // What tokenizer.json does not say.
            hasher.field(format!("{:?} {:?} {}", spec.bos, spec.end_tokens, spec.add_bos).as_bytes());
        }
        None => {
            let DataConfig { tokenizer, vocab_size, .. } = &config.data;
            hasher.field(format!("{tokenizer:?} {vocab_size}").as_bytes());
        }
    }
    corpus.hash(&mut hasher)?;
    Ok(hasher.finish())
}

fn tokenizer_error(why: impl ToString) -> TrainError {
    TrainError::Tokenizer(why.to_string())
}

/// Calls `each` with all batches of text, of a large corpus only with a sample of its pieces.
fn read_sample(
    corpus: &Corpus,
    sample: u64,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
    mut each: impl FnMut(Vec<Piece>),
) -> Result<(), TrainError> {
    let total = corpus.total_bytes();
    let mut pieces = corpus.pieces();
    let mut number = 0;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(DataError::Stopped.into());
        }
        observer.notice(Event::LearningVocabulary { done: pieces.bytes_read().min(total), total });
        let mut batch = next_batch(&mut pieces)?;
        if batch.is_empty() {
            return Ok(());
        }
        // By number and not by place, so that the sample is spread over the whole text.
        batch.retain(|_| {
            number += 1;
            total <= sample || Rng::at(0x73616d70, number).below(total as usize) < sample as usize
        });
        each(batch);
    }
}

fn learn_bpe(
    corpus: &Corpus,
    vocab_size: u32,
    pool: &Pool,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<TokenizerSpec, TrainError> {
    let new = || BpeTrainer::new(vocab_size as usize, PreTokenizer::Gpt2);
    let mut trainers: Vec<_> = (0..pool.threads()).map(|_| new()).collect();
    read_sample(corpus, SAMPLE_BYTES, stop, observer, |batch| {
        for_parts(pool, &batch, &mut trainers, |trainer, part| {
            part.iter().for_each(|piece| trainer.feed(&piece.text));
        });
    })?;
    let mut all = new();
    trainers.iter().for_each(|trainer| all.absorb(trainer));
    let mut spec = all.finish(&[SEPARATOR]).map_err(tokenizer_error)?;
    spec.add_bos = true;
    Ok(spec)
}

/// All characters of the whole text: one that a sample missed could never be encoded.
fn learn_characters(
    corpus: &Corpus,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<TokenizerSpec, TrainError> {
    let mut seen = std::collections::BTreeSet::new();
    read_sample(corpus, u64::MAX, stop, observer, |batch| {
        batch.iter().for_each(|piece| seen.extend(piece.text.chars()));
    })?;
    let all: String = seen.into_iter().collect();
    let mut spec = char_level([&all[..]], &[SEPARATOR]).map_err(tokenizer_error)?;
    spec.add_bos = true;
    Ok(spec)
}
