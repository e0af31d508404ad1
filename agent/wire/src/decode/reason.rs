//! Why a frame was not decoded.

base::closed_list! {
    /// Why there is no measurable packet in a frame; the index of a counter.
    Undecoded {
        /// A link type that is not decoded.
        LinkType = "link_type",
    }
}
