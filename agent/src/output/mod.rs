//! What people and programs read: summary, live table, JSON, probe records, HDR logs, and
//! the assertions over them. Everything here is a pure function of a [`report::Report`] or
//! writes to a `Write` that the caller gives; nothing measures, and nothing reads a clock.

pub mod assertion;
pub mod causes;
pub mod hlog;
pub mod json;
pub mod passive;
pub mod protocol;
pub mod records;
pub mod report;
pub mod summary;
pub mod table;
pub mod words;
