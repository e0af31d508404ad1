//! Requests that are answered with several descriptors: those of a capture. The answer to the
//! first says too what is not as it should be, one line each.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use super::{Allowed, MESSAGE, NUMBER, REFUSED, Request};
use crate::worker::capture as capturing;

/// Descriptors that one request opened and further ones fetch; `None`: there is none in this
/// place.
#[derive(Debug, Default)]
pub(super) struct Pending(VecDeque<Option<OwnedFd>>);

/// Octets of what is said beside a descriptor, so that it fits an answer.
const MOST_NOTES: usize = MESSAGE - NUMBER - size_of::<i32>();

/// There is no descriptor in this place (ENODATA).
pub(super) const NOTHING: i32 = 61;

impl Pending {
    /// The answer to a request of a capture; `None`: it is another one.
    pub(super) fn answer(
        &mut self,
        allowed: &Allowed,
        bytes: &[u8],
    ) -> Option<(Vec<u8>, Option<OwnedFd>)> {
        let (number, request) = bytes.split_at(bytes.len().min(NUMBER));
        let request = Request::decode(request)?;
        let capture = allowed.capture.as_ref()?;
        let mut notes = String::new();
        match &request {
            Request::Capture { device } if allowed.permits(&request) => {
                self.0.clear();
                match capturing::open(capture, device) {
                    Ok(opened) => {
                        self.0 = opened.descriptors.into();
                        notes = opened.notes.join("\n");
                    }
                    Err(error) => {
                        let errno = sys::call::errno_of(&error).unwrap_or(REFUSED);
                        return Some(([number, &errno.to_be_bytes()].concat(), None));
                    }
                }
            }
            Request::CaptureNext => {}
            _ => return None,
        }
        let fd = self.0.pop_front().flatten();
        let errno: i32 = if fd.is_some() { 0 } else { NOTHING };
        notes.truncate(notes.floor_char_boundary(MOST_NOTES));
        let answer = [number, &errno.to_be_bytes(), notes.as_bytes()].concat();
        Some((answer, fd))
    }
}
