//! AdamW and clipping against five steps of PyTorch's; golden/adamw.py made the numbers.

// The digits are as PyTorch printed them.
#![allow(clippy::excessive_precision)]

use smidgen_trainer::model::ParamLayout;
use smidgen_trainer::optimizer::{AdamW, AdamWOptions};
use smidgen_trainer::parallel::Pool;

const NORMS: [f32; 5] = [1.45349309e-01, 4.55126554e-01, 1.26973701, 3.87566257, 1.23197393e+01];
const MATRIX: [f32; 12] = [
    7.52714992e-01,
    8.48766565e-01,
    1.54495940e-01,
    -6.92872763e-01,
    -8.69746566e-01,
    -2.05784932e-01,
    6.66854501e-01,
    9.35245097e-01,
    3.32590669e-01,
    -6.21368945e-01,
    -1.03084064,
    -5.11481106e-01,
];
const VECTOR: [f32; 5] = [-3.86937231e-01, -9.15895164e-01, -6.30903900e-01, 2.15754703e-01, 8.97955358e-01];
const M: [f32; 12] = [
    1.48492837e-02,
    -2.42557507e-02,
    -5.19529246e-02,
    -5.52158281e-02,
    -3.25098634e-02,
    5.48599521e-03,
    4.09017056e-02,
    5.70807047e-02,
    4.64137569e-02,
    1.39176911e-02,
    -2.51240786e-02,
    -5.23496047e-02,
];
const V: [f32; 12] = [
    8.57886765e-03,
    9.04662628e-03,
    9.35476553e-03,
    8.99175275e-03,
    8.56021512e-03,
    8.77653062e-03,
    9.28160455e-03,
    9.23697930e-03,
    8.71673599e-03,
    8.58451426e-03,
    9.05980822e-03,
    9.35360044e-03,
];

#[test]
fn five_steps() {
    let layout: ParamLayout =
        [("matrix".to_owned(), vec![3, 4]), ("vector".to_owned(), vec![5])].into_iter().collect();
    let mut params: Vec<f32> = (0..12)
        .map(|i| (1.0 + f64::from(i)).sin() as f32)
        .chain((0..5).map(|i| (2.0 + f64::from(i)).cos() as f32))
        .collect();
    let options = AdamWOptions { beta_1: 0.9, beta_2: 0.95, eps: 1e-8, weight_decay: 0.1 };
    let mut optimizer = AdamW::new(&layout, options);
    let pool = Pool::new(2);
    for (step, want) in NORMS.into_iter().enumerate() {
        let size = 0.05 * 3f64.powi(step as i32);
        let phase = step as f64;
        let grads: Vec<f32> = (0..12)
            .map(|i| (size * (0.7 * f64::from(i) + phase).sin()) as f32)
            .chain((0..5).map(|i| (size * (1.3 * f64::from(i) + phase).cos()) as f32))
            .collect();
        let lr = 0.01 * (step as f32 + 1.0);
        let norm = optimizer.update(&pool, &mut params, &grads, lr, Some(1.0));
        assert!((norm / want - 1.0).abs() < 1e-6, "norm {step}: {norm}, not {want}");
    }
    let close = |what: &str, got: &[f32], want: &[f32]| {
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            assert!((got - want).abs() <= 2e-6 * want.abs(), "{what}[{i}]: {got}, not {want}");
        }
    };
    close("matrix", &params[..12], &MATRIX);
    close("vector", &params[12..], &VECTOR);
    close("m", &optimizer.m.to_f32()[..12], &M);
    close("v", &optimizer.v.to_f32()[..12], &V);
    assert_eq!(optimizer.step, 5);
}
