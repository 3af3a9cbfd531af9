//! Gradient checks: an f64 reference of the forward pass, differentiated by central
//! differences, against what the layer computed.

use crate::rng::Rng;

/// Random inputs.
pub(crate) struct Numbers(Rng);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    /// Numbers in [-1, 1).
    pub(crate) fn vector(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.0.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0).collect()
    }
}

/// Σ wᵢ·xᵢ: the scalar whose gradient is checked.
pub(crate) fn weighted(w: &[f32], x: &[f32]) -> f64 {
    assert_eq!(w.len(), x.len());
    w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
}

/// Checks a layer's output against `reference(inputs)`, within 1e-5, and its gradients of
/// `Σ d_out · output` with respect to every number of every input, within 1e-4 of the largest
/// gradient of that input.
pub(crate) fn compare(
    inputs: &[&[f32]],
    reference: impl Fn(&[&[f64]]) -> Vec<f64>,
    output: &[f32],
    d_out: &[f32],
    gradients: &[&[f32]],
) {
    let mut at: Vec<Vec<f64>> = inputs.iter().map(|x| x.iter().map(|&x| f64::from(x)).collect()).collect();
    let run = |at: &[Vec<f64>]| reference(&at.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let want = run(&at);
    assert_eq!(want.len(), output.len());
    let size = want.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    for (i, (&got, &want)) in output.iter().zip(&want).enumerate() {
        let error = (f64::from(got) - want).abs();
        assert!(error <= 1e-5 * size, "output {i}: {got}, not {want}");
    }
    let scalar = |at: &[Vec<f64>]| -> f64 { run(at).iter().zip(d_out).map(|(x, &w)| x * f64::from(w)).sum() };
    for (input, gradient) in gradients.iter().enumerate() {
        assert_eq!(gradient.len(), inputs[input].len(), "gradient of input {input}");
        let wanted: Vec<f64> = (0..gradient.len())
            .map(|i| {
                let (x, step) = (at[input][i], 1e-4);
                at[input][i] = x + step;
                let above = scalar(&at);
                at[input][i] = x - step;
                let below = scalar(&at);
                at[input][i] = x;
                (above - below) / (2.0 * step)
            })
            .collect();
        let size = wanted.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
        for (i, (&got, want)) in gradient.iter().zip(wanted).enumerate() {
            let error = (f64::from(got) - want).abs();
            assert!(error <= 1e-4 * size, "gradient {i} of input {input}: {got}, not {want}");
        }
    }
}
