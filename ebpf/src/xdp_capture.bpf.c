/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* AF_XDP capture: frames that are asked for go to the socket of their receive queue, with
 * the time of their arrival in front; all others go on to the host.
 *
 * A redirected frame never reaches the host. So whatever cannot be judged (headers cut
 * short, a later fragment that carries no ports) is left to the host when only some frames
 * are asked for, and counted.
 *
 * Never: a frame dropped here, a frame without a verdict in the counters while armed. Time:
 * nanoseconds of CLOCK_MONOTONIC; frames may share one, see `shares`. */
#include "kernel.h"

__attribute__((unused)) static __u64 (*bpf_jiffies64)(void) = (void *)118;

#define ETH_BYTES 14
#define IPV4 0x0800
#define IPV6 0x86dd
#define VLAN 0x8100
#define SERVICE_VLAN 0x88a8
#define VLAN_TAGS 2

#define HOP_BY_HOP 0
#define TCP 6
#define UDP 17
#define ROUTING 43
#define FRAGMENT 44
#define GRE 47
#define AUTHENTICATION 51
#define DESTINATION_OPTIONS 60
#define EXTENSIONS 6

/* What is asked for; in step with `Wanted` in xdp.rs. */
#define WANT_ALL 1
#define WANT_IP 2
#define WANT_UDP_PORTS 4
#define WANT_GRE 8
/* TCP to these ports is left to the host whatever is asked for. */
#define SPARE_TCP_PORTS 16

const volatile __u32 want = 0;
/* Not 0: write the time in front of the frame. */
const volatile __u32 stamp = 1;

/* Not 0: redirect. Set when the sockets are in place, cleared before they go. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} armed SEC(".maps");

/* How many further frames of a queue share the time of one, in a row. 0: each has its own.
 * Reading the clock is a fifth of what a copied frame costs here; user space asks for this
 * only while the queue fills faster than it can be looked at. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} shares SEC(".maps");

/* Of one queue, which one processor serves at a time. */
struct clock {
	__u64 time;
	__u64 jiffy;
	__u64 used;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct clock);
} clocks SEC(".maps");

/* One socket a receive queue. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

/* A bit a port: UDP ports asked for, then TCP ports spared. */
#define PORT_WORDS 1024
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * PORT_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} ports SEC(".maps");

/* In step with `Verdicts` in xdp.rs. */
struct verdicts {
	__u64 redirected;
	/* Not asked for. */
	__u64 passed;
	/* Could not be judged, so left to the host. */
	__u64 unjudged;
	/* Asked for, but its queue has no socket: left to the host. */
	__u64 no_socket;
	/* Of those redirected: the driver has no room for the time. */
	__u64 unstamped;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct verdicts);
} capture_verdicts SEC(".maps");

enum judgement { TAKE, PASS, CANNOT_TELL };

inline_always __u16 be16_at(const unsigned char *at)
{
	return (__u16)at[0] << 8 | at[1];
}

inline_always int has_port(__u32 table, __u16 port)
{
	__u32 word = table * PORT_WORDS + (port >> 6);
	__u64 *bits = bpf_map_lookup_elem(&ports, &word);
	return bits && (*bits >> (port & 63) & 1);
}

/* What to do with a transport header of `protocol` at `at`. */
inline_always enum judgement judge_transport(const unsigned char *at, const unsigned char *end,
					     __u8 protocol, int later_fragment)
{
	const int others = want & (WANT_ALL | WANT_IP) ? TAKE : PASS;
	const int by_port = (protocol == UDP && want & WANT_UDP_PORTS && others == PASS) ||
			    (protocol == TCP && want & SPARE_TCP_PORTS);
	if (protocol == GRE && want & WANT_GRE)
		return TAKE;
	if (!by_port)
		return others;
	/* RFC 791 section 3.2: only the fragment of offset 0 has the transport header. */
	if (later_fragment || at + 4 > end)
		return CANNOT_TELL;
	if (protocol == UDP)
		return has_port(0, be16_at(at + 2)) ? TAKE : PASS;
	return has_port(1, be16_at(at + 2)) ? PASS : others;
}

inline_always enum judgement judge_ipv4(const unsigned char *ip, const unsigned char *end)
{
	if (ip + 20 > end)
		return CANNOT_TELL;
	__u32 header = (ip[0] & 0x0f) * 4;
	if (ip[0] >> 4 != 4 || header < 20)
		return CANNOT_TELL;
	return judge_transport(ip + header, end, ip[9], be16_at(ip + 6) & 0x1fff);
}

inline_always enum judgement judge_ipv6(const unsigned char *ip, const unsigned char *end)
{
	if (ip + 40 > end || ip[0] >> 4 != 6)
		return CANNOT_TELL;
	__u8 next = ip[6];
	const unsigned char *at = ip + 40;
	int later = 0;
#pragma unroll
	for (int n = 0; n < EXTENSIONS; n++) {
		if (next != HOP_BY_HOP && next != ROUTING && next != DESTINATION_OPTIONS &&
		    next != FRAGMENT && next != AUTHENTICATION)
			return judge_transport(at, end, next, later);
		if (at + 8 > end)
			return CANNOT_TELL;
		__u32 bytes = 8;
		if (next == FRAGMENT)
			/* RFC 8200 section 4.5: offset in the upper 13 bits. */
			later |= be16_at(at + 2) & 0xfff8;
		else if (next == AUTHENTICATION)
			/* RFC 4302 section 2.2: in 32-bit words, minus 2. */
			bytes = ((__u32)at[1] + 2) * 4;
		else
			bytes = ((__u32)at[1] + 1) * 8;
		next = at[0];
		at += bytes;
		/* What follows a later fragment's header is not a header. */
		if (later)
			return judge_transport(at, end, next, 1);
	}
	return CANNOT_TELL;
}

inline_always enum judgement judge(const unsigned char *frame, const unsigned char *end)
{
	/* Nothing that is in the frame matters. */
	if ((want & (WANT_ALL | SPARE_TCP_PORTS)) == WANT_ALL)
		return TAKE;
	if (frame + ETH_BYTES > end)
		return CANNOT_TELL;
	__u16 type = be16_at(frame + 12);
	const unsigned char *at = frame + ETH_BYTES;
#pragma unroll
	for (int n = 0; n < VLAN_TAGS; n++) {
		if (type != VLAN && type != SERVICE_VLAN)
			break;
		if (at + 4 > end)
			return CANNOT_TELL;
		type = be16_at(at + 2);
		at += 4;
	}
	if (type == IPV4)
		return judge_ipv4(at, end);
	if (type == IPV6)
		return judge_ipv6(at, end);
	return want & WANT_ALL ? TAKE : PASS;
}

/* The time of a frame, or of one before it in the same tick of the kernel. */
inline_always __u64 time_of(__u32 queue)
{
	__u32 *share = bpf_map_lookup_elem(&shares, &queue);
	struct clock *clock = bpf_map_lookup_elem(&clocks, &queue);
	if (!share || !clock || !*share)
		return bpf_ktime_get_ns();
	__u64 jiffy = bpf_jiffies64();
	if (clock->used >= *share || clock->jiffy != jiffy) {
		clock->time = bpf_ktime_get_ns();
		clock->jiffy = jiffy;
		clock->used = 0;
	} else {
		clock->used++;
	}
	return clock->time;
}

/* `.frags`: takes frames of several buffers, without which a native program is refused at
 * jumbo MTU. */
SEC("xdp.frags")
int xdp_capture(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u32 *on = bpf_map_lookup_elem(&armed, &zero);
	if (unlikely(!on || !*on))
		return XDP_PASS;
	struct verdicts *count = bpf_map_lookup_elem(&capture_verdicts, &zero);
	if (unlikely(!count))
		return XDP_PASS;

	enum judgement judgement = judge((void *)(long)ctx->data, (void *)(long)ctx->data_end);
	if (judgement != TAKE) {
		if (judgement == PASS)
			count->passed++;
		else
			count->unjudged++;
		return XDP_PASS;
	}

	int stamped = 0;
	if (stamp && bpf_xdp_adjust_meta(ctx, -(int)sizeof(__u64)) == 0) {
		__u64 *time = (void *)(long)ctx->data_meta;
		if (likely((void *)(time + 1) <= (void *)(long)ctx->data)) {
			*time = time_of(ctx->rx_queue_index);
			stamped = 1;
		}
	}
	if (likely(bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS) == XDP_REDIRECT)) {
		count->redirected++;
		if (!stamped)
			count->unstamped++;
		return XDP_REDIRECT;
	}
	/* Metadata would keep the host from merging (GRO) this frame with others. */
	if (stamped)
		bpf_xdp_adjust_meta(ctx, sizeof(__u64));
	count->no_socket++;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
