//! Training steps (forward, backward, AdamW) of burn on its Flex backend, in the shape of configuration b of
//! `train_vs_torch.py`: GPT-2 on characters, 6 layers × 6 heads × 384, context 256, batch 16, vocabulary 65.
//! Prints the median tokens a second of all steps in so many seconds.
//!
//! Gradients are not clipped: burn clips a parameter's norm, not that of all, so this is a little less work than ours.

use std::time::Instant;

use burn::module::{Initializer, Module};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::{gelu_approximate, log_softmax};
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Int, Tensor};

const LAYERS: usize = 6;
const HEADS: usize = 6;
const DIM: usize = 384;
const CONTEXT: usize = 256;
const BATCH: usize = 16;
const VOCAB: usize = 65;

#[derive(Module, Debug)]
struct Block {
    norm_1: LayerNorm,
    norm_2: LayerNorm,
    qkv: Linear,
    out: Linear,
    up: Linear,
    down: Linear,
}

#[derive(Module, Debug)]
struct Gpt {
    tokens: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

fn linear(from: usize, to: usize, device: &Device) -> Linear {
    LinearConfig::new(from, to).with_bias(false).init(device)
}

fn embedding(rows: usize, device: &Device) -> Embedding {
    let initializer = Initializer::Normal { mean: 0.0, std: 0.02 };
    EmbeddingConfig::new(rows, DIM).with_initializer(initializer).init(device)
}

fn norm(device: &Device) -> LayerNorm {
    LayerNormConfig::new(DIM).with_bias(false).init(device)
}

impl Block {
    fn new(device: &Device) -> Self {
        Self {
            norm_1: norm(device),
            norm_2: norm(device),
            qkv: linear(DIM, 3 * DIM, device),
            out: linear(DIM, DIM, device),
            up: linear(DIM, 4 * DIM, device),
            down: linear(4 * DIM, DIM, device),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let qkv = self.qkv.forward(self.norm_1.forward(x.clone()));
        let part = |i: usize| {
            let part = qkv.clone().narrow(2, i * DIM, DIM);
            part.reshape([BATCH, CONTEXT, HEADS, DIM / HEADS]).swap_dims(1, 2)
        };
        let options = AttentionModuleOptions { is_causal: true, ..Default::default() };
        let attended = attention(part(0), part(1), part(2), None, None, options);
        let x = x + self.out.forward(attended.swap_dims(1, 2).reshape([BATCH, CONTEXT, DIM]));
        let up = gelu_approximate(self.up.forward(self.norm_2.forward(x.clone())));
        x + self.down.forward(up)
    }
}

impl Gpt {
    fn new(device: &Device) -> Self {
        Self {
            tokens: embedding(VOCAB, device),
            positions: embedding(CONTEXT, device),
            blocks: (0..LAYERS).map(|_| Block::new(device)).collect(),
            norm: norm(device),
        }
    }

    /// The mean loss of `inputs` `[BATCH, CONTEXT]` and the tokens that follow them.
    fn loss(&self, inputs: Tensor<2, Int>, targets: Tensor<1, Int>) -> Tensor<1> {
        let places = Tensor::<1, Int>::arange(0..CONTEXT as i64, &inputs.device()).reshape([1, CONTEXT]);
        let mut x = self.tokens.forward(inputs) + self.positions.forward(places);
        for block in &self.blocks {
            x = block.forward(x);
        }
        let x = self.norm.forward(x).reshape([BATCH * CONTEXT, DIM]);
        let logits = x.matmul(self.tokens.weight.val().transpose());
        log_softmax(logits, 1).gather(1, targets.reshape([BATCH * CONTEXT, 1])).mean().neg()
    }
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10.0);
    let device = Device::flex().autodiff();
    let mut model = Gpt::new(&device);
    let ids: Vec<u32> = (0..(BATCH * CONTEXT) as u32).map(|i| i.wrapping_mul(2_654_435_761) >> 8).collect();
    let id = |shift: usize| {
        let all: Vec<i32> = (0..ids.len()).map(|i| (ids[(i + shift) % ids.len()] % VOCAB as u32) as i32).collect();
        Tensor::<1, Int>::from_ints(all.as_slice(), &device)
    };
    let inputs = id(0).reshape([BATCH, CONTEXT]);
    let targets = id(1);
    let mut optimizer =
        AdamWConfig::new().with_beta_2(0.95).with_epsilon(1e-8).with_weight_decay(0.1).init();

    let mut step = |model: Gpt| {
        let start = Instant::now();
        let loss = model.loss(inputs.clone(), targets.clone());
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        let model = optimizer.step(1e-4, model, grads);
        let loss: f32 = loss.into_scalar();
        (model, start.elapsed().as_secs_f64(), loss)
    };
    let first;
    (model, _, first) = step(model);
    let (start, mut times, mut last) = (Instant::now(), Vec::new(), first);
    while start.elapsed().as_secs_f64() < seconds || times.len() < 3 {
        let (next, time, loss) = step(model);
        model = next;
        times.push(time);
        last = loss;
    }
    times.sort_by(f64::total_cmp);
    let rate = (BATCH * CONTEXT) as f64 / times[times.len() / 2];
    println!("{rate:.0} tokens/s, median of {} steps, loss {first:.3} to {last:.3}", times.len());
}
