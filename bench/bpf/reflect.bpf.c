// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The least that an echo can do: swaps addresses and ports of UDP frames to one port in the driver and
 * sends them back. The limit that every other server is held against. Beside it the sink, which is the limit
 * of a sender. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "stamp.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} port SEC(".maps");

#define SWAP(a, b) do { __typeof__(a) kept = (a); (a) = (b); (b) = kept; } while (0)

static __always_inline int reflect_ipv6(struct xdp_md *ctx, __u16 own_port)
{
	__u8 *frame = (void *)(long)ctx->data;

	if (frame + 62 > (__u8 *)(long)ctx->data_end || frame[20] != 17 || *(__u16 *)(frame + 56) != own_port)
		return XDP_PASS;
	SWAP(*(__u32 *)frame, *(__u32 *)(frame + 6));
	SWAP(*(__u16 *)(frame + 4), *(__u16 *)(frame + 10));
	SWAP(*(__u64 *)(frame + 22), *(__u64 *)(frame + 38));
	SWAP(*(__u64 *)(frame + 30), *(__u64 *)(frame + 46));
	SWAP(*(__u16 *)(frame + 54), *(__u16 *)(frame + 56));
	return XDP_TX;
}

SEC("xdp")
int reflect(struct xdp_md *ctx)
{
	__u8 *frame = (void *)(long)ctx->data;
	__u32 zero = 0, *own_port;

	if (frame + 42 > (__u8 *)(long)ctx->data_end)
		return XDP_PASS;
	own_port = bpf_map_lookup_elem(&port, &zero);
	if (!own_port)
		return XDP_PASS;
	if (*(__u16 *)(frame + 12) == bpf_htons(0x86dd))
		return reflect_ipv6(ctx, bpf_htons(*own_port));
	if (*(__u16 *)(frame + 12) != bpf_htons(0x0800) || frame[14] != 0x45 || frame[23] != 17 ||
	    *(__u16 *)(frame + 36) != bpf_htons(*own_port))
		return XDP_PASS;
	/* Sums of both checksums stay the same: the words only change places. */
	SWAP(*(__u32 *)frame, *(__u32 *)(frame + 6));
	SWAP(*(__u16 *)(frame + 4), *(__u16 *)(frame + 10));
	SWAP(*(__u32 *)(frame + 26), *(__u32 *)(frame + 30));
	SWAP(*(__u16 *)(frame + 34), *(__u16 *)(frame + 36));
	return XDP_TX;
}

/* The least that anything can do: counts UDP frames in the driver and drops them. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} dropped SEC(".maps");

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	__u8 *frame = (void *)(long)ctx->data;
	__u32 zero = 0;
	__u64 *count;

	/* What is no UDP over IPv4 with a stamp is the kernel's, ARP above all. */
	if (frame + HEADERS_IPV4 + STAMP_LEN > (__u8 *)(long)ctx->data_end || *(__u16 *)(frame + 12) != bpf_htons(0x0800) ||
	    frame[23] != 17)
		return XDP_PASS;
	count = bpf_map_lookup_elem(&dropped, &zero);
	if (count)
		(*count)++;
	return XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
