//! Why bytes were refused: a small closed list that indexes an array of counters.

base::closed_list! {
    /// Why bytes were refused. `Copy`, one octet, countable by [`Reason::index`].
    Reason {
        /// Fewer octets than the fixed part of the format (or too small a buffer to write to).
        TooShort = "too_short",
        /// A length field claims more octets than there are.
        Truncated = "truncated",
        /// A length field that no packet of this format can have.
        BadLength = "bad_length",
        /// A version that this code does not speak.
        BadVersion = "bad_version",
        /// The checksum does not match.
        BadChecksum = "bad_checksum",
        /// Well-formed as far as was looked, but of another protocol or for somebody else.
        NotOurs = "not_ours",
        /// A STAMP TLV with a length that its type or the packet does not allow.
        MalformedTlv = "malformed_tlv",
        /// The other side flagged a TLV as malformed (M), so what follows is not read.
        FlaggedMalformed = "flagged_malformed",
        /// The other side flagged failed integrity (I), so no TLV is believed.
        FlaggedIntegrity = "flagged_integrity",
        /// More than two VLAN tags.
        TooManyTags = "too_many_tags",
        /// More IPv6 extension headers than are followed.
        TooManyExtensions = "too_many_extensions",
    }
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for Reason {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_positions_and_words_are_unique() {
        for (position, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), position);
            let same = Reason::ALL.iter().filter(|r| r.as_str() == reason.as_str());
            assert_eq!(same.count(), 1, "{reason}");
        }
        assert_eq!(size_of::<Reason>(), 1);
    }
}
