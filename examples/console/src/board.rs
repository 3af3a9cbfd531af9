//! What differs from board to board.

use crate::usage::Usage;

/// What a board's clock counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Time: stories are told at so many tokens a second.
    Microseconds,
    /// Work, which is what an emulator can tell: so many instructions a token.
    Instructions,
}

/// A board's clock and memory.
pub trait Board {
    /// What [`now`](Board::now) counts.
    const UNIT: Unit = Unit::Microseconds;

    /// How much of the unit has passed since some moment.
    fn now(&mut self) -> u64;

    /// What the firmware takes of the chip, as far as this board knows.
    fn usage(&self) -> Option<Usage> {
        None
    }
}
