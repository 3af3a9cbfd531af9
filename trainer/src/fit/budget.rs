//! What a model may need: `flash=512K,ram=96K,tokens-per-second=20@64MHz`, or a chip's name.

use std::str::FromStr;

use super::chips::{CHIPS, Core, find};

/// Limits, of flash and RAM for the whole firmware.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Bytes of flash.
    pub flash: u64,
    /// Bytes of RAM.
    pub ram: u64,
    /// The clock, the core, and how fast it should be.
    pub speed: Option<Speed>,
}

/// A processor, and what is wanted of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Tokens a second at least; 0 if any speed will do.
    pub tokens_per_second: f64,
    /// Clock.
    pub mhz: f64,
    /// Processor.
    pub core: Core,
    /// Cycles for an instruction.
    pub cycles: f64,
}

/// Why a budget is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BudgetError {
    /// Something that is neither a limit nor a chip.
    #[error(
        "{text:?} is neither flash=BYTES, ram=BYTES, tokens-per-second=N[@CLOCK] nor one of {}",
        CHIPS.map(|chip| chip.name).join(", ")
    )]
    Unknown {
        /// What was written.
        text: String,
    },
    /// A number that is none.
    #[error("{name} is {value:?}, expected {expected}")]
    BadNumber {
        /// Of which limit.
        name: &'static str,
        /// What was written.
        value: String,
        /// What it should look like.
        expected: &'static str,
    },
    /// Something is not said.
    #[error("{0} is not said: give it, or a chip's name")]
    Missing(&'static str),
}

impl FromStr for Budget {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Self, BudgetError> {
        let (mut flash, mut ram, mut chip, mut wanted) = (None, None, None, None);
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
                Some(("flash", value)) => flash = Some(bytes("flash", value)?),
                Some(("ram", value)) => ram = Some(bytes("ram", value)?),
                Some(("tokens-per-second", value)) => wanted = Some(speed(value)?),
                _ => match find(part) {
                    Some(found) => chip = Some(found),
                    None => return Err(BudgetError::Unknown { text: part.to_owned() }),
                },
            }
        }
        let speed = match (chip, wanted) {
            (None, None) => None,
            (None, Some((_, None))) => {
                return Err(BudgetError::Missing("the clock (tokens-per-second=20@64MHz)"));
            }
            (None, Some((tokens_per_second, Some(mhz)))) => {
                Some(Speed { tokens_per_second, mhz, core: Core::Dsp, cycles: 1.5 })
            }
            (Some(chip), wanted) => {
                let (tokens_per_second, mhz) = wanted.unwrap_or((0.0, None));
                let mhz = mhz.unwrap_or(chip.mhz);
                Some(Speed { tokens_per_second, mhz, core: chip.core, cycles: chip.cycles })
            }
        };
        Ok(Self {
            flash: flash.or(chip.map(|chip| chip.flash)).ok_or(BudgetError::Missing("flash"))?,
            ram: ram.or(chip.map(|chip| chip.ram)).ok_or(BudgetError::Missing("ram"))?,
            speed,
        })
    }
}

/// `512K`, `1.5M`, `96KiB`, `100000`: K and M are 1024 and 1024².
fn bytes(name: &'static str, value: &str) -> Result<u64, BudgetError> {
    let bad =
        || BudgetError::BadNumber { name, value: value.to_owned(), expected: "bytes, such as 512K or 2M" };
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match value[digits.len()..].to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 1.0,
        "k" => 1024.0,
        "m" => 1024.0 * 1024.0,
        _ => return Err(bad()),
    };
    let number: f64 = digits.trim().parse().map_err(|_| bad())?;
    let bytes = number * unit;
    if (1.0..1e12).contains(&bytes) { Ok(bytes as u64) } else { Err(bad()) }
}

/// `20@64MHz` or `20`.
fn speed(value: &str) -> Result<(f64, Option<f64>), BudgetError> {
    let bad = || BudgetError::BadNumber {
        name: "tokens-per-second",
        value: value.to_owned(),
        expected: "a number, and a clock if no chip is named: 20@64MHz",
    };
    let number =
        |text: &str| text.trim().parse().ok().filter(|x: &f64| *x > 0.0 && x.is_finite()).ok_or_else(bad);
    match value.split_once('@') {
        None => Ok((number(value)?, None)),
        Some((tokens, clock)) => {
            let clock = clock.to_ascii_lowercase();
            let digits = clock.strip_suffix("mhz").unwrap_or(&clock);
            Ok((number(tokens)?, Some(number(digits)?)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_chips() {
        let budget: Budget = "flash=512K, ram=96KiB,tokens-per-second=20@64MHz".parse().unwrap();
        assert_eq!((budget.flash, budget.ram), (512 << 10, 96 << 10));
        let speed = budget.speed.unwrap();
        assert_eq!((speed.tokens_per_second, speed.mhz), (20.0, 64.0));
        let budget: Budget = "RP2040".parse().unwrap();
        assert_eq!((budget.flash, budget.ram, budget.speed.unwrap().core), (2 << 20, 256 << 10, Core::Plain));
        // A chip with a part of its memory, and a wish.
        let budget: Budget = "stm32h743,flash=1.5M,tokens-per-second=5".parse().unwrap();
        assert_eq!((budget.flash, budget.ram), (3 << 19, 512 << 10));
        assert_eq!(budget.speed.unwrap().mhz, 480.0);
        assert_eq!("flash=100000,ram=1M".parse::<Budget>().unwrap().speed, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("flash=512K", "ram is not said"),
            ("", "flash is not said"),
            ("z80", "\"z80\" is neither"),
            ("flash=512X,ram=1K", "flash is \"512X\", expected bytes"),
            ("flash=-5,ram=1K", "flash is \"-5\""),
            ("rp2350,tokens-per-second=fast", "tokens-per-second is \"fast\""),
            ("flash=1M,ram=1M,tokens-per-second=5", "the clock"),
        ] {
            let error = text.parse::<Budget>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
