//! `smidgen explain`: what a text is to a model, what it would learn from it, and how it chooses
//! the next token, with every number in sight.

mod math;
mod page;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use serde::Serialize;
use smidgen_runtime::tokenizer::{CachedEncoder, Special, TokenType, Tokenizer};
use smidgen_runtime::{Layout, Level, Sampler, SamplerOptions, Serial, SessionOptions};

use super::generate::name_flag;
use super::open::{self, SessionMemory};

/// Show how a language model sees a text, learns from it and goes on from it.
///
/// Without a model: the training pairs that a text becomes. With one: its tokens, its loss at each
/// place, and what softmax, temperature and top-p make of its logits. With --logits: the same
/// arithmetic for numbers of your own.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  smidgen explain 'Hello'
  smidgen explain 'Once upon a time' --model story.smidgen --temperature 0.5
  smidgen explain --logits 3.2,1.3,-2.1")]
pub struct Args {
    /// The text.
    #[arg(required_unless_present = "logits", conflicts_with = "logits", allow_hyphen_values = true)]
    text: Option<String>,
    /// A model file, for its tokens and its probabilities.
    #[arg(long, value_name = "FILE", conflicts_with = "logits")]
    model: Option<PathBuf>,
    /// Logits to explain instead of a text, with commas between.
    #[arg(long, value_name = "X,…", value_delimiter = ',', allow_hyphen_values = true)]
    logits: Vec<f64>,
    /// 0 to 2: below 1 sharpens, above 1 flattens, 0 always takes the most probable token.
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f32,
    /// 0 to 1: choose among the fewest most probable tokens that together have this probability.
    #[arg(long, value_name = "P", default_value_t = 0.9, allow_negative_numbers = true)]
    top_p: f32,
    /// How many of the most probable tokens to show.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Print one JSON object, with every place of the text.
    #[arg(long)]
    json: bool,
}

/// One token of the text.
#[derive(Clone, Debug, Serialize)]
struct Token {
    id: u32,
    /// As people read it: quoted, or in brackets what is no text.
    text: String,
}

/// What is learned at one place: having read everything before it, say this token.
#[derive(Debug, Serialize)]
struct Pair {
    /// What was read, as text.
    input: String,
    target: Token,
    /// What a model makes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<Score>,
}

/// How well a model does at one place.
#[derive(Debug, Serialize)]
struct Score {
    /// The true token's probability, and its loss in nats.
    probability: f64,
    loss: f64,
    /// Probability minus one for the true token; the largest of the others.
    slope_of_target: f64,
    rival: Token,
    slope_of_rival: f64,
}

/// One token that may come next.
#[derive(Debug, Serialize)]
struct Candidate {
    token: Token,
    logit: f64,
    softmax: f64,
    with_temperature: f64,
    with_top_p: f64,
    /// The loss if this is what comes.
    loss_if_true: f64,
}

/// What may come next, the most probable first.
#[derive(Debug, Serialize)]
struct Next {
    temperature: f64,
    top_p: f64,
    /// Tokens that can be chosen at all with this top-p.
    kept: usize,
    vocab_size: usize,
    candidates: Vec<Candidate>,
}

/// Everything there is to say; what is missing was not asked for.
#[derive(Debug, Default, Serialize)]
struct Explanation {
    text: Option<String>,
    model: Option<String>,
    /// What the tokens are: `characters`, or the `model`'s own.
    tokens_are: &'static str,
    tokens: Vec<Token>,
    pairs: Vec<Pair>,
    mean_loss: Option<f64>,
    next: Option<Next>,
}

/// Runs the command.
///
/// # Errors
/// Names the flag or file and the number that is wrong.
pub fn run(args: Args) -> Result<()> {
    let options =
        SamplerOptions { temperature: args.temperature, top_p: args.top_p, ..SamplerOptions::default() };
    Sampler::new(options, 0).map_err(name_flag)?;
    let text = args.text.as_deref().unwrap_or("");
    let explanation = match &args.model {
        _ if !args.logits.is_empty() => of_logits(&args)?,
        Some(path) => of_model(&args, path, text)?,
        None => of_characters(text)?,
    };
    let page = if args.json {
        serde_json::to_string(&explanation)? + "\n"
    } else if args.logits.is_empty() {
        page::of_text(&explanation)
    } else {
        page::of_logits(&explanation)
    };
    Ok(io::stdout().lock().write_all(page.as_bytes())?)
}

fn of_logits(args: &Args) -> Result<Explanation> {
    if let Some(i) = args.logits.iter().position(|logit| !logit.is_finite()) {
        bail!("--logits: number {} is {}, must be finite", i + 1, args.logits[i]);
    }
    let name = |id: usize| Token { id: id as u32, text: id.to_string() };
    let next = next(&args.logits, args, args.logits.len(), name);
    Ok(Explanation { tokens_are: "numbers", next: Some(next), ..Explanation::default() })
}

/// Every character a token, as in the smallest models that people train.
fn of_characters(text: &str) -> Result<Explanation> {
    if text.is_empty() {
        bail!("the text is empty: there is nothing to learn from it");
    }
    let tokens: Vec<Token> = text
        .chars()
        .map(|c| Token { id: u32::from(c), text: page::quoted(c.to_string().as_bytes()) })
        .collect();
    let ends = text.char_indices().map(|(at, _)| at).skip(1);
    let pairs = ends
        .zip(&tokens[1..])
        .map(|(end, target)| Pair { input: text[..end].into(), target: target.clone(), score: None })
        .collect();
    Ok(Explanation {
        text: Some(text.into()),
        tokens_are: "characters",
        tokens,
        pairs,
        ..Explanation::default()
    })
}

fn of_model(args: &Args, path: &Path, text: &str) -> Result<Explanation> {
    let file = open::open(path)?;
    let model = open::load(&file)?;
    let shown = path.display();
    let tokenizer = open::tokenizer(&file, &model)?;
    let ids = encode(&tokenizer, text).map_err(|error| anyhow!("{shown}: {error:#}"))?;
    let most = model.config().context_len as usize;
    if ids.len() > most {
        bail!("the text has {} tokens, and {shown} allows 1 to {most}", ids.len());
    }
    let prompt_block = open::prompt_block(&model);
    let options = SessionOptions { prompt_block, ..SessionOptions::new(ids.len()) };
    let layout = Layout::new(model.config(), model.kv_type(), options)?;
    let mut memory = SessionMemory::new(&layout)?;
    let mut session = memory.session(&model, options, Level::detect(), &Serial)?;

    let mut pairs = Vec::new();
    let mut last = Vec::new();
    for (block, part) in ids.chunks(prompt_block).enumerate() {
        session.feed_with_logits(part, |index, logits| {
            let logits: Vec<f64> = logits.iter().copied().map(f64::from).collect();
            let place = block * prompt_block + index;
            match ids.get(place + 1) {
                Some(&target) => pairs.push(Pair {
                    input: read_so_far(&tokenizer, &ids[..=place]),
                    target: token(&tokenizer, target),
                    score: Some(score(&tokenizer, &logits, target)),
                }),
                None => last = logits,
            }
        })?;
    }
    let losses: Vec<f64> = pairs.iter().filter_map(|pair| Some(pair.score.as_ref()?.loss)).collect();
    let name = |id: usize| token(&tokenizer, id as u32);
    let meta_name = model.meta().name;
    Ok(Explanation {
        text: Some(text.into()),
        model: Some(if meta_name.is_empty() { shown.to_string() } else { meta_name.into() }),
        tokens_are: "model",
        tokens: ids.iter().map(|&id| token(&tokenizer, id)).collect(),
        mean_loss: (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64),
        pairs,
        next: Some(next(&last, args, args.top.into(), name)),
    })
}

/// The text as the model reads it in training: its beginning first, if the model has a token for it.
fn encode(tokenizer: &Tokenizer<'_>, text: &str) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    CachedEncoder::new(*tokenizer).encode(text, Special::Parsed, tokenizer.adds_bos(), &mut ids)?;
    if ids.is_empty() {
        return super::generate::encode(tokenizer, "", Special::Parsed);
    }
    Ok(ids)
}

fn token(tokenizer: &Tokenizer<'_>, id: u32) -> Token {
    let bytes = tokenizer.bytes(id);
    let text = match tokenizer.token_type(id) {
        TokenType::Normal | TokenType::UserDefined | TokenType::Byte => page::quoted(bytes),
        _ if bytes.is_empty() => format!("<{id}>"),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    Token { id, text }
}

fn read_so_far(tokenizer: &Tokenizer<'_>, ids: &[u32]) -> String {
    let mut decoder = smidgen_runtime::tokenizer::Decoder::new();
    let mut text: String = ids.iter().map(|&id| decoder.push(tokenizer, id).to_string()).collect();
    text += &decoder.finish().to_string();
    text
}

fn score(tokenizer: &Tokenizer<'_>, logits: &[f64], target: u32) -> Score {
    let probabilities = math::softmax(logits);
    let slope = math::gradient(&probabilities, target as usize);
    let rival = math::ranked(&slope)[0];
    Score {
        probability: probabilities[target as usize],
        loss: math::cross_entropy(probabilities[target as usize]),
        slope_of_target: slope[target as usize],
        rival: token(tokenizer, rival as u32),
        slope_of_rival: slope[rival],
    }
}

fn next(logits: &[f64], args: &Args, top: usize, name: impl Fn(usize) -> Token) -> Next {
    let softmax = math::softmax(logits);
    let with_temperature = math::with_temperature(logits, args.temperature.into());
    let with_top_p = math::with_top_p(&with_temperature, args.top_p.into());
    // For people: 0.9, not what the nearest f32 is in f64.
    let plain = |x: f32| x.to_string().parse().unwrap_or(f64::from(x));
    Next {
        temperature: plain(args.temperature),
        top_p: plain(args.top_p),
        kept: with_top_p.iter().filter(|&&p| p > 0.0).count(),
        vocab_size: logits.len(),
        candidates: math::ranked(logits)
            .into_iter()
            .take(top)
            .map(|i| Candidate {
                token: name(i),
                logit: logits[i],
                softmax: softmax[i],
                with_temperature: with_temperature[i],
                with_top_p: with_top_p[i],
                loss_if_true: math::cross_entropy(softmax[i]),
            })
            .collect(),
    }
}
