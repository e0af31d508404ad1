//! `-w`: the file that frames go to, and the end of it.

use std::io::ErrorKind;

use base::LinkType;
use capture::{SourceError, WriteOptions, Writer};

use super::plan::Plan;
use crate::exit::Failure;

/// Why frames are not written any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unwritten {
    /// In words.
    pub why: String,
    /// Whoever read them went away, so nobody wants more.
    pub unwanted: bool,
}

impl From<SourceError> for Unwritten {
    fn from(error: SourceError) -> Self {
        let unwanted = match &error {
            SourceError::System { error, .. } => error.kind() == ErrorKind::BrokenPipe,
            _ => false,
        };
        let why = match error {
            SourceError::System {
                operation,
                object,
                error,
            } if object == "-" => format!("-w: {operation} on standard output: {error}"),
            other => format!("-w: {other}"),
        };
        Self { why, unwanted }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_wants_no_more() {
        let of = |object: &str, kind: ErrorKind| {
            Unwritten::from(SourceError::System {
                operation: "write",
                object: object.to_owned(),
                error: kind.into(),
            })
        };
        let gone = of("-", ErrorKind::BrokenPipe);
        assert!(gone.unwanted);
        assert_eq!(gone.why, "-w: write on standard output: broken pipe");
        let full = of("f.pcapng", ErrorKind::StorageFull);
        assert!(!full.unwanted);
        assert!(full.why.starts_with("-w: write on f.pcapng: "), "{full:?}");
    }
}
