//! The dimensions that make the most of a budget.

use smidgen_runtime::Config;

use super::budget::Budget;
use super::needs::{Needs, estimate, needs};
use super::{CODE_BYTES, OTHER_RAM};
use crate::run::config::{Arch, ModelConfig, Quant, suggested_ffn, suggested_heads};

/// What was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The shape.
    pub model: ModelConfig,
    /// Tokens in the vocabulary.
    pub vocab_size: u32,
    /// The type of matrices; 4 bits are meant to be trained for.
    pub quant: Quant,
    /// Its dimensions with the vocabulary.
    pub config: Config,
    /// What it needs.
    pub needs: Needs,
}

impl Budget {
    /// Whether a model keeps all limits.
    pub fn allows(&self, config: &Config, needs: &Needs) -> bool {
        let fast_enough = self.speed.is_none_or(|speed| {
            let cycles = needs.instructions(config, speed.core) * speed.cycles;
            speed.tokens_per_second * cycles <= speed.mhz * 1e6
        });
        needs.file_bytes + CODE_BYTES <= self.flash
            && needs.session_bytes + OTHER_RAM <= self.ram
            && fast_enough
    }
}

/// How much a model should be able to learn, as a sum of logarithms. Parameters of the blocks count
/// most; a larger vocabulary says more with a token; models much deeper or flatter than usual learn
/// less; and a context of less than 256 tokens forgets how its story began.
fn worth(choice: &Choice) -> f64 {
    let ModelConfig { layers, dim, context, .. } = choice.model;
    let bits = if choice.quant == Quant::Q4 { 0.85 } else { 1.0 };
    let aspect = (f64::from(dim) / f64::from(layers) / 20.0).log2();
    let short = (256.0 / f64::from(context)).log2().max(0.0);
    let longer = (f64::from(context) / 256.0).log2().max(0.0);
    (choice.needs.block_parameters as f64 * bits).ln() + 0.4 * f64::from(choice.vocab_size).ln()
        - 0.06 * aspect * aspect
        - 0.25 * short
        + 0.08 * longer
}

/// The model of the Llama family that makes the most of a budget; none if not even the smallest
/// fits.
pub fn search(budget: &Budget) -> Option<Choice> {
    let mut found: Vec<(f64, Choice)> = Vec::new();
    for quant in [Quant::Q8, Quant::Q4] {
        for vocab_size in [512, 1024, 2048, 4096, 8192] {
            for context in [64, 128, 256, 512, 1024] {
                for dim in (32..=1024).step_by(16) {
                    let heads = suggested_heads(dim);
                    let of_depth = |layers| {
                        let kv_heads = if heads.is_multiple_of(2) { heads / 2 } else { heads };
                        let ffn = suggested_ffn(Arch::Llama, dim);
                        let model = ModelConfig {
                            layers,
                            dim,
                            heads,
                            kv_heads,
                            ffn,
                            context,
                            ..ModelConfig::default()
                        };
                        let config = model.with_vocab(vocab_size).ok()?;
                        let needs = estimate(&config, quant.into())?;
                        budget.allows(&config, &needs).then_some(Choice {
                            model,
                            vocab_size,
                            quant,
                            config,
                            needs,
                        })
                    };
                    // Deeper needs more of everything: the deepest that fits, and none after it.
                    let deepest =
                        (1..=24).map_while(of_depth).filter(|choice| choice.model.layers > 1).last();
                    found.extend(deepest.map(|choice| (worth(&choice), choice)));
                }
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    // The estimate of the tokenizer may be off a little: the first that the writer confirms.
    found.into_iter().find_map(|(_, choice)| {
        let exact = needs(&choice.config, choice.quant.into()).ok()?;
        budget.allows(&choice.config, &exact).then_some(Choice { needs: exact, ..choice })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::CHIPS;

    #[test]
    fn every_chip_gets_a_model_that_fits_and_uses_it() {
        for chip in CHIPS {
            let budget: Budget = chip.name.parse().unwrap();
            let Some(choice) = search(&budget) else {
                assert!(chip.name == "stm32f103", "{}", chip.name);
                continue;
            };
            assert!(budget.allows(&choice.config, &choice.needs), "{}", chip.name);
            let flash = (choice.needs.file_bytes + CODE_BYTES) as f64 / budget.flash as f64;
            let ram = (choice.needs.session_bytes + OTHER_RAM) as f64 / budget.ram as f64;
            assert!(flash > 0.85 || ram > 0.85, "{}: {flash:.2} of flash, {ram:.2} of RAM", chip.name);
        }
    }

    #[test]
    fn more_room_is_a_larger_model_and_a_wish_for_speed_a_smaller_one() {
        let parameters = |text: &str| search(&text.parse().unwrap()).unwrap().needs.parameters;
        let (small, large) = (parameters("flash=512K,ram=96K"), parameters("flash=1M,ram=192K"));
        assert!(small < large, "{small}, {large}");
        assert!(parameters("flash=1M,ram=192K,tokens-per-second=50@64MHz") < large);
        assert_eq!(search(&"flash=110K,ram=8K".parse().unwrap()), None);
    }
}
