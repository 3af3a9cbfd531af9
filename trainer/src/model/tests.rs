use super::reference::Reference;
use super::*;
use crate::layers::cross_entropy::IGNORE;
use crate::parallel::Pool;
use crate::rng::Rng;

fn gpt2() -> Config {
    Config {
        architecture: Architecture::Gpt2,
        n_layers: 2,
        dim: 12,
        n_heads: 3,
        n_kv_heads: 3,
        head_dim: 4,
        ffn_dim: 29,
        vocab_size: 23,
        context_len: 9,
        norm_eps: 1e-5,
    }
}

fn llama() -> Config {
    Config { architecture: Architecture::Llama, n_heads: 6, n_kv_heads: 2, dim: 15, ..gpt2() }
}

/// Both architectures with every option on and off.
fn variants() -> Vec<(Config, ModelOptions)> {
    let default = ModelOptions::default();
    let untied = ModelOptions { tied_embeddings: false, ..default };
    vec![
        (gpt2(), default),
        (gpt2(), ModelOptions { bias: false, ..untied }),
        (llama(), default),
        (llama(), ModelOptions { qk_norm: true, rope_theta: 500.0, ..untied }),
        (llama(), ModelOptions { qkv_bias: true, ..untied }),
        (llama(), ModelOptions { qkv_bias: true, qk_norm: true, ..default }),
    ]
}

/// A model whose every parameter, biases and norms too, is random and large enough to matter.
fn random_model(config: Config, options: ModelOptions) -> Model {
    let mut model = Model::new(config, options).unwrap();
    model.init(1);
    let mut rng = Rng::new(2);
    for (param, value) in model.layout.params().iter().flat_map(|p| p.range().map(move |i| (p, i))) {
        let random = rng.below(2001) as f32 / 1000.0 - 1.0;
        let norm = param.shape.len() == 1 && param.name.ends_with("weight");
        model.params[value] = if norm { 1.0 + 0.3 * random } else { 0.4 * random };
    }
    model
}

fn batch(n: usize, vocab: u32, seed: u64) -> (Vec<u32>, Vec<u32>) {
    let mut rng = Rng::new(seed);
    let mut tokens = || (0..n).map(|_| rng.below(vocab as usize) as u32).collect::<Vec<_>>();
    (tokens(), tokens())
}

#[test]
fn loss_and_gradients_match_the_reference() {
    for (config, options) in variants() {
        let model = random_model(config, options);
        let pool = Pool::new(2);
        let (n_batch, seq_len) = (2, 7);
        let (inputs, mut targets) = batch(n_batch * seq_len, config.vocab_size, 3);
        targets[4] = IGNORE;
        let mut ws = Workspace::new(&model, n_batch, seq_len).unwrap();
        let mut reference = Reference::new(&model);
        let want = reference.loss(&inputs, &targets, seq_len);
        let loss = forward_loss(&model, &mut ws, &pool, &inputs, &targets);
        assert!((f64::from(loss) - want).abs() < 1e-5, "{options:?}: {loss}, not {want}");
        // Twice with a half each: gradients add up.
        for _ in 0..2 {
            let again = forward_backward(&model, &mut ws, &pool, &inputs, &targets, 0.5);
            assert!((again - loss).abs() < 1e-6);
        }
        for param in model.layout.params() {
            // Every element of a small tensor, some of a large one, always the first and last.
            let step = 1 + param.len() / 40;
            let last = param.range().end - 1;
            let places: Vec<usize> = param.range().step_by(step).chain([last]).collect();
            let differences: Vec<f64> = places
                .iter()
                .map(|&i| {
                    let (x, h) = (reference.params[i], 1e-4);
                    let mut at = |x| {
                        reference.params[i] = x;
                        reference.loss(&inputs, &targets, seq_len)
                    };
                    let slope = (at(x + h) - at(x - h)) / (2.0 * h);
                    reference.params[i] = x;
                    slope
                })
                .collect();
            let size = differences.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
            for (&i, want) in places.iter().zip(&differences) {
                let got = f64::from(ws.grads()[i]);
                let place = i - param.offset;
                assert!(
                    (got - want).abs() <= 2e-4 * size,
                    "{:?} {options:?} {}[{place}]: {got}, not {want}",
                    config.architecture,
                    param.name
                );
            }
        }
        ws.zero_grads();
        assert!(ws.grads().iter().all(|&x| x == 0.0));
    }
}

/// Dropout is a function like any other while its seed stays: the slope along the gradient is the
/// gradient's squared norm.
#[test]
fn gradients_with_dropout_match_differences() {
    for (config, options) in variants() {
        let mut model = random_model(config, options);
        let pool = Pool::new(2);
        let (inputs, targets) = batch(14, config.vocab_size, 3);
        let mut ws = Workspace::new(&model, 2, 7).unwrap();
        let plain = forward_loss(&model, &mut ws, &pool, &inputs, &targets);
        ws.regime = Regime { dropout: 0.3, dropout_seed: 11, ..Regime::default() };
        let loss = forward_backward(&model, &mut ws, &pool, &inputs, &targets, 1.0);
        assert!((loss - plain).abs() > 1e-4, "dropout changes the loss");
        let grads = ws.grads().to_vec();
        let squared: f64 = grads.iter().map(|&x| f64::from(x).powi(2)).sum();
        let h = 2e-3 / squared.sqrt();
        let params = model.params.clone();
        let mut at = |h: f64| {
            let moved = params.iter().zip(&grads).map(|(&x, &g)| x + (h * f64::from(g)) as f32);
            model.params = moved.collect();
            f64::from(forward_loss(&model, &mut ws, &pool, &inputs, &targets))
        };
        let slope = (at(h) - at(-h)) / (2.0 * h);
        assert!((slope / squared - 1.0).abs() < 5e-3, "{options:?}: {slope}, not {squared}");
    }
}

#[test]
fn logits_match_the_reference_and_need_little_memory() {
    for (config, options) in variants() {
        let model = random_model(config, options);
        let pool = Pool::new(2);
        let (inputs, targets) = batch(10, config.vocab_size, 4);
        let mut ws = Workspace::forward_only(&model, 2, 5).unwrap();
        let mut out = Vec::new();
        logits(&model, &mut ws, &pool, &inputs, &mut out);
        let reference = Reference::new(&model);
        let want: Vec<f64> = inputs.chunks(5).flat_map(|x| reference.logits(x)).flatten().collect();
        assert_eq!(out.len(), want.len());
        for (got, want) in out.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() < 1e-4, "{got}, not {want}");
        }
        let mut full = Workspace::new(&model, 2, 5).unwrap();
        let small = forward_loss(&model, &mut ws, &pool, &inputs, &targets);
        let large = forward_loss(&model, &mut full, &pool, &inputs, &targets);
        assert_eq!(small.to_bits(), large.to_bits());
        assert!(ws.bytes() < full.bytes() / 2 && ws.grads().is_empty());
    }
}

#[test]
fn the_first_loss_is_that_of_guessing() {
    for mut config in [gpt2(), llama()] {
        config.vocab_size = 300;
        let mut model = Model::new(config, ModelOptions::default()).unwrap();
        model.init(5);
        let mut ws = Workspace::new(&model, 4, 9).unwrap();
        let (inputs, targets) = batch(36, config.vocab_size, 6);
        let loss = forward_loss(&model, &mut ws, &Pool::new(1), &inputs, &targets);
        assert!((loss - 300f32.ln()).abs() < 0.05, "{loss}");
    }
}

#[test]
fn no_target_no_loss() {
    let model = random_model(gpt2(), ModelOptions::default());
    let mut ws = Workspace::new(&model, 1, 3).unwrap();
    let targets = [IGNORE; 3];
    let loss = forward_backward(&model, &mut ws, &Pool::new(1), &[1, 2, 3], &targets, 1.0);
    assert_eq!(loss, 0.0);
    assert!(ws.grads().iter().all(|&x| x == 0.0));
}

#[test]
fn bits_do_not_depend_on_threads() {
    for (config, options) in variants() {
        let config = Config { vocab_size: 700, context_len: 40, ..config };
        let (inputs, targets) = batch(5 * 40, config.vocab_size, 7);
        let results = [1, 2, 3, 7].map(|threads| {
            let pool = Pool::new(threads);
            let mut model = random_model(config, options);
            let mut ws = Workspace::new(&model, 5, 40).unwrap();
            let mut losses = Vec::new();
            for _ in 0..3 {
                ws.zero_grads();
                losses.push(forward_backward(&model, &mut ws, &pool, &inputs, &targets, 1.0));
                for (param, grad) in model.params.iter_mut().zip(ws.grads()) {
                    *param -= 0.1 * grad;
                }
            }
            (losses, model.params)
        });
        assert!(results[0].0[2] < results[0].0[0], "it learns");
        for other in &results[1..] {
            assert_eq!(results[0].0, other.0);
            assert!(results[0].1.iter().zip(&other.1).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

#[test]
fn names_and_places() {
    let model = Model::new(gpt2(), ModelOptions::default()).unwrap();
    let shape = |name: &str| model.layout.get(name).unwrap().shape.clone();
    assert_eq!(shape("transformer.h.1.attn.c_attn.weight"), [36, 12]);
    assert_eq!(shape("transformer.h.0.mlp.c_proj.bias"), [12]);
    assert_eq!(shape("transformer.wpe.weight"), [9, 12]);
    assert!(model.param("lm_head.weight").is_none());
    let options = ModelOptions { tied_embeddings: false, qkv_bias: true, ..Default::default() };
    let mut model = Model::new(llama(), options).unwrap();
    let get = |name: &str| model.layout.get(&format!("model.layers.1.{name}")).unwrap();
    for [first, second] in [
        ["self_attn.q_proj.weight", "self_attn.k_proj.weight"],
        ["self_attn.k_proj.weight", "self_attn.v_proj.weight"],
        ["self_attn.q_proj.bias", "self_attn.k_proj.bias"],
        ["self_attn.k_proj.bias", "self_attn.v_proj.bias"],
        ["mlp.gate_proj.weight", "mlp.up_proj.weight"],
    ] {
        assert_eq!(get(first).range().end, get(second).offset, "{first} and {second} adjacent");
    }
    assert_eq!(get("self_attn.k_proj.weight").shape, [8, 15]);
    assert!(get("mlp.down_proj.weight").decay && !get("input_layernorm.weight").decay);
    model.param_mut("lm_head.weight").unwrap().fill(2.0);
    assert!(model.param("lm_head.weight").unwrap().iter().all(|&x| x == 2.0));
    let mut end = 0;
    for param in model.layout.params() {
        assert_eq!(param.offset, end, "{} leaves no gap", param.name);
        end += param.len();
    }
    assert_eq!(end, model.params.len());
}

#[test]
fn what_does_not_fit_is_named() {
    let error = |config: Config, options| Model::new(config, options).unwrap_err().to_string();
    let options = ModelOptions::default();
    let grouped = Config { n_kv_heads: 1, ..gpt2() };
    assert_eq!(error(grouped, options), "GPT-2 has n_kv_heads = n_heads; here they are 1 and 3");
    let wide = Config { dim: 13, ..gpt2() };
    assert!(error(wide, options).contains("3 · 4 and 13"));
    assert!(error(Config { n_layers: 0, ..llama() }, options).contains("n_layers"));
    let norm = ModelOptions { qk_norm: true, ..options };
    assert_eq!(error(gpt2(), norm), "GPT-2 has no qk_norm");
    let theta = ModelOptions { rope_theta: -1.0, ..options };
    assert!(error(llama(), theta).contains("rope_theta is -1"));
    let model = Model::new(gpt2(), options).unwrap();
    let error = Workspace::new(&model, 1, 10).err().unwrap().to_string();
    assert!(error.contains("10 tokens") && error.contains("at most 9"), "{error}");
}

#[test]
#[should_panic(expected = "row 23 of an embedding of 23 rows")]
fn unknown_token() {
    let model = random_model(gpt2(), ModelOptions::default());
    let mut ws = Workspace::new(&model, 1, 2).unwrap();
    forward_loss(&model, &mut ws, &Pool::new(1), &[1, 23], &[1, 1]);
}

#[test]
fn checkpoints_change_memory_and_no_bit() {
    for (config, options) in variants() {
        let config = Config { n_layers: 4, ..config };
        let model = random_model(config, options);
        let pool = Pool::new(2);
        let (inputs, targets) = batch(14, config.vocab_size, 6);
        let mut plain = Workspace::new(&model, 2, 7).unwrap();
        let mut lean = Workspace::with_checkpoints(&model, 2, 7).unwrap();
        for ws in [&mut plain, &mut lean] {
            ws.regime = Regime { dropout: 0.2, dropout_seed: 3, ..Regime::default() };
        }
        for _ in 0..2 {
            let want = forward_backward(&model, &mut plain, &pool, &inputs, &targets, 1.0);
            let got = forward_backward(&model, &mut lean, &pool, &inputs, &targets, 1.0);
            assert_eq!(got.to_bits(), want.to_bits());
        }
        let same = plain.grads().iter().zip(lean.grads()).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{options:?}");
        assert!(lean.bytes() < plain.bytes(), "{} of {} bytes", lean.bytes(), plain.bytes());
    }
}

/// Weights as training begins with, since bf16's error is relative to the size of the sums.
#[test]
fn bf16_stays_close_to_f32_and_needs_no_certain_number_of_threads() {
    if !Precision::Bf16.is_available() {
        eprintln!("SKIPPED: this CPU has no bf16 products");
        return;
    }
    for (config, options) in variants() {
        let mut model = Model::new(config, options).unwrap();
        model.init(1);
        let (inputs, targets) = batch(14, config.vocab_size, 7);
        let run = |precision, threads| {
            let mut ws = Workspace::new(&model, 2, 7).unwrap();
            ws.precision = precision;
            let loss = forward_backward(&model, &mut ws, &Pool::new(threads), &inputs, &targets, 1.0);
            (loss, ws.grads().to_vec())
        };
        let (want, exact) = run(Precision::F32, 1);
        let (loss, grads) = run(Precision::Bf16, 1);
        assert!((loss - want).abs() < 2e-3 * want, "{loss}, not {want}");
        let distance = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
        };
        // 8 significant bits a factor: 2⁻⁹ at most each, and some layers on top of each other.
        let (error, size) = (distance(&grads, &exact), distance(&exact, &vec![0.0; exact.len()]));
        assert!(error > 0.0 && error < 0.02 * size, "{options:?}: {error} of {size}");
        for threads in [2, 3] {
            let (again, others) = run(Precision::Bf16, threads);
            assert_eq!(again.to_bits(), loss.to_bits());
            assert!(grads.iter().zip(&others).all(|(a, b)| a.to_bits() == b.to_bits()), "{threads} threads");
        }
    }
}
