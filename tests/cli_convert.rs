//! `smidgen convert`, `inspect` and `eval` as their users meet them.

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use smidgen_converter::{Checkpoint, TensorSource, huggingface};
use smidgen_runtime::format::{Need, Role, RopeScaling};
use smidgen_runtime::tokenizer::{
    Normalizer, PreTokenizer, TokenSpec, TokenType, TokenizerKind, TokenizerSpec,
};
use smidgen_runtime::{Architecture, Config};

/// A directory with a Llama of random weights and a vocabulary of all bytes.
fn write_checkpoint(directory: &Path) {
    let config = Config {
        architecture: Architecture::Llama,
        n_layers: 2,
        dim: 32,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
        ffn_dim: 48,
        vocab_size: 256,
        context_len: 64,
        norm_eps: 1e-5,
    };
    let mut checkpoint = Checkpoint::new(config, 10_000.0, RopeScaling::None);
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    for role in (0..64).filter_map(Role::from_u8) {
        if role.need(Architecture::Llama) == Need::Must && role != Role::RopeFrequencies {
            for layer in 0..if role.is_per_layer() { 2 } else { 1 } {
                let (rows, cols) = role.shape(&config);
                let values = (0..rows * cols).map(|_| random()).collect();
                checkpoint.tensors.insert((layer, role), TensorSource::owned(rows, cols, values));
            }
        }
    }
    let token = |byte| TokenSpec { bytes: vec![byte], token_type: TokenType::Normal, score: 0.0 };
    checkpoint.tokenizer = Some(TokenizerSpec {
        kind: TokenizerKind::ByteLevelBpe,
        pre_tokenizer: PreTokenizer::Gpt2,
        normalizer: Normalizer::None,
        add_bos: false,
        add_space_prefix: false,
        ignore_merges: false,
        tokens: (0..=255).map(token).collect(),
        merges: Vec::new(),
        bos: None,
        unknown: None,
        end_tokens: vec![0],
        added: Vec::new(),
    });
    huggingface::write_directory(directory, &checkpoint).unwrap();
}

fn smidgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smidgen"));
    command.args(arguments);
    command
}

fn json(arguments: &[&str]) -> Value {
    let output = smidgen(arguments).assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output).expect("one JSON object on stdout")
}

/// The one line of an error, with nothing on stdout.
fn error(arguments: &[&str]) -> String {
    let assert = smidgen(arguments).assert().code(1).stdout("");
    let text = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    let line = text.lines().last().unwrap_or_default().to_owned();
    assert!(line.starts_with("error: "), "{text}");
    line
}

#[test]
fn a_checkpoint_becomes_a_file_that_is_as_good() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    write_checkpoint(&directory.path().join("model"));
    std::fs::write(at("text"), "Once upon a time there was a small model. ".repeat(20)).unwrap();
    let (model, text) = (at("model"), at("text"));

    let exact = json(&["eval", &model, "--data", &text, "--json"]);
    assert_eq!(exact["tokens"], 839, "every byte but the first is predicted");
    let exact_loss = exact["nats_per_token"].as_f64().unwrap();
    let bits = exact["bits_per_byte"].as_f64().unwrap();
    assert!((bits - exact_loss / 2_f64.ln()).abs() < 1e-9, "a token is a byte here");
    for (quant, most_bits, most_loss) in
        [("f32", 33.0, 1e-9), ("f16", 18.0, 0.01), ("q8", 9.5, 0.03), ("q4", 8.0, 0.3)]
    {
        let out = at(quant);
        let report = json(&["convert", &model, "-o", &out, "--quant", quant, "--eval", &text, "--json"]);
        let length = std::fs::metadata(&out).unwrap().len();
        assert_eq!(report["file_bytes"], length);
        let bits = report["bits_per_weight"].as_f64().unwrap();
        assert!(bits > 4.0 && bits < most_bits, "{quant}: {bits}");
        let before = report["quality"]["first_nats"].as_f64().unwrap();
        let after = report["quality"]["second_nats"].as_f64().unwrap();
        assert!((before - exact_loss).abs() < 1e-9);
        let perplexity = report["quality"]["second_perplexity"].as_f64().unwrap();
        assert!((perplexity.ln() - after).abs() < 1e-9, "{perplexity}");
        assert!((after - before).abs() <= most_loss, "{quant}: {before} became {after}");
        let again = json(&["eval", &out, "--data", &text, "--json"]);
        assert!((again["nats_per_token"].as_f64().unwrap() - after).abs() < 1e-9);

        let inspected = json(&["inspect", &out, "--json"]);
        assert_eq!(inspected["parameters"], report["parameters"]);
        assert_eq!(inspected["file_bytes"], length);
        assert_eq!(
            inspected["tensors"].as_array().unwrap().len(),
            report["tensors"].as_array().unwrap().len()
        );
        assert_eq!(inspected["tokenizer"]["tokens"], 256);
        assert_eq!(inspected["memory"][0]["context"], 64);
        let q = inspected["tensors"].as_array().unwrap().iter().find(|tensor| tensor["name"] == "q").unwrap();
        assert_eq!(q["type"], quant);
    }
    let agreement = json(&["eval", &at("f32"), "--data", &text, "--against", &at("f32"), "--json"]);
    assert_eq!(agreement["same_top"], 1.0);
    // The same bytes whenever it is done.
    let out = at("again");
    smidgen(&["convert", &model, "-o", &out]).assert().success();
    assert!(std::fs::read(at("q8")).unwrap() == std::fs::read(&out).unwrap());
    // And from the model file back: what is f32 stays.
    smidgen(&["convert", &at("f32"), "-o", &out, "--quant", "f32"]).assert().success();
    assert!(std::fs::read(at("f32")).unwrap() == std::fs::read(&out).unwrap());
}

#[test]
fn a_text_calibrates() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    write_checkpoint(&directory.path().join("model"));
    std::fs::write(at("text"), "Once upon a time there was a small model. ".repeat(20)).unwrap();
    let (model, text, out) = (at("model"), at("text"), at("out"));
    let convert = |more: &[&str]| {
        let arguments = [&["convert", &model, "-o", &out, "--quant", "q4"], more].concat();
        let stderr = smidgen(&arguments).assert().success().get_output().stderr.clone();
        (std::fs::read(&out).unwrap(), String::from_utf8(stderr).unwrap())
    };
    let (plain, _) = convert(&[]);
    let (gptq, note) = convert(&["--calibrate", &text]);
    assert!(note.contains("calibrated with 840 tokens of "), "{note}");
    let (weighted, _) = convert(&["--calibrate", &text, "--calibration", "weighted"]);
    assert!(plain != gptq && gptq != weighted && weighted != plain);
    assert!(convert(&["--calibrate", &text, "--calibration", "gptq"]).0 == gptq);
    std::fs::remove_file(&out).unwrap();
    assert!(error(&["convert", &model, "-o", &out, "--calibrate", &at("no")]).contains("no: No such file"));
    let none = error(&["convert", &model, "-o", &out, "--tokenizer", "none", "--calibrate", &text]);
    assert!(none.contains("--calibrate: the checkpoint has no tokenizer"), "{none}");
    assert!(!Path::new(&out).exists());
    smidgen(&["convert", &model, "-o", &out, "--calibration", "gptq"]).assert().code(2);
}

#[test]
fn people_get_tables() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    write_checkpoint(&directory.path().join("model"));
    let text = |arguments: &[&str]| {
        String::from_utf8(smidgen(arguments).assert().success().get_output().stdout.clone()).unwrap()
    };
    let converted =
        text(&["convert", &at("model"), "-o", &at("file"), "--quant", "q4", "--keep", "down.1=f16"]);
    for part in ["embedding", "q8", "q4", "f16", "bits a weight", "context 64"] {
        assert!(converted.contains(part), "{part} in {converted}");
    }
    for path in [at("model"), at("file")] {
        let inspected = text(&["inspect", &path, "--tensors"]);
        for part in ["llama", "2 layers, width 32", "ByteLevelBpe of 256 tokens", "down.1", "kv cache q8"] {
            assert!(inspected.contains(part), "{part} in {inspected}");
        }
    }
}

#[test]
fn errors_name_their_file_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (model, out) = (at("model"), at("out"));
    assert!(error(&["convert", &model, "-o", &out]).contains("model: No such file"));
    write_checkpoint(&directory.path().join("model"));
    assert!(
        error(&["convert", &model, "-o", &out, "--keep", "head=q8"]).contains("the model has no such tensor")
    );
    assert!(error(&["convert", &model, "-o", &out, "--context", "65"]).contains("allows 1 to 64"));
    assert!(
        error(&["convert", &model, "-o", &out, "--eval", &at("no text")]).contains("no text: No such file")
    );
    assert!(error(&["convert", &model, "-o", &at("none/out")]).contains("none: "));
    assert!(error(&["convert", &model, "-o", &model]).contains("model: "));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
    smidgen(&["convert", &model, "-o", &out]).assert().success();
    let mut file = std::fs::read(&out).unwrap();
    *file.last_mut().unwrap() ^= 1;
    std::fs::write(&out, file).unwrap();
    assert!(error(&["inspect", &out]).contains("checksum mismatch"));
    assert!(error(&["eval", &out, "--data", &out]).contains("out: stream did not contain valid UTF-8"));
    // Wrong usage has a code of its own.
    for arguments in
        [&["convert", &model][..], &["convert", &model, "-o", &out, "--quant", "q5"], &["eval", &model]]
    {
        smidgen(arguments).assert().code(2);
    }
    let usage = smidgen(&["convert", &model, "-o", &out, "--keep", "wte=q8"]).assert().code(2);
    assert!(String::from_utf8_lossy(&usage.get_output().stderr).contains("none of the matrices embedding"));
}
