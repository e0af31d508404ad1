/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A source of frames for benches, run by BPF_PROG_TEST_RUN with live frames: each run makes
 * a template into the next segment of the next flow and sends it.
 *
 * Flows take turns; each sends one segment after the other without gap, so that whoever
 * follows them finds nothing lost. Checksums are right. Never attached to a device; a frame
 * is sent by the device that the run names. Time: nanoseconds of CLOCK_MONOTONIC. */
#include "kernel.h"

/* Flows of one source address. */
#define PORTS 50000
#define FIRST_PORT 10000
/* How often the time is looked at for one frame at most: some 100 us. */
#define LOOKS 4096

const volatile __u32 flows = 1;
/* Between two frames; 0: as fast as it goes. */
const volatile __u32 gap_ns = 0;
/* In the order of the machine. */
const volatile __u32 first_source = 0;
const volatile __u32 payload_bytes = 0;
/* Sums of 16-bit words of the template with the fields below at 0, carries not folded. */
const volatile __u32 ip_sum = 0;
const volatile __u32 tcp_sum = 0;

/* In step with `State` in generator.rs. */
struct state {
	__u64 sent;
	/* Of this run: when and with which frame it began. */
	__u64 begin_ns;
	__u64 begin_sent;
	__u32 flow;
	__u32 round;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} generator_state SEC(".maps");

/* Ethernet, IPv4 without options, TCP: RFC 791 section 3.1, RFC 9293 section 3.1. */
struct headers {
	__u8 ethernet[14];
	__u8 ip_start[10];
	__be16 ip_check;
	__be16 source[2];
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
	__be16 sequence[2];
	__be32 acknowledged;
	__be16 flags;
	__be16 window;
	__be16 tcp_check;
	__be16 urgent;
} __attribute__((packed));

inline_always __be16 folded(__u32 sum)
{
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return htons((__u16)~sum);
}

inline_always void wait_for_turn(struct state *state)
{
	__u64 now = bpf_ktime_get_ns();
	if (!state->begin_ns) {
		state->begin_ns = now;
		state->begin_sent = state->sent;
	}
	__u64 due = state->begin_ns + (state->sent - state->begin_sent) * gap_ns;
	for (int look = 0; look < LOOKS && now < due; look++)
		now = bpf_ktime_get_ns();
}

SEC("xdp") int xdp_generator(struct xdp_md *xdp)
{
	struct headers *frame = (void *)(long)xdp->data;
	void *end = (void *)(long)xdp->data_end;
	__u32 zero = 0;
	struct state *state = bpf_map_lookup_elem(&generator_state, &zero);
	if (!state || (void *)(frame + 1) > end)
		return XDP_ABORTED;
	if (gap_ns)
		wait_for_turn(state);
	__u32 flow = state->flow;
	__u32 sequence = state->round * payload_bytes;
	__u32 source = first_source + flow / PORTS;
	__u32 port = FIRST_PORT + flow % PORTS;
	__u32 source_sum = (source >> 16) + (source & 0xffff);
	state->sent++;
	if (++flow >= flows) {
		flow = 0;
		state->round++;
	}
	state->flow = flow;
	/* Each field, as the page may be that of any earlier frame. */
	frame->source[0] = htons((__u16)(source >> 16));
	frame->source[1] = htons((__u16)source);
	frame->source_port = htons((__u16)port);
	frame->sequence[0] = htons((__u16)(sequence >> 16));
	frame->sequence[1] = htons((__u16)sequence);
	frame->ip_check = folded(ip_sum + source_sum);
	frame->tcp_check = folded(tcp_sum + source_sum + port + (sequence >> 16) + (sequence & 0xffff));
	return XDP_TX;
}

char _license[] SEC("license") = "Dual MIT/GPL";
