// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Sender of live frames: BPF_PROG_RUN runs it over pages of its own, and XDP_TX puts each frame on the
 * wire of the interface it is run for.
 *
 * Every frame has a due time: start + sequence * interval, or one from a list. The program waits for it, but never
 * longer than WAIT_TURNS clock readings with softirqs off: then it gives the frame back (XDP_DROP), and the same
 * sequence number is tried again with the next one. A frame that leaves late keeps the due time in its
 * stamp, so that a stall of the generator shows as latency instead of disappearing.
 *
 * Between requests it sends an attacker's frames, if it is told to, by due times of their own: so both come
 * from one core at their full rates, and neither waits for the other's turn.
 *
 * Requests may differ in length and in where they come from: what that changes in the headers and in the checksums is
 * worked out for each. The run's frame is then the longest, and shorter ones are cut from it.
 *
 * The pages are recycled, and a server may have rewritten them: all bytes that matter are written each time.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "attack.h"
#include "buckets.h"
#include "checksum.h"
#include "stamp.h"

/* A clock reading costs about 30 ns, so this is about 8 us: short enough not to hold up the softirqs that
 * take the frames to the server on this very core. */
#define WAIT_TURNS 256
#define NEVER (~0ULL)

/* Words of the longest headers: IPv6 on a VLAN. */
#define HEADER_WORDS 9

/* Lengths that requests have in turn, at most. A power of two. */
#define MOST_LENS 64

/* The same words, in the same order, as `Plan` in live_frames.rs. */
struct plan {
	__u64 headers[HEADER_WORDS];
	__u64 headers_len;
	__u64 trial;
	__u64 base_sum;		/* ones' complement sum of all that is constant and under the UDP checksum */
	__u64 port;		/* first source port, which `base_sum` lacks */
	__u64 flows;		/* source ports in turn */
	__u64 varies;		/* lengths or sources: neither they nor the UDP length are in the two sums */
	__u64 ip_sum;		/* the same sum of an IPv4 header */
	__u64 source;		/* first source address: the lowest 64 bits, in the machine's order */
	__u64 sources;		/* source addresses in turn, all ports of one after those of another */
	__u64 longest;		/* length of the run's frame */
	__u64 pattern;		/* lengths in turn */
	__u16 lens[MOST_LENS];	/* with the tag, if there is one */
	__u64 start_ns;
	__u64 interval_q10;	/* 1/1024 ns between two requests; 0 is "as fast as possible" */
	__u64 listed;		/* when each is due stands in `due` instead */
	__u64 limit;		/* requests to send */
	__u64 end_ns;		/* nothing is sent after it */
	struct attack attack;
	__u64 sequence;		/* requests sent so far */
	__u64 deferred;		/* frames given back while waiting */
	__u64 attacked;		/* attacker's frames sent so far */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct plan);
} plan SEC(".maps");

/* When requests are due, from the start. There are as many pages as the loader asks for. */
#define PAGE_BITS 9

struct due_page {
	__u64 ns[1 << PAGE_BITS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct due_page);
} due SEC(".maps");

/* How late requests left, where `sequence & LAG_MASK` is 0: counting each would cost a fast sender a tenth. Of those in a
 * list each counts, for a pattern of theirs could be that of the mask. */
#define LAG_MASK 15

struct lag {
	__u64 max_ns;
	__u64 buckets[BUCKETS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lag);
} lag SEC(".maps");

static __always_inline void note_lag(__u64 ns)
{
	__u32 zero = 0, bucket = bucket_of(ns);
	struct lag *l = bpf_map_lookup_elem(&lag, &zero);

	if (!l || bucket >= BUCKETS)
		return;
	if (ns > l->max_ns)
		l->max_ns = ns;
	l->buckets[bucket]++;
}

/* The length that is next. */
static __always_inline __u32 next_len(const struct plan *p)
{
	return p->lens[p->sequence % p->pattern & (MOST_LENS - 1)];
}

/* Writes the lengths and the source of a request whose payload begins at `payload`, with `udp_len` bytes of UDP. Gives
 * what the UDP checksum's sum lacks of them. */
static __always_inline __u64 vary(__u8 *payload, const struct plan *p, __u16 udp_len, const int ipv4)
{
	__u64 source = p->source + p->sequence % p->sources;
	__u16 len = bpf_htons(udp_len);

	*(__u16 *)(payload - 4) = len;
	if (ipv4) {
		__u32 address = bpf_htonl(source);
		__u16 total = bpf_htons(udp_len + 20);
		__u8 *ip = payload - 28;

		*(__u16 *)(ip + 2) = total;
		*(__u16 *)(ip + 10) = ~fold(p->ip_sum + total + address);
		*(__u32 *)(ip + 12) = address;
		return (__u64)address + 2 * len;
	}
	source = bpf_cpu_to_be64(source);
	*(__u16 *)(payload - 44) = len;
	*(__u64 *)(payload - 32) = source;
	return word_sum(source) + 2 * len;
}

/* Makes a request whose headers have `len` bytes, which is known when this is compiled. */
static __always_inline int request(struct xdp_md *ctx, struct plan *p, __u64 due, const int len)
{
	const __u16 *halves = (const __u16 *)p->headers;
	__u16 checksum, port = p->port;
	__u64 sum = p->base_sum;
	__u32 frame_len = p->longest;
	__u8 *frame;

	if (p->pattern > 1) {
		frame_len = next_len(p);
		if (bpf_xdp_adjust_tail(ctx, (int)(frame_len - p->longest)))
			return XDP_DROP;
	}
	frame = (void *)(long)ctx->data;
	if (frame + len + STAMP_LEN > (__u8 *)(long)ctx->data_end)
		return XDP_DROP;
	for (int i = 0; i < len / 8; i++)
		((__u64 *)frame)[i] = p->headers[i];
	/* What is no whole word, but for the UDP checksum, which is last. */
	for (int i = len / 8 * 4; i < len / 2 - 1; i++)
		((__u16 *)frame)[i] = halves[i];
	if (p->varies)
		sum += vary(frame + len, p, frame_len - len + 8, len < HEADERS_IPV6);
	if (p->flows > 1)
		port += p->sequence / p->sources % p->flows;
	port = bpf_htons(port);
	checksum = ~fold(sum + port + word_sum(p->sequence) + word_sum(due));
	*(__u16 *)(frame + len - 8) = port;
	*(__u16 *)(frame + len - 2) = checksum ? checksum : 0xffff;
	*(__u32 *)(frame + len) = p->trial;
	*(__u64 *)(frame + len + STAMP_SEQUENCE) = p->sequence;
	*(__u64 *)(frame + len + STAMP_DUE) = due;
	p->sequence++;
	return XDP_TX;
}

static __always_inline __u64 due_ns(const struct plan *p, __u64 sequence, __u64 interval_q10, __u64 now)
{
	return interval_q10 ? p->start_ns + ((sequence * interval_q10) >> 10) : now;
}

static __always_inline __u64 request_due_ns(const struct plan *p, __u64 now)
{
	__u32 page = p->sequence >> PAGE_BITS;
	struct due_page *d;

	if (p->sequence >= p->limit)
		return NEVER;
	if (!p->listed)
		return due_ns(p, p->sequence, p->interval_q10, now);
	d = bpf_map_lookup_elem(&due, &page);
	return d ? p->start_ns + d->ns[p->sequence & ((1 << PAGE_BITS) - 1)] : NEVER;
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	__u8 *frame = (void *)(long)ctx->data;
	struct plan *p;
	__u64 now, next, due_attack = NEVER;
	__u32 zero = 0;

	p = bpf_map_lookup_elem(&plan, &zero);
	if (!p || frame + ATTACK_LEN > (__u8 *)(long)ctx->data_end)
		return XDP_DROP;

	now = bpf_ktime_get_ns();
	if (now >= p->end_ns)
		return XDP_DROP;
	next = request_due_ns(p, now);
	if (p->attack.kind) {
		due_attack = due_ns(p, p->attacked & ~(ATTACK_BUNCH - 1ULL), p->attack.interval_q10, now);
		if (due_attack < next)
			next = due_attack;
	}
	if (next == NEVER)
		return XDP_DROP;
	/* Who only floods lets others have the core instead of waiting. */
	for (int turn = 0; turn < WAIT_TURNS && now < next && p->limit; turn++)
		now = bpf_ktime_get_ns();
	if (now < next) {
		p->deferred++;
		return XDP_DROP;
	}
	if (next == due_attack) {
		write_attack(frame, &p->attack);
		p->attacked++;
		return XDP_TX;
	}
	if (p->interval_q10 && (p->listed || !(p->sequence & LAG_MASK)))
		note_lag(now - next);
	switch (p->headers_len) {
	case HEADERS_IPV4:
		return request(ctx, p, next, HEADERS_IPV4);
	case HEADERS_IPV4 + TAG_LEN:
		return request(ctx, p, next, HEADERS_IPV4 + TAG_LEN);
	case HEADERS_IPV6:
		return request(ctx, p, next, HEADERS_IPV6);
	case HEADERS_IPV6 + TAG_LEN:
		return request(ctx, p, next, HEADERS_IPV6 + TAG_LEN);
	default:
		return XDP_DROP;
	}
}

char _license[] SEC("license") = "Dual BSD/GPL";
