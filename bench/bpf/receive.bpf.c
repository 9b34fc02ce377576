// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Receiver: counts the replies of the running trial and the time since they were due, then drops them.
 *
 * One body behind two hooks. `receive_tc` runs at TC ingress and leaves the path of the server's frames as
 * it is. `receive_xdp` is for a server that reflects in the driver, which needs an XDP program on this end
 * of a veth; for every other server it would be unfair: frames from sockets would be copied for it.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "buckets.h"
#include "stamp.h"

/* The same words, in the same order, as `Expected` and `Tally` in receiver.rs. */
struct expect {
	__u32 trial;
	__u16 server_port;	/* network order */
	__u16 copies;		/* answers have the same sequence as others: do not tell them apart by it */
	__u64 sample_mask;	/* latency is recorded where sequence & mask is 0 */
	__u64 start_ns;		/* beginning of the first slice */
	__u64 slice_ns;
	__u64 slices;		/* the last has no end */
};

/* A slice of the trial. */
struct tally {
	__u64 received;
	__u64 bytes;		/* of the frames that `received` counts, Ethernet header to end of payload */
	__u64 max_ns;		/* longest latency, exact */
	__u32 buckets[BUCKETS];
};

/* The low bits of one more than the sequences seen last: a second answer is known as such if fewer than this many
 * came since the first. Small enough to stay in the cache of the server, whose core this runs on. */
#define REMEMBERED 4096

/* The trial so far. */
struct progress {
	__u64 received;
	__u64 stale;		/* replies of another trial */
	__u64 last_ns;		/* arrival of the last reply */
	__u64 duplicated;	/* second answers, which `received` does not count */
	__u64 reordered;	/* after the answer to a later request */
	__u64 next;		/* one more than the highest sequence */
	__u64 slice;		/* the one that is open */
	__u64 slice_end_ns;
	__u32 sequences[REMEMBERED];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct expect);
} expect SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct progress);
} progress SEC(".maps");

/* As many slices as course.rs makes of a trial. */
#define MOST_SLICES 50

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MOST_SLICES);
	__type(key, __u32);
	__type(value, struct tally);
} tally SEC(".maps");

/* Whether no answer with this sequence came before. */
static __always_inline int is_new(struct progress *p, __u64 sequence)
{
	__u32 *slot = &p->sequences[sequence % REMEMBERED];

	if (*slot == (__u32)sequence + 1) {
		p->duplicated++;
		return 0;
	}
	*slot = sequence + 1;
	if (sequence < p->next)
		p->reordered++;
	else
		p->next = sequence + 1;
	return 1;
}

/* Opens the slice that `now` is in. */
static __always_inline void open_slice(const struct expect *e, struct progress *p, __u64 now)
{
	__u64 slice = now > e->start_ns && e->slice_ns ? (now - e->start_ns) / e->slice_ns : 0;

	if (slice + 1 < e->slices) {
		p->slice = slice;
		p->slice_end_ns = e->start_ns + (slice + 1) * e->slice_ns;
	} else {
		p->slice = e->slices - 1;
		p->slice_end_ns = ~0ULL;
	}
}

/* Whether the frame, of `len` bytes in all, was a reply to the load generator, and so is used up. */
static __always_inline int take(void *data, void *data_end, __u32 len)
{
	const __u8 *bytes = data, *stamp;
	struct expect *e;
	struct progress *p;
	struct tally *t;
	__u64 now, latency, due_ns, sequence;
	__u32 zero = 0, bucket, slice;

	if (bytes + HEADERS_IPV4 + STAMP_LEN > (__u8 *)data_end)
		return 0;
	/* UDP in IPv4 without options, or in IPv6 without extension headers */
	if (*(__u16 *)(bytes + 12) == bpf_htons(0x0800)) {
		if (bytes[14] != 0x45 || bytes[23] != 17)
			return 0;
		stamp = bytes + HEADERS_IPV4;
	} else {
		if (*(__u16 *)(bytes + 12) != bpf_htons(0x86dd) || bytes[20] != 17)
			return 0;
		stamp = bytes + HEADERS_IPV6;
		if (stamp + STAMP_LEN > (__u8 *)data_end)
			return 0;
	}
	e = bpf_map_lookup_elem(&expect, &zero);
	p = bpf_map_lookup_elem(&progress, &zero);
	if (!e || !p || *(__u16 *)(stamp - 8) != e->server_port)
		return 0;
	if (*(__u32 *)stamp != e->trial) {
		p->stale++;
		return 1;
	}
	now = bpf_ktime_get_ns();
	p->last_ns = now;
	sequence = *(__u64 *)(stamp + STAMP_SEQUENCE);
	if (!e->copies && !is_new(p, sequence))
		return 1;
	p->received++;
	if (now >= p->slice_end_ns)
		open_slice(e, p, now);
	slice = p->slice;
	t = bpf_map_lookup_elem(&tally, &slice);
	if (!t)
		return 1;
	t->received++;
	t->bytes += len;
	if (sequence & e->sample_mask)
		return 1;
	due_ns = *(__u64 *)(stamp + STAMP_DUE);
	latency = now > due_ns ? now - due_ns : 0;
	if (latency > t->max_ns)
		t->max_ns = latency;
	bucket = bucket_of(latency);
	if (bucket < BUCKETS)
		t->buckets[bucket]++;
	return 1;
}

SEC("tcx/ingress")
int receive_tc(struct __sk_buff *skb)
{
	/* Large datagrams of sockets may have their payload in fragments. A tag has been taken out of the frame
	 * already. */
	__u32 wanted = skb->len < HEADERS_IPV6 + STAMP_LEN ? skb->len : HEADERS_IPV6 + STAMP_LEN;

	if (skb->data_end - skb->data < wanted)
		bpf_skb_pull_data(skb, wanted);
	return take((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

SEC("xdp")
int receive_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;

	return take(data, data_end, data_end - data) ? XDP_DROP : XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
