//! The little of pcap and pcapng that the public captures need, apart from the product's own
//! reader so that a mistake there cannot hide one here.

use std::path::{Path, PathBuf};

use base::{Frame, LinkType, Passage, WallNanos};

/// One record.
pub(crate) struct Record {
    link: LinkType,
    original_len: u32,
    pub(crate) bytes: Vec<u8>,
}

impl Record {
    pub(crate) fn frame(&self) -> Frame<'_> {
        Frame {
            bytes: &self.bytes,
            original_len: self.original_len,
            at: WallNanos(0),
            segment_bytes: 0,
            link: self.link,
            passage: Passage::Unknown,
        }
    }
}

/// The captures, in order of their names; `None`: not on this machine.
pub(crate) fn all() -> Option<Vec<PathBuf>> {
    let folder = std::env::var_os("NETSONDE_PCAPS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/pcaps"),
        PathBuf::from,
    );
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: no captures in {}", folder.display());
        return None;
    };
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end.to_string_lossy().starts_with("pcap"))
        })
        .collect();
    files.sort();
    Some(files)
}

/// All records of a little-endian file, which all of them are.
pub(crate) fn read(path: &Path) -> Vec<Record> {
    let file = std::fs::read(path).expect("readable");
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four"));
    let mut records = Vec::new();
    if u32_at(0) == 0x0a0d_0d0a {
        let mut link = LinkType::Other;
        let mut at = 0;
        while at < file.len() {
            match u32_at(at) {
                1 => link = LinkType::from_pcap(u32_at(at + 8) as u16),
                6 => records.push(Record {
                    link,
                    original_len: u32_at(at + 24),
                    bytes: file[at + 28..][..u32_at(at + 20) as usize].to_vec(),
                }),
                _ => {}
            }
            at += u32_at(at + 4) as usize;
        }
    } else {
        assert!(
            matches!(u32_at(0), 0xa1b2_c3d4 | 0xa1b2_3c4d),
            "{}",
            path.display()
        );
        let link = LinkType::from_pcap(u32_at(20) as u16);
        let mut at = 24;
        while at < file.len() {
            let captured = u32_at(at + 8) as usize;
            records.push(Record {
                link,
                original_len: u32_at(at + 12),
                bytes: file[at + 16..][..captured].to_vec(),
            });
            at += 16 + captured;
        }
    }
    records
}
