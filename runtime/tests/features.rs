//! What this build was compiled without is refused by name, and all else runs.
//!
//! `.ci/run` runs this with several sets of features; with all of them, nothing is refused.

mod common;

use std::io::Cursor;

use common::{AlignedBytes, gpt2, llama};
use smidgen_runtime::config::Config;
use smidgen_runtime::format::writer::{ModelPlan, TensorPlan, WriteError, pack_matrix, write_model};
use smidgen_runtime::format::{DType, KvType, Meta, Need, Role, RopeScaling};
use smidgen_runtime::tokenizer::{
    Added, BuildError, Normalizer, OwnedTokenizer, PreTokenizer, Special, TokenSpec, TokenType,
    TokenizerError, TokenizerKind, TokenizerSpec,
};
use smidgen_runtime::{Architecture, LoadError, Model, Session, SessionError, SessionOptions};

fn file(config: Config, dtype: DType, kv_type: KvType, tokenizer: Option<&OwnedTokenizer>) -> AlignedBytes {
    let mut tensors = Vec::new();
    for role in (0..64).filter_map(Role::from_u8) {
        let layers = match role.need(config.architecture) {
            Need::Must if role.is_per_layer() => config.n_layers,
            Need::Must => 1,
            _ => 0,
        };
        let dtype = if role.is_vector() { DType::F32 } else { dtype };
        tensors.extend((0..layers).map(|layer| TensorPlan { layer, role, dtype }));
    }
    let meta = Meta {
        name: "random",
        source: "random weights",
        writer: "tests",
        chat_template: "",
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        extra: "",
    };
    let tokenizer = tokenizer.map(OwnedTokenizer::data);
    let plan = ModelPlan { config, kv_type, meta, tokenizer, tensors };
    let mut sink = Cursor::new(Vec::new());
    let mut random = common::Random(3);
    write_model(&mut sink, &plan, |tensor, out| {
        let (rows, cols) = tensor.role.shape(&config);
        let values: Vec<f32> = (0..rows * cols).map(|_| random.signed()).collect();
        pack_matrix(tensor.dtype, rows, cols, &values, None, out);
        Ok::<(), WriteError>(())
    })
    .expect("the plan is a valid model");
    AlignedBytes::new(&sink.into_inner())
}

fn tokenizer(kind: TokenizerKind) -> Result<OwnedTokenizer, BuildError> {
    OwnedTokenizer::build(&spec(kind))
}

fn spec(kind: TokenizerKind) -> TokenizerSpec {
    let token = |text: &str, score| TokenSpec { bytes: text.into(), token_type: TokenType::Normal, score };
    let by_merges = kind == TokenizerKind::ByteLevelBpe;
    let bytes = (0..=u8::MAX).map(|byte| TokenSpec {
        bytes: vec![byte],
        token_type: if by_merges { TokenType::Normal } else { TokenType::Byte },
        score: 0.0,
    });
    let mut tokens: Vec<TokenSpec> = bytes.collect();
    if !by_merges {
        tokens.extend([token(" ", -1.0), token("a", -2.0), token("b", -3.0)]);
    }
    tokens.push(token("ab", 0.0));
    TokenizerSpec {
        kind,
        pre_tokenizer: if by_merges { PreTokenizer::Gpt2 } else { PreTokenizer::None },
        normalizer: Normalizer::None,
        add_bos: false,
        add_space_prefix: false,
        ignore_merges: false,
        tokens,
        merges: if by_merges { vec![(97, 98)] } else { vec![] },
        bos: None,
        unknown: None,
        end_tokens: vec![],
        added: vec![],
    }
}

/// Loads, and takes a step, or is refused for the first feature of these that the build lacks.
fn loads_or_is_refused(name: &str, file: &[u8], needed: &[(bool, &'static str)]) {
    let missing = needed.iter().find(|(built, _)| !built);
    match (Model::load(file), missing) {
        (Ok(model), None) => {
            let options = SessionOptions::new(8);
            let mut memory = vec![0; 1 << 18];
            let mut session = Session::new(&model, &mut memory, options).expect(name);
            assert!(session.step(1).expect(name).iter().all(|logit| logit.is_finite()), "{name}");
            if model.tokenizer().is_some() {
                let n = session.prompt("ab").expect(name);
                assert_eq!(n, 1, "{name}");
            }
        }
        (Err(error), Some((_, feature))) => {
            let text = error.to_string();
            assert!(text.contains(&format!("`{feature}`")), "{name}: {text}");
        }
        (Ok(_), Some((_, feature))) => panic!("{name} was loaded without {feature}"),
        (Err(error), None) => panic!("{name}: {error}"),
    }
}

const LLAMA: (bool, &str) = (cfg!(feature = "llama"), "llama");
const GPT2: (bool, &str) = (cfg!(feature = "gpt2"), "gpt2");
const KV_F32: (bool, &str) = (cfg!(feature = "kv-f32"), "kv-f32");
const TYPES: [(DType, (bool, &str)); 4] = [
    (DType::F32, (cfg!(feature = "f32"), "f32")),
    (DType::F16, (cfg!(feature = "f16"), "f16")),
    (DType::Q8, (cfg!(feature = "q8"), "q8")),
    (DType::Q4, (cfg!(feature = "q4"), "q4")),
];

#[test]
fn a_model_loads_exactly_if_its_features_are_there() {
    for (config, architecture) in [(llama(32, 1, (4, 2, 8), 48, 300), LLAMA), (gpt2(32, 1, 4, 300), GPT2)] {
        for (dtype, of_type) in TYPES {
            for (kv_type, of_cache) in [(KvType::Q8, (true, "")), (KvType::F32, KV_F32)] {
                let file = file(config, dtype, kv_type, None);
                let name = format!("{} {} {}", architecture.1, dtype.name(), kv_type.name());
                loads_or_is_refused(&name, &file, &[architecture, of_cache, of_type]);
            }
        }
    }
}

/// Some model that this build runs.
fn runnable() -> Option<(Config, DType)> {
    let (dtype, _) = TYPES.into_iter().find(|(_, (built, _))| *built)?;
    let config = match (LLAMA.0, GPT2.0) {
        (true, _) => llama(32, 1, (4, 2, 8), 48, 300),
        (false, true) => gpt2(32, 1, 4, 300),
        (false, false) => return None,
    };
    Some((config, dtype))
}

#[test]
fn a_tokenizer_loads_exactly_if_its_feature_is_there() {
    let Some((config, dtype)) = runnable() else { return };
    for (kind, feature) in [
        (TokenizerKind::ByteLevelBpe, (cfg!(feature = "bpe"), "bpe")),
        (TokenizerKind::SentencePieceBpe, (cfg!(feature = "sentencepiece"), "sentencepiece")),
    ] {
        // The builder validates its tables as the loader does.
        match tokenizer(kind) {
            Ok(tokenizer) => {
                assert!(feature.0, "{} was taken", feature.1);
                let file = file(config, dtype, KvType::Q8, Some(&tokenizer));
                loads_or_is_refused(feature.1, &file, &[feature]);
            }
            Err(BuildError::Tables(error @ TokenizerError::Unsupported { .. })) if !feature.0 => {
                assert!(error.to_string().contains(&format!("`{}`", feature.1)), "{error}");
            }
            Err(error) => panic!("{}: {error}", feature.1),
        }
    }
}

#[test]
fn a_word_that_a_user_added_needs_its_feature_and_a_control_token_does_not() {
    let kind = match (cfg!(feature = "bpe"), cfg!(feature = "sentencepiece")) {
        (true, _) => TokenizerKind::ByteLevelBpe,
        (false, true) => TokenizerKind::SentencePieceBpe,
        (false, false) => return,
    };
    for token_type in [TokenType::Control, TokenType::UserDefined] {
        let mut spec = spec(kind);
        let id = spec.tokens.len() as u32;
        spec.tokens.push(TokenSpec { bytes: b"<x>".to_vec(), token_type, score: 0.0 });
        spec.added.push(Added::new(id));
        let tokenizer = match OwnedTokenizer::build(&spec) {
            Err(BuildError::Tables(error)) => {
                let has_it = cfg!(feature = "special-tokens");
                assert!(token_type == TokenType::UserDefined && !has_it, "{error}");
                assert!(error.to_string().contains("`special-tokens`"), "{error}");
                continue;
            }
            other => other.expect("the tables fit together"),
        };
        let (mut out, mut scratch) = ([0; 16], [0; 64]);
        let n = tokenizer.tokenizer().encode("ab<x>ab", Special::Plain, false, &mut out, &mut scratch);
        let ids = &out[..n.expect("there is room")];
        match token_type {
            TokenType::UserDefined => assert_eq!(ids, [id - 1, id, id - 1]),
            // In plain text it is text.
            _ => assert_eq!(ids, [id - 1, 60, 120, 62, id - 1]),
        }
    }
}

#[test]
fn a_cache_that_a_session_asks_for_is_refused_by_name() {
    let Some((config, dtype)) = runnable() else { return };
    let file = file(config, dtype, KvType::Q8, None);
    let model = Model::load(&file).expect("it is runnable");
    let options = SessionOptions { kv_type: Some(KvType::F32), ..SessionOptions::new(8) };
    let mut memory = vec![0; 1 << 18];
    match Session::new(&model, &mut memory, options) {
        Ok(_) => assert!(KV_F32.0),
        Err(error) => {
            assert_eq!(error, SessionError::MissingFeature { feature: "kv-f32" });
            assert!(!KV_F32.0 && error.to_string().contains("`kv-f32`"));
        }
    }
}

#[test]
fn the_error_says_what_needs_the_feature() {
    let error = LoadError::MissingFeature { what: "the architecture", feature: "gpt2" };
    let text = "this build lacks the feature `gpt2` of smidgen-runtime, which the architecture needs";
    assert_eq!(error.to_string(), text);
    assert_eq!(Architecture::Gpt2.name(), "gpt2");
}
