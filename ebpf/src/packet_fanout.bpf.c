/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Which worker of a PACKET_FANOUT_EBPF group takes a frame. */
#include "kernel.h"

SEC("socket")
int packet_fanout(struct __sk_buff *skb)
{
	return skb->len;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
