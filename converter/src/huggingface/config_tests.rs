use std::path::PathBuf;

use super::*;

fn parse_text(text: &str) -> Result<HfConfig, Error> {
    parse(Path::new("config.json"), &serde_json::from_str(text).unwrap())
}

/// The message of a configuration that must be refused.
fn refused(text: &str) -> String {
    parse_text(text).expect_err(text).to_string()
}

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/hf_tiny").join(name);
    let there = path.exists();
    if !there {
        eprintln!("SKIPPED: {} is not there", path.display());
    }
    there.then_some(path)
}

/// Llama with `keys` instead of or besides the ordinary ones.
fn llama_with(keys: &str) -> String {
    let comma = if keys.is_empty() { "" } else { "," };
    format!(r#"{{"model_type": "llama"{comma} {keys}}}"#)
}

#[test]
fn absent_and_null_keys_have_transformers_defaults() {
    let llama = parse_text(r#"{"model_type": "llama", "num_key_value_heads": null}"#).unwrap();
    let wanted = Config {
        architecture: Architecture::Llama,
        n_layers: 32,
        dim: 4096,
        n_heads: 32,
        n_kv_heads: 32,
        head_dim: 128,
        ffn_dim: 11_008,
        vocab_size: 32_000,
        context_len: 2048,
        norm_eps: 1e-6,
    };
    assert_eq!(llama.config, wanted);
    assert_eq!((llama.rope_theta, llama.rope_scaling, llama.tied), (10_000.0, RopeScaling::None, false));
    let gpt2 = parse_text(r#"{"model_type": "gpt2", "n_inner": null, "n_embd": 512, "n_head": 8}"#).unwrap();
    assert_eq!((gpt2.config.ffn_dim, gpt2.config.head_dim, gpt2.config.vocab_size), (2048, 64, 50_257));
    assert_eq!((gpt2.config.norm_eps, gpt2.tied), (1e-5, true));
    // 8 key heads where the key is absent, as many as heads where it is null.
    let mistral = |keys| parse_text(&format!(r#"{{"model_type": "mistral"{keys}}}"#)).unwrap().config;
    assert_eq!(mistral("").n_kv_heads, 8);
    assert_eq!(mistral(r#", "num_key_value_heads": null"#).n_kv_heads, 32);
    assert_eq!(parse_text(r#"{"model_type": "qwen3"}"#).unwrap().config.head_dim, 128);
}

#[test]
fn a_sliding_window_bounds_the_context_where_it_is_used() {
    let context = |text: &str| {
        let config = parse_text(text).unwrap();
        (config.config.context_len, config.notes.len())
    };
    let mistral = r#"{"model_type": "mistral", "max_position_embeddings": 512, "sliding_window": W}"#;
    assert_eq!(context(&mistral.replace('W', "8")), (8, 1));
    assert_eq!(context(&mistral.replace('W', "null")), (512, 0));
    assert_eq!(context(&mistral.replace('W', "4096")), (512, 0));
    assert_eq!(context(r#"{"model_type": "mistral"}"#), (4096, 1));
    let qwen = r#"{"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": USED}"#;
    assert_eq!(context(&qwen.replace("USED", "false")), (32_768, 0));
    assert_eq!(context(&qwen.replace("USED", "true")), (8, 1));
}

#[test]
fn rotary_positions_are_read_from_old_keys_and_new_ones() {
    let rope = |keys: &str| {
        let config = parse_text(&llama_with(keys)).unwrap();
        (config.rope_theta, config.rope_scaling)
    };
    let linear = RopeScaling::Linear { factor: 2.0 };
    assert_eq!(rope(r#""rope_theta": 500000"#), (500_000.0, RopeScaling::None));
    assert_eq!(rope(r#""rope_scaling": {"type": "linear", "factor": 2}"#), (10_000.0, linear));
    assert_eq!(
        rope(r#""rope_parameters": {"rope_type": "linear", "rope_theta": 9.5, "factor": 2.0}"#),
        (9.5, linear)
    );
    assert_eq!(rope(r#""rope_parameters": {"rope_type": "default"}, "rope_theta": 7.0"#).0, 7.0);
    let llama3 = r#""rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}"#;
    let wanted = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 8192,
    };
    assert_eq!(rope(llama3).1, wanted);
}

#[test]
fn variants_say_which_biases_and_norms_there_are() {
    let variant = |text: &str| parse_text(text).unwrap().variant;
    let none = Variant { qkv_bias: false, o_bias: false, ffn_bias: false, qk_norm: false };
    assert_eq!(variant(&llama_with("")), none);
    assert_eq!(variant(r#"{"model_type": "qwen2"}"#), Variant { qkv_bias: true, ..none });
    assert_eq!(variant(r#"{"model_type": "qwen3"}"#), Variant { qk_norm: true, ..none });
    assert_eq!(variant(&llama_with(r#""mlp_bias": true"#)), Variant { ffn_bias: true, ..none });
    let attention = Variant { qkv_bias: true, o_bias: true, ..none };
    assert_eq!(variant(&llama_with(r#""attention_bias": true"#)), attention);
}

#[test]
fn what_cannot_be_is_refused_with_key_value_and_range() {
    let cases = [
        ("[1]", "the root is a list of 1, expected an object"),
        ("{}", "`model_type` is missing, expected gpt2, llama, mistral, qwen2, qwen3"),
        (r#"{"model_type": "t5"}"#, "`model_type` is \"t5\""),
        (r#"{"model_type": 5}"#, "`model_type` is 5"),
        (&llama_with(r#""vocab_size": -1"#), "`vocab_size` is -1, expected an integer from 1 to 1048576"),
        (&llama_with(r#""vocab_size": 1.5"#), "`vocab_size` is 1.5"),
        (&llama_with(r#""hidden_size": "64""#), "`hidden_size` is \"64\""),
        (&llama_with(r#""max_position_embeddings": 5000000000"#), "5000000000"),
        (
            &llama_with(r#""num_hidden_layers": 0"#),
            "`num_hidden_layers` is 0, expected an integer from 1 to 1024",
        ),
        (&llama_with(r#""num_attention_heads": 3"#), "divisor of hidden_size = 4096"),
        (
            &llama_with(r#""num_key_value_heads": 5"#),
            "`num_key_value_heads` is 5, expected a divisor of the 32 heads",
        ),
        (&llama_with(r#""num_key_value_heads": 64"#), "`num_key_value_heads` is 64"),
        (&llama_with(r#""head_dim": 65"#), "head_dim is 65, must be a multiple of 2"),
        (&llama_with(r#""rms_norm_eps": -1"#), "`rms_norm_eps` is -1"),
        (&llama_with(r#""rms_norm_eps": 1e300"#), "`rms_norm_eps` is 1e+300"),
        (&llama_with(r#""rms_norm_eps": 1"#), "norm_eps must be at least 0 and below 1"),
        (&llama_with(r#""rope_theta": 0"#), "`rope_theta` is 0"),
        (&llama_with(r#""hidden_act": "gelu""#), "`hidden_act` is \"gelu\", expected silu or swish"),
        (&llama_with(r#""rope_scaling": "linear""#), "`rope_scaling` is \"linear\", expected an object"),
        (&llama_with(r#""rope_scaling": {"type": "yarn"}"#), "`rope_scaling.type` is \"yarn\""),
        (&llama_with(r#""rope_scaling": {"type": "linear"}"#), "`rope_scaling.factor` is missing"),
        (
            &llama_with(r#""rope_parameters": {"partial_rotary_factor": 0.5}"#),
            "rope_parameters.partial_rotary_factor",
        ),
        (&llama_with(r#""quantization_config": {"quant_method": "gptq"}"#), "packed by \"gptq\""),
        (&llama_with(r#""quantization": {"bits": 3}"#), "`quantization.bits` is 3, expected 2, 4 or 8"),
        (r#"{"model_type": "gpt2", "activation_function": "gelu"}"#, "`activation_function` is \"gelu\""),
        (r#"{"model_type": "gpt2", "scale_attn_weights": false}"#, "`scale_attn_weights` is false"),
        (r#"{"model_type": "gpt2", "n_head": 7}"#, "`n_head` is 7, expected a divisor of n_embd = 768"),
        (r#"{"model_type": "gpt2", "n_embd": 1048576, "n_head": 1}"#, "must be 1 to"),
    ];
    for (text, wanted) in cases {
        let message = refused(text);
        assert!(message.starts_with("config.json: ") && message.contains(wanted), "{text} gave {message}");
    }
}

#[test]
fn long_values_do_not_flood_the_message() {
    let text = llama_with(&format!(r#""hidden_act": "{}""#, "x".repeat(100_000)));
    assert!(refused(&text).len() < 300);
    let nested = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    assert!(refused(&llama_with(&format!(r#""vocab_size": {nested}"#))).len() < 300);
}

#[test]
fn broken_files_say_where() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    for (text, wanted) in [("{\"a\": ", "line 1 column"), ("", "EOF"), ("\u{feff}{}", "expected value")] {
        std::fs::write(&path, text).unwrap();
        let message = read_config(&path).unwrap_err().to_string();
        assert!(message.contains("config.json") && message.contains(wanted), "{text:?} gave {message}");
    }
    // Nesting deep enough to end a recursive parser's stack.
    std::fs::write(&path, "[".repeat(1 << 20)).unwrap();
    assert!(read_config(&path).unwrap_err().to_string().contains("recursion limit"));
    let missing = read_config(&directory.path().join("none.json")).unwrap_err();
    assert!(missing.to_string().contains("none.json"));
}

#[test]
fn configurations_from_elsewhere_are_read_or_refused_by_name() {
    let expected = [
        ("model_config_bad_json", Err("not valid JSON")),
        ("model_config_no_type", Err("`model_type` is missing")),
        ("model_config_num_negative", Err("`vocab_size` is -32000")),
        ("model_config_num_overflow", Err("`max_position_embeddings` is 5000000000")),
        ("model_config_num_zero", Err("`num_hidden_layers` is 0")),
        ("model_config_root_array", Err("the root is a list of 3")),
        ("model_config_llama3", Ok((32, 8, 11_008))),
        ("model_config_qwen2", Ok((14, 2, 4864))),
        ("model_config_too_many_layers", Ok((32, 32, 11_008))),
    ];
    for (name, expected) in expected {
        let Some(directory) = shared(name) else { return };
        let path = directory.join("config.json");
        match (read_config(&path), expected) {
            (Ok(read), Ok((heads, kv_heads, ffn))) => {
                let Config { n_heads, n_kv_heads, ffn_dim, .. } = read.config;
                assert_eq!((n_heads, n_kv_heads, ffn_dim), (heads, kv_heads, ffn), "{name}");
            }
            (Err(error), Err(wanted)) => {
                let message = error.to_string();
                assert!(message.contains(wanted) && message.contains(name), "{name} gave {message}");
            }
            (read, _) => panic!("{name} gave {read:?}"),
        }
        // A configuration without weights is no checkpoint, and says so.
        assert!(crate::open(&directory, &crate::TokenizerChoice::Found).is_err(), "{name}");
    }
}
