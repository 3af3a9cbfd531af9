//! Any tokenizer file, recognized by its content.

use std::fs;
use std::path::Path;

use smidgen_runtime::Model;
use smidgen_runtime::format::MAGIC;
use smidgen_runtime::tokenizer::TokenizerSpec;

use super::{TokenizerFileError, huggingface, llama2c, ranks, wordpiece};
use crate::error::{Error, io_at};
use crate::gguf;

/// What else a directory's tokenizer may be called: Llama 3's ranks, llama2.c's file.
const OTHER_NAMES: [&str; 3] = ["vocab.txt", "tokenizer.model", "tokenizer.bin"];

/// Reads the tokenizer at `path`: a `tokenizer.json`; `vocab.json` or `merges.txt`, with the other
/// beside it; BERT's `vocab.txt`, with the `tokenizer_config.json` beside it; a directory with one of
/// these; llama2.c's `tokenizer.bin`, llm.c's tokenizer, a tiktoken file of ranks, a GGUF file or a
/// smidgen model file. What it is its content says.
///
/// # Errors
/// [`Error`] names file and field, or says that the file is none of these.
pub fn open(path: &Path) -> Result<TokenizerSpec, Error> {
    if path.is_dir() {
        let is_there = |name: &&str| path.join(name).exists();
        let usual = ["tokenizer.json", "vocab.json", "merges.txt", "encoder.json", "vocab.bpe"];
        return match OTHER_NAMES.iter().find(|name| is_there(name)) {
            Some(name) if !usual.iter().any(is_there) => open(&path.join(name)),
            _ => Ok(huggingface::read_directory(path)?),
        };
    }
    let bytes = fs::read(path).map_err(io_at(path))?;
    let missing = |what: &str| {
        let reason = format!("{what} without a tokenizer");
        Error::Tokenizer(TokenizerFileError::field(path, "tokenizer", reason))
    };
    if bytes.starts_with(b"GGUF") {
        return gguf::read_tokenizer(path)?.ok_or_else(|| missing("is a GGUF file"));
    }
    if bytes.starts_with(&MAGIC) {
        return from_model(path)?.ok_or_else(|| missing("is a model file"));
    }
    if bytes.starts_with(&ranks::LLMC_MAGIC.to_le_bytes()) {
        return Ok(ranks::parse_llmc(&bytes, path)?);
    }
    if huggingface::is_vocab_or_merges(path) {
        return Ok(huggingface::read_vocab_and_merges(path)?);
    }
    if bytes.trim_ascii_start().starts_with(b"{") {
        return Ok(huggingface::read_file(path)?);
    }
    if is_sentencepiece_model(&bytes) {
        let what =
            "SentencePiece's own file (save the tokenizer as tokenizer.json with Python's transformers)";
        return Err(TokenizerFileError::unsupported(path, "content", what).into());
    }
    let is_vocab_txt = path.file_name().is_some_and(|name| name == "vocab.txt");
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.lines().next().is_some_and(is_rank_line) => Ok(ranks::parse_tiktoken(text, path)?),
        Ok(text) if is_vocab_txt || text.lines().any(|line| line == "[UNK]") => {
            let config = path.with_file_name("tokenizer_config.json");
            let options = match is_vocab_txt && config.exists() {
                true => huggingface::bert_options(&config)?,
                false => wordpiece::Options::default(),
            };
            Ok(wordpiece::parse(text, path, &options)?)
        }
        _ => match llama2c::count_tokens(&bytes) {
            Some(n) => Ok(llama2c::parse(&bytes, path, n)?),
            None => {
                let reason = "is no tokenizer.json, vocab.txt, tokenizer.bin, llm.c tokenizer, tiktoken, GGUF or \
                              model file";
                Err(TokenizerFileError::field(path, "content", reason).into())
            }
        },
    }
}

/// A tiktoken file begins with `IQ== 0`.
fn is_rank_line(line: &str) -> bool {
    let base64 = |text: &str| {
        text.len().is_multiple_of(4)
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
    };
    line.trim().split_once(' ').is_some_and(|(token, rank)| base64(token) && rank.parse::<u32>().is_ok())
}

/// A `tokenizer.model`: a protobuf whose first field is a list of pieces, each a text, a score and a type.
fn is_sentencepiece_model(bytes: &[u8]) -> bool {
    matches!(bytes, [0x0a, length, 0x0a, text, ..] if text < length && *length < 128)
}

fn from_model(path: &Path) -> Result<Option<TokenizerSpec>, Error> {
    let bytes = crate::source::map(path)?;
    let model = Model::load(&bytes).map_err(|source| Error::Load { path: path.to_path_buf(), source })?;
    Ok(model.tokenizer().map(TokenizerSpec::from_tokenizer))
}
