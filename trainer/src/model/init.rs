//! Random initial parameters, as GPT-2 has them (Radford et al., 2019).

use super::Model;
use crate::rng::Rng;

/// The standard deviation of initial weights.
const DEVIATION: f64 = 0.02;

impl Model {
    /// Sets every parameter: matrices from N(0, 0.02²), those that write to the residual stream
    /// from N(0, 0.02² / (2 · n_layers)), so that its variance does not grow with depth; norms
    /// to 1, biases to 0. The same seed gives the same parameters.
    pub fn init(&mut self, seed: u64) {
        let residual = DEVIATION / f64::from(2 * self.config.n_layers).sqrt();
        for (index, param) in self.layout.params().iter().enumerate() {
            let values = &mut self.params[param.range()];
            if param.shape.len() < 2 {
                values.fill(if param.name.ends_with(".bias") { 0.0 } else { 1.0 });
                continue;
            }
            let name = param.name.as_str();
            let adds_to_residual =
                ["c_proj.weight", "o_proj.weight", "down_proj.weight"].iter().any(|end| name.ends_with(end));
            let deviation = if adds_to_residual { residual } else { DEVIATION };
            // A sequence of its own for each tensor: adding a tensor changes no other.
            let mut rng = Rng::at(seed, index as u64);
            for pair in values.chunks_mut(2) {
                for (value, normal) in pair.iter_mut().zip(two_normals(&mut rng)) {
                    *value = (normal * deviation) as f32;
                }
            }
        }
    }
}

/// Two independent standard normal numbers (Box and Muller, 1958).
fn two_normals(rng: &mut Rng) -> [f64; 2] {
    // 53 random bits; half a step away from 0, whose logarithm would be infinite.
    let mut uniform = || ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let radius = (-2.0 * uniform().ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * uniform()).sin_cos();
    [radius * cos, radius * sin]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_are_normal() {
        let mut rng = Rng::new(1);
        let values: Vec<f64> = (0..50_000).flat_map(|_| two_normals(&mut rng)).collect();
        let moment = |power| values.iter().map(|x| x.powi(power)).sum::<f64>() / 1e5;
        for (power, want, tolerance) in [(1, 0.0, 0.01), (2, 1.0, 0.02), (3, 0.0, 0.05), (4, 3.0, 0.1)] {
            assert!((moment(power) - want).abs() < tolerance, "moment {power}: {}", moment(power));
        }
        let product: f64 = values.chunks(2).map(|p| p[0] * p[1]).sum::<f64>() / 5e4;
        assert!(product.abs() < 0.02, "the two depend on each other");
    }
}
