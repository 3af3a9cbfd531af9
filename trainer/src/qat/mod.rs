//! Quantization-aware training: the forward and backward pass see the weights that the model file
//! will hold, and the activations that the runtime will compute with ([`crate::model::Regime`]);
//! the gradients go straight through to the weights in f32 (Bengio et al., "Estimating or
//! propagating gradients through stochastic neurons", 2013).
//!
//! Types are those that the converter chooses. 8-bit weights are rounded by the runtime's own
//! quantizer, whose search for scales gives the same bits, only sixteen candidates at a time. Of
//! 4-bit weights the steps are learned with the weights; what is saved are the rounded weights, and
//! since the runtime's quantizer gives back exactly what lies on a grid of the file's, the file
//! has the steps that were learned.

mod steps;
mod weights;

pub use steps::Steps;
pub use weights::{FakeQuant, QuantizedMatrix, round_weights};
