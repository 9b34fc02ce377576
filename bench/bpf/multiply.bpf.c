// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Makes several frames of each long datagram that a socket sends: copies share its pages, so that the generator's
 * core has its time for taking them to the server. All have the same stamp, and the receiver counts each. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

/* Only frames that are too long to be live ones: what else the kernel sends goes as it is. */
#define LONG 3520
#define MOST_COPIES 16
/* Copies come by here too: they are known by it. */
#define COPIED 0x62776d31

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} copies SEC(".maps");

SEC("tcx/egress")
int multiply(struct __sk_buff *skb)
{
	__u32 zero = 0, *wanted;

	if (skb->len <= LONG || skb->mark == COPIED)
		return TC_ACT_UNSPEC;
	wanted = bpf_map_lookup_elem(&copies, &zero);
	if (!wanted)
		return TC_ACT_UNSPEC;
	skb->mark = COPIED;
	for (__u32 i = 0; i < MOST_COPIES && i < *wanted; i++)
		bpf_clone_redirect(skb, skb->ifindex, 0);
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Dual BSD/GPL";
