//! A session against a reflector over a simulated path: what it reports is compared with
//! what the path did.

mod chaos;
mod clocks;
mod directions;
mod opening;
mod peers;
mod places;
mod restarts;
mod schedule;
mod truth;
mod verdicts;
mod world;
