//! (being written)
pub mod netns;
pub mod packet;
