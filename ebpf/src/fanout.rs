//! Where `PACKET_FANOUT_EBPF` sends a frame: the worker of its innermost flow.
