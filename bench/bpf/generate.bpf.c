// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Sender of live frames: BPF_PROG_RUN runs it over pages of its own, and XDP_TX puts each frame on the
 * wire of the interface it is run for.
 *
 * Every frame has a due time, start + sequence * interval. The program waits for it, but never longer than
 * WAIT_TURNS clock readings with softirqs off: then it gives the frame back (XDP_DROP), and the same
 * sequence number is tried again with the next one. A frame that leaves late keeps the due time in its
 * stamp, so that a stall of the generator shows as latency instead of disappearing.
 *
 * The pages are recycled, and a server may have rewritten them: all bytes that matter are written each time.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "stamp.h"

/* A clock reading costs about 30 ns, so this is about 8 us: short enough not to hold up the softirqs that
 * take the frames to the server on this very core. */
#define WAIT_TURNS 256

/* The same words, in the same order, as `Plan` in live_frames.rs. */
struct plan {
	__u64 headers[5];
	__u64 trial;
	__u64 base_sum;		/* ones' complement sum of all that is constant and under the UDP checksum */
	__u64 start_ns;
	__u64 interval_q10;	/* 1/1024 ns between two frames; 0 is "as fast as possible" */
	__u64 limit;		/* frames to send */
	__u64 end_ns;		/* nothing is sent after it */
	__u64 sequence;		/* frames sent so far */
	__u64 first_ns;		/* when the first and the last frame left */
	__u64 last_ns;
	__u64 deferred;		/* frames given back while waiting */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct plan);
} plan SEC(".maps");

static __always_inline __u64 word_sum(__u64 value)
{
	return (value & 0xffffffff) + (value >> 32);
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	struct stamped_frame *frame = (void *)(long)ctx->data;
	struct plan *p;
	__u64 now, due;
	__u32 zero = 0;
	__u16 checksum;

	p = bpf_map_lookup_elem(&plan, &zero);
	if (!p || (void *)(frame + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;

	now = bpf_ktime_get_ns();
	if (p->sequence >= p->limit || now >= p->end_ns)
		return XDP_DROP;
	due = p->start_ns + ((p->sequence * p->interval_q10) >> 10);
	if (p->interval_q10) {
		for (int turn = 0; turn < WAIT_TURNS && now < due; turn++)
			now = bpf_ktime_get_ns();
		if (now < due) {
			p->deferred++;
			return XDP_DROP;
		}
	} else {
		due = now;
	}

	checksum = ~fold(p->base_sum + word_sum(p->sequence) + word_sum(due));
	for (int i = 0; i < 5; i++)
		frame->headers[i] = p->headers[i];
	frame->udp_checksum = checksum ? checksum : 0xffff;
	frame->trial = p->trial;
	frame->sequence = p->sequence;
	frame->due_ns = due;

	if (!p->sequence)
		p->first_ns = now;
	p->last_ns = now;
	p->sequence++;
	return XDP_TX;
}

char _license[] SEC("license") = "Dual BSD/GPL";
