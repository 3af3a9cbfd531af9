//! Quantization-aware training: the forward and backward pass see the weights that the model file
//! will hold, and the activations that the runtime will compute with ([`crate::model::Regime`]);
//! the gradients go straight through to the weights in f32 (Bengio et al., "Estimating or
//! propagating gradients through stochastic neurons", 2013).
//!
//! The quantizer is the runtime's own, type by type as the converter chooses them, and the
//! search for scales gives the same bits, only sixteen candidates at a time.

mod weights;

pub use weights::{FakeQuant, QuantizedMatrix, round_weights};
