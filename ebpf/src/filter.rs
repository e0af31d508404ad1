//! Socket filters that count what they reject.
