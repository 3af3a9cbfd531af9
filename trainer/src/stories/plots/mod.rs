//! The plots: each is a chain of scenes whose later sentences follow from what was drawn
//! for the earlier ones.

mod friends;
mod journeys;
mod learning;
mod lessons;
mod lost;
mod making;
mod night;
mod obstacles;
mod patience;
mod sharing;
mod trying;

use super::tale::Tale;

/// Tells one story from beginning to end.
pub(super) type Plot = fn(&mut Tale<'_>);

/// All plots by name, equally likely.
pub(super) const PLOTS: &[(&str, Plot)] = &[
    ("lost", lost::lost),
    ("stuck", lost::stuck),
    ("returned", lost::returned),
    ("shared", sharing::shared),
    ("greedy", sharing::greedy),
    ("trade", sharing::trade),
    ("soup", sharing::soup),
    ("market", sharing::market),
    ("noise", night::noise),
    ("sleepless", night::sleepless),
    ("ill", night::ill),
    ("truth", lessons::truth),
    ("cry_wolf", lessons::cry_wolf),
    ("advice", lessons::advice),
    ("race", patience::race),
    ("seed", patience::seed),
    ("way_home", journeys::way_home),
    ("message", journeys::message),
    ("hide", journeys::hide),
    ("small", journeys::small),
    ("thief", journeys::thief),
    ("learn", trying::learn),
    ("gift", friends::gift),
    ("shy", friends::shy),
    ("wish", friends::wish),
    ("build", trying::build),
    ("riddle", learning::riddle),
    ("map", learning::map),
    ("week", learning::week),
    ("mother", learning::mother),
    ("cake", making::cake),
    ("snowman", making::snowman),
];
