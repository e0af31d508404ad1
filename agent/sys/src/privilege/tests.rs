//! In forked children.
