/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Which worker of a PACKET_FANOUT_EBPF group takes a frame: the one of its innermost flow,
 * the same for both directions, for every fragment and for the ICMP errors that quote it.
 *
 * TCP is spread by addresses and ports. All else is spread by addresses and protocol alone,
 * because a later fragment has no ports and may come before the first one: a UDP flow with
 * whole and with fragmented datagrams is one flow. What this costs is that two hosts' UDP
 * flows among themselves share a worker. A fragment of TCP or of a tunnel finds its flow by
 * a map that the first fragment fills; where that came later or never, addresses decide, and
 * for TCP this is counted.
 *
 * Never: a read by a fixed place from the start of the buffer (a frame that arrives begins
 * at its IP header here, one that leaves at its Ethernet header), a frame without a worker. */
#include "kernel.h"

#define IPV4 0x0800
#define IPV6 0x86dd
#define VLAN 0x8100
#define SERVICE_VLAN 0x88a8
#define MPLS 0x8847
#define MPLS_MULTICAST 0x8848
#define ETHERNET 0x6558
#define ERSPAN_II 0x88be
#define ERSPAN_III 0x22eb

#define HOP_BY_HOP 0
#define ICMP 1
#define IP_IN_IP 4
#define TCP 6
#define UDP 17
#define IPV6_IN_IP 41
#define ROUTING 43
#define FRAGMENT 44
#define GRE 47
#define AUTHENTICATION 51
#define ICMPV6 58
#define DESTINATION_OPTIONS 60
#define MOBILITY 135
#define MPLS_IN_IP 137

#define VXLAN_PORT 4789
#define VXLAN_LINUX_PORT 8472
#define GENEVE_PORT 6081

#define PACKET_OUTGOING 4
/* Headers that one frame may have; more, and the flow found so far decides. */
#define STEPS 20

/* Of every frame: other flows share its worker when an attacker knows the hash. */
const volatile __u64 seed = 0;
/* Not 0: the flow of the outermost header, for those who ask for the outer layer. */
const volatile __u32 outer = 0;

struct datagram {
	__u32 source[4];
	__u32 destination[4];
	__u32 id;
	__u32 protocol;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct datagram);
	__type(value, __u64);
} fragments SEC(".maps");

enum { FLOW, NOT_IP, ORPHAN, COUNTERS };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} fanout_counters SEC(".maps");

inline_always void count(__u32 what)
{
	__u64 *counter = bpf_map_lookup_elem(&fanout_counters, &what);

	if (counter)
		*counter += 1;
}

/* Octets past the linear part of a buffer. The helper that reaches them counts from the
 * start of the data, so where the IP header is has to be found: at once in a frame that
 * arrives, after the link header in one that leaves. */
static __attribute__((noinline)) long load_far(struct __sk_buff *skb, __u32 at, void *to, __u32 len)
{
	__u32 shift = 0;

	if (skb->pkt_type == PACKET_OUTGOING) {
		__u64 head, there;

		if (bpf_skb_load_bytes_relative(skb, 0, &head, sizeof(head), BPF_HDR_START_NET))
			return -1;
		for (shift = 0; shift < 26; shift = shift ? shift + 4 : 14) {
			if (!bpf_skb_load_bytes(skb, shift, &there, sizeof(there)) && there == head)
				break;
		}
	}
	return bpf_skb_load_bytes(skb, shift + at, to, len);
}

inline_always long load(struct __sk_buff *skb, __u32 at, void *to, __u32 len)
{
	if (likely(!bpf_skb_load_bytes_relative(skb, at, to, len, BPF_HDR_START_NET)))
		return 0;
	return load_far(skb, at, to, len);
}

inline_always __u64 mix(__u64 x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ULL;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ULL;
	return x ^ x >> 32;
}

inline_always __u64 end_hash(const __u32 address[4], __u32 port)
{
	__u64 high = (__u64)address[0] << 32 | address[1];
	__u64 low = (__u64)address[2] << 32 | address[3];

	return mix(mix(high ^ seed) + low + (__u64)port * 0x9e3779b97f4a7c15ULL);
}

/* The sum makes both directions one. */
inline_always __u64 flow_hash(const struct datagram *ip, __u32 source_port, __u32 destination_port)
{
	return mix(end_hash(ip->source, source_port) + end_hash(ip->destination, destination_port) +
		   ip->protocol);
}

/* A frame that leaves with its VLAN tag written out has the tag's type as its protocol, but
 * the IP header as its network header; one that arrives with two tags has the inner tag
 * there. Whether a tag is there shows what it leads to. */
inline_always int is_tag(struct __sk_buff *skb, __u32 at)
{
	__u16 tag[2];
	__u8 next;

	if (load(skb, at, tag, sizeof(tag)) || load(skb, at + 4, &next, 1))
		return 0;
	switch (ntohs(tag[1])) {
	case IPV4:
		return next >> 4 == 4;
	case IPV6:
		return next >> 4 == 6;
	case VLAN:
	case SERVICE_VLAN:
	case MPLS:
	case MPLS_MULTICAST:
		return 1;
	}
	return 0;
}

/* The state of the walk between two steps, where the verifier does not follow values (bytes
 * of the stack off the 8-byte slots): it then sees each step once, not once for each state,
 * of which there are some hundred. */
struct between {
	__u32 slot;
	volatile __u16 type;
	volatile __u8 state;
};
#define IN_IP 1
#define FOUND 2
#define QUOTED 4
#define FIRST 8

SEC("socket")
int packet_fanout(struct __sk_buff *skb)
{
	struct datagram ip = {}, whole = {};
	__u32 ports[2] = {}, at = 0, type = ntohs(skb->protocol);
	struct between between __attribute__((aligned(8)));
	__u32 state = 0;
	__u64 hash;

	if ((type == VLAN || type == SERVICE_VLAN) && !is_tag(skb, 0)) {
		__u8 version;

		if (!load(skb, 0, &version, 1))
			type = version >> 4 == 4 ? IPV4 : version >> 4 == 6 ? IPV6 : type;
	}
	between.type = type;
	between.state = 0;
	for (int step = 0; step < STEPS; step++, between.type = type, between.state = state) {
		__u8 header[40] __attribute__((aligned(8)));
		__u16 *half = (__u16 *)header;
		__u32 *word = (__u32 *)header;

		type = between.type;
		state = between.state;
		if (!(state & IN_IP)) {
			/* `type` is what an Ethernet frame would call what is at `at`. */
			if (type == IPV4) {
				__u32 length, place;

				if (load(skb, at, header, 20) || header[0] >> 4 != 4 || (length = (header[0] & 15) * 4) < 20)
					break;
				if ((state & FOUND) && outer && !(state & QUOTED))
					break;
				state = (state & FIRST) | FOUND | IN_IP;
				__builtin_memset(&ip, 0, sizeof(ip));
				ip.source[3] = word[3];
				ip.destination[3] = word[4];
				ip.protocol = type = header[9];
				ports[0] = ports[1] = 0;
				at += length;
				/* RFC 791: MF and the offset; DF is none of ours. */
				place = ntohs(half[3]) & 0x3fff;
				if (place) {
					ip.id = half[2];
					if (place & 0x1fff)
						goto later_fragment;
					if (!(state & FIRST))
						whole = ip;
					state |= FIRST;
					ip.id = 0;
				}
			} else if (type == IPV6) {
				if (load(skb, at, header, 40) || header[0] >> 4 != 6)
					break;
				if ((state & FOUND) && outer && !(state & QUOTED))
					break;
				state = (state & FIRST) | FOUND | IN_IP;
				__builtin_memcpy(ip.source, &word[2], 16);
				__builtin_memcpy(ip.destination, &word[6], 16);
				ip.protocol = type = header[6];
				ports[0] = ports[1] = 0;
				at += 40;
			} else if (type == VLAN || type == SERVICE_VLAN) {
				if (load(skb, at, header, 4))
					break;
				type = ntohs(half[1]);
				at += 4;
			} else if (type == MPLS || type == MPLS_MULTICAST) {
				/* RFC 3032: the bottom of the stack has bit S; no type follows. */
				if (load(skb, at, header, 5))
					break;
				at += 4;
				if (header[2] & 1)
					type = header[4] >> 4 == 4 ? IPV4 : header[4] >> 4 == 6 ? IPV6 : 0;
			} else if (type == ETHERNET) {
				if (load(skb, at, header, 14))
					break;
				type = ntohs(half[6]);
				at += 14;
			} else if (type == ERSPAN_II) {
				type = ETHERNET;
				at += 8;
			} else if (type == ERSPAN_III) {
				/* Bit O: a sub-header of 8 octets more. */
				if (load(skb, at, header, 12))
					break;
				type = ETHERNET;
				at += 12 + (header[11] & 1) * 8;
			} else {
				break;
			}
			continue;
		}

		/* `type` is an IP protocol number; FOUND is set. */
		if (type == TCP) {
			ip.protocol = type;
			if (!load(skb, at, half, 4)) {
				ports[0] = half[0];
				ports[1] = half[1];
			}
			break;
		}
		if (type == HOP_BY_HOP || type == ROUTING || type == DESTINATION_OPTIONS || type == MOBILITY) {
			if (load(skb, at, header, 2))
				break;
			type = header[0];
			at += (header[1] + 1) * 8;
			continue;
		}
		if (type == FRAGMENT) {
			__u32 place;

			if (load(skb, at, header, 8))
				break;
			/* RFC 8200 section 4.5: 13 bits of offset, two reserved, M. */
			ip.protocol = type = header[0];
			place = ntohs(half[1]) & 0xfff9;
			at += 8;
			if (place) {
				ip.id = word[1];
				if (place & 0xfff8)
					goto later_fragment;
				if (!(state & FIRST))
					whole = ip;
				state |= FIRST;
				ip.id = 0;
			}
			continue;
		}
		if (type == AUTHENTICATION) {
			if (load(skb, at, header, 2))
				break;
			type = header[0];
			at += (header[1] + 2) * 4;
			continue;
		}
		ip.protocol = type;
		if (type == IP_IN_IP) {
			type = IPV4;
		} else if (type == IPV6_IN_IP) {
			type = IPV6;
		} else if (type == MPLS_IN_IP) {
			type = MPLS;
		} else if (type == UDP) {
			__u32 port;

			/* With the first 8 octets of what it carries. */
			if (load(skb, at, header, 16))
				break;
			port = ntohs(half[1]);
			if (port == VXLAN_PORT || port == VXLAN_LINUX_PORT) {
				/* RFC 7348: flag I. */
				if (!(header[8] & 8))
					break;
				type = ETHERNET;
				at += 16;
			} else if (port == GENEVE_PORT) {
				/* RFC 8926: version 0, length of the options in words. */
				if (header[8] >> 6)
					break;
				type = ntohs(half[5]);
				at += 16 + (header[8] & 63) * 4;
			} else {
				break;
			}
		} else if (type == GRE) {
			__u32 flags;

			/* RFC 2784, RFC 2890: version 0; checksum, key and sequence are 4 octets each. */
			if (load(skb, at, header, 4))
				break;
			flags = ntohs(half[0]);
			if (flags & 0x4007)
				break;
			type = ntohs(half[1]);
			at += 4 + (flags >> 15 & 1) * 4 + (flags >> 13 & 1) * 4 + (flags >> 12 & 1) * 4;
			/* ERSPAN type I has neither sequence number nor header. */
			if (type == ERSPAN_II && !(flags & 0x1000))
				type = ETHERNET;
		} else if (type == ICMP) {
			/* Errors (RFC 792) quote the packet that they are about. */
			if (load(skb, at, header, 1))
				break;
			if (header[0] != 3 && header[0] != 4 && header[0] != 5 && header[0] != 11 && header[0] != 12)
				break;
			type = IPV4;
			state |= QUOTED;
			at += 8;
		} else if (type == ICMPV6) {
			/* RFC 4443 section 2.1: errors are below 128. */
			if (load(skb, at, header, 1) || header[0] >= 128)
				break;
			type = IPV6;
			state |= QUOTED;
			at += 8;
		} else {
			break;
		}
		state &= ~IN_IP;
	}
	if (!(state & FOUND)) {
		/* Ethernet addresses differ by direction: one worker for all that is not IP. */
		count(NOT_IP);
		return 0;
	}
	count(FLOW);
	hash = flow_hash(&ip, ports[0], ports[1]);
	/* Where a later fragment would come by its addresses anyway, it needs no entry. */
	if ((state & FIRST) && flow_hash(&whole, 0, 0) != hash)
		bpf_map_update_elem(&fragments, &whole, &hash, BPF_ANY);
	return hash >> 32;

later_fragment:;
	__u64 *known = bpf_map_lookup_elem(&fragments, &ip);

	count(FLOW);
	if (known)
		return *known >> 32;
	if (ip.protocol == TCP)
		count(ORPHAN);
	return flow_hash(&ip, 0, 0) >> 32;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
