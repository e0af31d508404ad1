//! From the sockets' batches to slices of [`Frame`]s: times, merge of the queues, filter,
//! and the assembly of frames in several chunks where that is asked for.

use af_xdp::{Batch, Chunks, Frames, Socket};
use base::{Frame, LinkType, MonoNanos, Passage, WallNanos};
use ebpf::xdp::STAMP_BYTES;
use sys::clock::wall_now;

use crate::afxdp::stamp::Converter;
use crate::afxdp::{FRAMES_PER_POLL, Filter, MAX_QUEUES};
use crate::source::BATCH;

/// Room for the frames of one slice that came in several chunks. A frame that is longer
/// than this is lent by its first chunk.
const ASSEMBLY_BYTES: usize = 256 * 1024;

/// What a call came to.
#[derive(Copy, Clone, Default, Debug)]
pub(super) struct Taken {
    /// Frames taken from the rings.
    pub(super) frames: usize,
    /// Of them lent.
    pub(super) lent: usize,
}

/// What outlives a batch.
pub(super) struct Lender {
    pub(super) filter: Option<Filter>,
    /// Frames that it refused.
    pub(super) filtered: u64,
    pub(super) newest: Option<WallNanos>,
    /// The program's time of the newest frame, lent or not; 0: none.
    pub(super) newest_stamp: MonoNanos,
    clock: Converter,
    /// Where frames in several chunks are put together. Empty: the first chunk is enough.
    room: Box<[u8]>,
}

const EMPTY: Frame<'static> = Frame {
    bytes: &[],
    original_len: 0,
    at: WallNanos(0),
    segment_bytes: 0,
    link: LinkType::Ethernet,
    passage: Passage::Unknown,
};

/// The program's time. 0 where it could not write one: nothing else ever writes there, and
/// the memory was zero at first.
#[inline]
fn stamp_of(chunks: &Chunks<'_>) -> MonoNanos {
    let bytes = chunks.metadata::<STAMP_BYTES>();
    MonoNanos(bytes.map_or(0, u64::from_ne_bytes))
}

impl Lender {
    pub(super) fn new(whole_frames: bool) -> Self {
        let room = if whole_frames { ASSEMBLY_BYTES } else { 0 };
        Self {
            filter: None,
            filtered: 0,
            newest: None,
            newest_stamp: MonoNanos(0),
            clock: Converter::new(),
            room: vec![0; room].into(),
        }
    }

    /// Lends what waits in the rings, some hundreds of frames at most.
    pub(super) fn drain(
        &mut self,
        sockets: &mut [Socket],
        lend: &mut impl FnMut(&[Frame<'_>]),
    ) -> Taken {
        let mut all = Taken::default();
        while all.frames < FRAMES_PER_POLL {
            let taken = match &mut *sockets {
                [one] => self.one(one, lend),
                several => self.merged(several, lend),
            };
            all.frames += taken.frames;
            all.lent += taken.lent;
            // Less than a full batch: the rings were empty a moment ago.
            if taken.frames < BATCH {
                break;
            }
        }
        all
    }

    fn one(&mut self, socket: &mut Socket, lend: &mut impl FnMut(&[Frame<'_>])) -> Taken {
        let batch = socket.receive(BATCH as u32);
        if batch.is_empty() {
            return Taken::default();
        }
        let frames = batch.frames().map(|chunks| (stamp_of(&chunks), chunks));
        let lent = self.lend(frames, lend);
        Taken {
            frames: batch.len() as usize,
            lent,
        }
    }

    /// The frames of all queues in the order of their times.
    fn merged(&mut self, sockets: &mut [Socket], lend: &mut impl FnMut(&[Frame<'_>])) -> Taken {
        let mut batches: [Option<Batch<'_>>; MAX_QUEUES] = [const { None }; MAX_QUEUES];
        for (slot, socket) in batches.iter_mut().zip(sockets) {
            *slot = Some(socket.receive(BATCH as u32));
        }
        let mut merge = Merge::new(&batches);
        let mut taken = Taken::default();
        loop {
            let before = taken.frames;
            let slice = merge.by_ref().take(BATCH).inspect(|_| taken.frames += 1);
            taken.lent += self.lend(slice, lend);
            if taken.frames == before {
                break;
            }
        }
        let left = merge.left();
        for (batch, left) in batches.iter_mut().flatten().zip(left) {
            batch.leave(left);
        }
        taken
    }

    /// Lends frames in slices, and says how many. A slice ends early when the room for
    /// assembly is used up.
    fn lend<'a>(
        &mut self,
        mut frames: impl Iterator<Item = (MonoNanos, Chunks<'a>)>,
        lend: &mut impl FnMut(&[Frame<'_>]),
    ) -> usize {
        let all_room = self.room.len();
        let (mut lent, mut batch_time, mut held) = (0, None, None);
        loop {
            let mut slice = [EMPTY; BATCH];
            let mut places = slice.iter_mut();
            let mut room = &mut self.room[..];
            let mut more = true;
            while !places.as_slice().is_empty() {
                let Some((stamp, chunks)) = held.take().or_else(|| frames.next()) else {
                    more = false;
                    break;
                };
                let mut bytes: &[u8] = chunks.first();
                let len = chunks.len();
                let assemble = !chunks.is_single() && len <= all_room;
                if assemble && len > room.len() {
                    held = Some((stamp, chunks));
                    break;
                }
                self.newest_stamp = stamp;
                let original_len = u32::try_from(len).unwrap_or(u32::MAX);
                if let Some(filter) = &mut self.filter
                    && !filter(bytes, original_len)
                {
                    self.filtered += 1;
                    continue;
                }
                if assemble {
                    let (whole, rest) = std::mem::take(&mut room).split_at_mut(len);
                    copy_all(&chunks, whole);
                    (bytes, room) = (whole, rest);
                }
                let at = match stamp {
                    MonoNanos(0) => *batch_time.get_or_insert_with(wall_now),
                    stamp => self.clock.wall(stamp),
                };
                if let Some(place) = places.next() {
                    *place = Frame {
                        bytes,
                        original_len,
                        at,
                        ..EMPTY
                    };
                    self.newest = Some(at);
                }
            }
            let filled = BATCH - places.len();
            if filled > 0 {
                lend(&slice[..filled]);
                lent += filled;
            }
            if !more {
                return lent;
            }
        }
    }
}

/// The chunks one after another; `whole` is as long as all of them.
fn copy_all(chunks: &Chunks<'_>, whole: &mut [u8]) {
    let mut rest = whole;
    for piece in chunks.iter() {
        let Some((to, after)) = rest.split_at_mut_checked(piece.len()) else {
            return;
        };
        to.copy_from_slice(piece);
        rest = after;
    }
}

/// One queue in a merge.
struct Head<'a> {
    frames: Frames<'a>,
    next: Option<(MonoNanos, Chunks<'a>)>,
    /// Descriptors that were not handed out, `next`'s included.
    left: usize,
    /// There may be more in the ring than was taken from it.
    full: bool,
}

impl<'a> Head<'a> {
    fn new(batch: &'a Batch<'_>) -> Self {
        let mut head = Self {
            frames: batch.frames(),
            next: None,
            left: 0,
            full: batch.len() as usize >= BATCH,
        };
        head.advance();
        head
    }

    fn advance(&mut self) -> Option<(MonoNanos, Chunks<'a>)> {
        let left = self.frames.left();
        let next = self.frames.next().map(|chunks| (stamp_of(&chunks), chunks));
        // Descriptors behind the last good frame are skipped for ever.
        self.left = if next.is_some() { left } else { 0 };
        std::mem::replace(&mut self.next, next)
    }
}

/// Frames of several queues, the oldest first. When a queue runs out that may hold more, all
/// end: its next frame could be older than the others'.
struct Merge<'a> {
    heads: [Option<Head<'a>>; MAX_QUEUES],
    ended: bool,
}

impl<'a> Merge<'a> {
    fn new(batches: &'a [Option<Batch<'_>>; MAX_QUEUES]) -> Self {
        let mut heads = [const { None }; MAX_QUEUES];
        for (head, batch) in heads.iter_mut().zip(batches.iter().flatten()) {
            *head = Some(Head::new(batch));
        }
        Self {
            heads,
            ended: false,
        }
    }

    /// What each queue keeps for the next round, in descriptors.
    fn left(self) -> [usize; MAX_QUEUES] {
        let mut left = [0; MAX_QUEUES];
        for (left, head) in left.iter_mut().zip(self.heads.iter().flatten()) {
            *left = head.left;
        }
        left
    }
}

impl<'a> Iterator for Merge<'a> {
    type Item = (MonoNanos, Chunks<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let waiting = self
            .heads
            .iter_mut()
            .flatten()
            .filter(|head| head.next.is_some());
        let oldest = waiting.min_by_key(|head| head.next.as_ref().map(|(at, _)| at.0))?;
        let frame = oldest.advance();
        self.ended = oldest.next.is_none() && oldest.full;
        frame
    }
}
