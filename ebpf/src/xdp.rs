//! The XDP program of AF_XDP capture.
