//! Training steps (forward, backward, AdamW) of candle, in the shape of configuration b of
//! `train_vs_torch.py`: GPT-2 on characters, 6 layers × 6 heads × 384, context 256, batch 16, vocabulary 65.
//! Prints the median tokens a second of all steps in so many seconds.
//!
//! candle's fused LayerNorm has no gradient, so norms are without bias, which takes its slow path, as in
//! nanoGPT's configuration. Gradients are not clipped: candle has no function for it, so this is a little less work
//! than ours.

use std::time::Instant;

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{
    AdamW, Embedding, LayerNorm, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, embedding,
    linear_no_bias, loss, ops,
};

const LAYERS: usize = 6;
const HEADS: usize = 6;
const DIM: usize = 384;
const CONTEXT: usize = 256;
const BATCH: usize = 16;
const VOCAB: usize = 65;

struct Block {
    norm_1: LayerNorm,
    norm_2: LayerNorm,
    qkv: Linear,
    out: Linear,
    up: Linear,
    down: Linear,
}

fn norm(vb: VarBuilder) -> Result<LayerNorm> {
    Ok(LayerNorm::new_no_bias(vb.get_with_hints(DIM, "weight", candle_nn::init::ONE)?, 1e-5))
}

impl Block {
    fn new(vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            norm_1: norm(vb.pp("norm_1"))?,
            norm_2: norm(vb.pp("norm_2"))?,
            qkv: linear_no_bias(DIM, 3 * DIM, vb.pp("qkv"))?,
            out: linear_no_bias(DIM, DIM, vb.pp("out"))?,
            up: linear_no_bias(DIM, 4 * DIM, vb.pp("up"))?,
            down: linear_no_bias(4 * DIM, DIM, vb.pp("down"))?,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let head = DIM / HEADS;
        let qkv = self.qkv.forward(&self.norm_1.forward(x)?)?;
        let part = |i: usize| -> Result<Tensor> {
            let part = qkv.narrow(D::Minus1, i * DIM, DIM)?;
            part.reshape((BATCH, CONTEXT, HEADS, head))?.transpose(1, 2)?.contiguous()
        };
        let scores = (part(0)?.matmul(&part(1)?.t()?)? / (head as f64).sqrt())?;
        let weights = ops::softmax(&scores.broadcast_add(mask)?, D::Minus1)?;
        let attended = weights.matmul(&part(2)?)?.transpose(1, 2)?.reshape((BATCH, CONTEXT, DIM))?;
        let x = (x + self.out.forward(&attended)?)?;
        let up = self.up.forward(&self.norm_2.forward(&x)?)?.gelu()?;
        x + self.down.forward(&up)?
    }
}

fn main() -> Result<()> {
    let seconds: f64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10.0);
    let device = Device::Cpu;
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &device);
    let tokens: Embedding = embedding(VOCAB, DIM, vb.pp("tokens"))?;
    let positions: Embedding = embedding(CONTEXT, DIM, vb.pp("positions"))?;
    let blocks = (0..LAYERS).map(|i| Block::new(vb.pp(format!("block.{i}")))).collect::<Result<Vec<_>>>()?;
    let final_norm = norm(vb.pp("norm"))?;
    let mask: Vec<f32> = (0..CONTEXT * CONTEXT)
        .map(|i| if i % CONTEXT > i / CONTEXT { f32::NEG_INFINITY } else { 0.0 })
        .collect();
    let mask = Tensor::from_vec(mask, (1, 1, CONTEXT, CONTEXT), &device)?;
    let ids: Vec<u32> = (0..(BATCH * CONTEXT) as u32).map(|i| i.wrapping_mul(2_654_435_761) >> 8).collect();
    let id = |shift: usize| -> Vec<u32> {
        (0..ids.len()).map(|i| ids[(i + shift) % ids.len()] % VOCAB as u32).collect()
    };
    let inputs = Tensor::from_vec(id(0), (BATCH, CONTEXT), &device)?;
    let targets = Tensor::from_vec(id(1), BATCH * CONTEXT, &device)?;
    let places = Tensor::arange(0u32, CONTEXT as u32, &device)?;
    let options = ParamsAdamW { lr: 1e-4, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
    let mut optimizer = AdamW::new(vars.all_vars(), options)?;

    let mut step = || -> Result<(f64, f32)> {
        let start = Instant::now();
        let mut x = tokens.forward(&inputs)?.broadcast_add(&positions.forward(&places)?)?;
        for block in &blocks {
            x = block.forward(&x, &mask)?;
        }
        let x = final_norm.forward(&x)?.reshape((BATCH * CONTEXT, DIM))?;
        let logits = x.matmul(&tokens.embeddings().t()?)?;
        let loss = loss::cross_entropy(&logits, &targets)?;
        optimizer.backward_step(&loss)?;
        Ok((start.elapsed().as_secs_f64(), loss.to_scalar()?))
    };
    let (_, first) = step()?;
    let (start, mut times, mut last) = (Instant::now(), Vec::new(), first);
    while start.elapsed().as_secs_f64() < seconds || times.len() < 3 {
        let (time, loss) = step()?;
        times.push(time);
        last = loss;
    }
    times.sort_by(f64::total_cmp);
    let rate = (BATCH * CONTEXT) as f64 / times[times.len() / 2];
    println!("{rate:.0} tokens/s, median of {} steps, loss {first:.3} to {last:.3}", times.len());
    Ok(())
}
