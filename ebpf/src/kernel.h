/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The part of the kernel's stable interface (include/uapi/linux/bpf.h) that the programs
 * use. Written out, so that an object has the same bytes whatever headers the machine has:
 * the types of arguments end up in its BTF. */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed int __s32;
typedef signed long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;

/* How libbpf and aya find programs and maps. */
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name
#define inline_always static inline __attribute__((always_inline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Both hosts that there are (x86-64, aarch64) are little-endian. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "little-endian targets only"
#endif
#define ntohs(x) __builtin_bswap16(x)
#define htons(x) __builtin_bswap16(x)
#define ntohl(x) __builtin_bswap32(x)
#define htonl(x) __builtin_bswap32(x)

/* enum bpf_map_type */
#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_LRU_HASH 9
#define BPF_MAP_TYPE_XSKMAP 17

/* Flags of bpf_map_update_elem, and of maps. */
#define BPF_ANY 0
#define BPF_F_MMAPABLE (1U << 10)

/* enum bpf_hdr_start_off */
#define BPF_HDR_START_MAC 0
#define BPF_HDR_START_NET 1

/* enum xdp_action */
#define XDP_ABORTED 0
#define XDP_DROP 1
#define XDP_PASS 2
#define XDP_TX 3
#define XDP_REDIRECT 4

/* struct __sk_buff as far as it is used; the verifier rewrites each access. */
struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
};

/* struct xdp_md */
struct xdp_md {
	__u32 data;
	__u32 data_end;
	__u32 data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};

/* Helpers, by their number in enum bpf_func_id. */
__attribute__((unused)) static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
__attribute__((unused)) static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
__attribute__((unused)) static __u64 (*bpf_ktime_get_ns)(void) = (void *)5;
__attribute__((unused)) static __u32 (*bpf_get_smp_processor_id)(void) = (void *)8;
__attribute__((unused)) static long (*bpf_skb_load_bytes)(const void *skb, __u32 offset, void *to, __u32 len) = (void *)26;
__attribute__((unused)) static long (*bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)51;
__attribute__((unused)) static long (*bpf_xdp_adjust_meta)(struct xdp_md *xdp, int delta) = (void *)54;
__attribute__((unused)) static long (*bpf_skb_load_bytes_relative)(const void *skb, __u32 offset, void *to, __u32 len, __u32 start) = (void *)68;
