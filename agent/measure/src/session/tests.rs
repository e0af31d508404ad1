//! A session against a reflector over a simulated path: what it reports is compared with
//! what the path did.

mod chaos;
mod clocks;
mod directions;
mod peers;
mod schedule;
mod verdicts;
mod world;
