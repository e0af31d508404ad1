//! The eBPF programs: embedded objects, loading, attaching, their maps.
