//! Text in, checkpoint and model file out: the f32 model with its gradients, the optimizer,
//! the data pipeline.
#![warn(missing_docs)]

pub mod bpe;
pub mod data;
pub mod fit;
pub mod gemm;
pub mod layers;
pub mod model;
pub mod moments;
pub mod muon;
pub mod optimizer;
pub mod parallel;
pub mod qat;
pub mod rng;
pub mod run;
pub mod schedule;
pub mod stories;
