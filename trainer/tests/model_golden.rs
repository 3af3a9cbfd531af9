//! Losses, gradients and ten steps of AdamW of tiny models against Hugging Face's transformers;
//! golden/model_grads.py made the numbers.

use std::collections::BTreeMap;

use smidgen_runtime::config::{Architecture, Config};
use smidgen_trainer::model::{Model, ModelOptions, Workspace, forward_backward};
use smidgen_trainer::optimizer::{AdamW, AdamWOptions};
use smidgen_trainer::parallel::Pool;

const VOCAB: u32 = 19;
const BATCH: usize = 2;
const SEQ: usize = 7;

#[derive(serde::Deserialize)]
struct Golden {
    loss: f64,
    /// Before each of ten steps of AdamW.
    losses: Vec<f64>,
    grads: BTreeMap<String, Vec<f32>>,
}

fn check(name: &str, config: Config, options: ModelOptions) {
    let text = include_str!("golden/model_grads.json");
    let mut all: BTreeMap<String, Golden> = serde_json::from_str(text).unwrap();
    let golden = all.remove(name).unwrap();
    let mut model = Model::new(config, options).unwrap();
    assert_eq!(model.layout.params().len(), golden.grads.len(), "number of parameters");
    // The formula of the script, parameter by parameter in the order of names.
    for (index, (name, grads)) in golden.grads.iter().enumerate() {
        let norm = model.layout.get(name).is_some_and(|p| p.shape.len() == 1) && name.ends_with("weight");
        let values = model.param_mut(name).unwrap_or_else(|| panic!("no parameter {name}"));
        assert_eq!(values.len(), grads.len(), "{name}");
        for (i, value) in values.iter_mut().enumerate() {
            let wave = (0.731 * (index as f64 + 1.0) + 1.917 * i as f64).sin();
            *value = (if norm { 1.0 } else { 0.0 } + 0.35 * wave) as f32;
        }
    }
    let tokens: Vec<u32> = (0..(BATCH * (SEQ + 1)) as u32).map(|i| (i * i * 7 + i * 3) % VOCAB).collect();
    let rows = || tokens.chunks(SEQ + 1);
    let inputs: Vec<u32> = rows().flat_map(|row| &row[..SEQ]).copied().collect();
    let targets: Vec<u32> = rows().flat_map(|row| &row[1..]).copied().collect();
    let mut ws = Workspace::new(&model, BATCH, SEQ).unwrap();
    let loss = forward_backward(&model, &mut ws, &Pool::new(2), &inputs, &targets, 1.0);
    assert!((f64::from(loss) - golden.loss).abs() < 1e-5, "loss {loss}, not {}", golden.loss);
    for (name, want) in &golden.grads {
        let got = &ws.grads()[model.layout.get(name).unwrap().range()];
        // A key's bias moves all scores of a query alike: its gradient is 0 but for rounding,
        // so a tensor's own size is no measure where it is tiny.
        let size = want.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            assert!((got - want).abs() <= 1e-4 * size, "{name}[{i}]: {got}, not {want}");
        }
    }
    let mut optimizer = AdamW::new(&model.layout, AdamWOptions::default());
    for (step, want) in golden.losses.iter().enumerate() {
        ws.zero_grads();
        let loss = forward_backward(&model, &mut ws, &Pool::new(2), &inputs, &targets, 1.0);
        assert!((f64::from(loss) - want).abs() < 1e-4, "step {step}: loss {loss}, not {want}");
        optimizer.update(&Pool::new(2), &mut model.params, ws.grads(), 0.01, Some(1.0));
    }
    assert!(golden.losses.len() == 10 && golden.losses[9] < golden.losses[0] - 0.5, "they learn");
}

fn llama() -> Config {
    Config {
        architecture: Architecture::Llama,
        n_layers: 2,
        dim: 12,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 6,
        ffn_dim: 14,
        vocab_size: VOCAB,
        context_len: 16,
        norm_eps: 1e-5,
    }
}

#[test]
fn gpt2() {
    let config = Config {
        architecture: Architecture::Gpt2,
        n_heads: 3,
        n_kv_heads: 3,
        head_dim: 4,
        ffn_dim: 20,
        ..llama()
    };
    check("gpt2", config, ModelOptions::default());
}

#[test]
fn llama_with_grouped_heads() {
    let options = ModelOptions { tied_embeddings: false, ..ModelOptions::default() };
    check("llama", llama(), options);
}

#[test]
fn qwen2_with_biases() {
    let options = ModelOptions { qkv_bias: true, rope_theta: 500.0, ..ModelOptions::default() };
    check("qwen2", Config { dim: 16, head_dim: 4, ..llama() }, options);
}

#[test]
fn qwen3_with_normalized_heads() {
    let options =
        ModelOptions { tied_embeddings: false, qk_norm: true, rope_theta: 500.0, ..ModelOptions::default() };
    check("qwen3", llama(), options);
}
