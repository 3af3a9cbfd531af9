//! The optimizers of a run behind one name, with one state: a mean of gradients and a mean of
//! their squares for every parameter (the second is zero where Muon does not need it).

use super::config::{OptimizerChoice, TrainingConfig};
use crate::model::{Model, ParamLayout, Precision};
use crate::muon::{Muon, MuonOptions};
use crate::optimizer::{AdamW, AdamWOptions, clip_factor};
use crate::parallel::Pool;

/// AdamW's memory of the squared gradient while weights are rounded, at least.
const ROUNDED_BETA_2: f32 = 0.99;

/// AdamW, and Muon where it was asked for.
pub(super) struct Optimizer {
    pub(super) adamw: AdamW,
    muon: Option<Muon>,
}

impl Optimizer {
    pub(super) fn new(layout: &ParamLayout, training: &TrainingConfig, precision: Precision) -> Self {
        let weight_decay = training.weight_decay as f32;
        let options = AdamWOptions {
            beta_1: training.beta1 as f32,
            beta_2: training.beta2 as f32,
            weight_decay,
            ..AdamWOptions::default()
        };
        let kind = training.moments.of(precision);
        match training.optimizer {
            OptimizerChoice::AdamW => {
                Self { adamw: AdamW::new(layout, options).with_moments(kind), muon: None }
            }
            OptimizerChoice::Muon => {
                let mut muon = Muon::new(layout, MuonOptions { weight_decay, ..MuonOptions::default() });
                muon.precision = precision;
                let adamw = AdamW::for_params(layout, options, |param| !Muon::takes(param));
                Self { adamw: adamw.with_moments(kind), muon: Some(muon) }
            }
        }
    }

    /// From here on AdamW takes everything, without a memory (what gradients were like before
    /// weights were rounded says little), with a longer one than usual (rounding makes them noisy) and
    /// without decay (a weight that goes to zero by itself crosses steps for nothing).
    pub(super) fn begin_rounding(&mut self, layout: &ParamLayout) {
        let before = self.adamw.options;
        let beta_2 = before.beta_2.max(ROUNDED_BETA_2);
        let options = AdamWOptions { beta_2, weight_decay: 0.0, ..before };
        let kind = self.adamw.m.kind();
        *self = Self { adamw: AdamW::new(layout, options).with_moments(kind), muon: None };
    }

    /// One step; see [`AdamW::update`].
    pub(super) fn update(
        &mut self,
        pool: &Pool,
        model: &mut Model,
        grads: &[f32],
        lr: f32,
        max_norm: Option<f32>,
    ) -> f32 {
        let norm = self.adamw.update(pool, &mut model.params, grads, lr, max_norm);
        if let Some(muon) = &self.muon
            && norm.is_finite()
        {
            let factor = max_norm.map_or(1.0, |max| clip_factor(norm, max));
            let AdamW { m, step, .. } = &mut self.adamw;
            muon.update(pool, &mut model.params, grads, m, *step, lr, factor);
        }
        norm
    }
}
