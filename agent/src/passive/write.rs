//! `-w`: the file that frames go to.

use base::LinkType;
use capture::{WriteOptions, Writer};

use super::plan::Plan;
use crate::exit::Failure;

/// Makes the file, if one is wanted, for frames of this device and link type.
///
/// # Errors
/// With the usage code if it cannot be made.
pub fn writer(plan: &Plan, device: &str, link: LinkType) -> Result<Option<Writer>, Failure> {
    let Some(write) = &plan.write else {
        return Ok(None);
    };
    let options = WriteOptions {
        path: write.path.clone(),
        snaplen: write.snaplen,
        device: device.to_owned(),
        link,
        filter: plan.filter.join(" "),
        file_bytes: write.file_bytes,
        files: write.files,
    };
    Writer::create(options)
        .map(Some)
        .map_err(|error| Failure::usage(format!("-w: {error}; name a file that can be made")))
}
