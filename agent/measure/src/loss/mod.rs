//! Which direction lost a probe (kernel-and-lab R1): from our own reflector's reports
//! where there are any, else from a stateful reflector's sequence numbers.

pub mod alignment;
pub mod order;
pub mod reports;

pub use alignment::{Alignment, Split};
pub use order::{Order, Seen, unwrap_sequence};
pub use reports::{Added, Reports, Sent};
