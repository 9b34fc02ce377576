// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * steer: hands the frames that the engine owns to its AF_XDP sockets, and everything else to the kernel.
 *
 *   Ethernet -> up to two VLAN tags -+-> IPv4: destination owned, or a       --+
 *                                    |         group of the engine's?          |
 *                                    +-> IPv6: the same,                       +-- yes --> sockets[rx_queue_index]
 *                                    |         or neighbor discovery whose     |
 *                                    |         target is owned?                +-- no  --> XDP_PASS
 *                                    +-> ARP:  target or sender owned?       --+
 *
 * What is sent to a group concerns the kernel as well: of such frames the engine gets copies through the ring
 * `heard`, which it reads outside of its packet path, unless it asked for the frames themselves.
 *
 * In a flood of connection requests, a worker raises the guard of its queue: then of the requests to owned addresses
 * only those reach the engine that come again, as a host does after a second that means it, and a flood from made-up
 * sources does not. They are dropped here, before they cost the engine's core anything.
 *
 * In doubt a frame is passed: whatever is truncated, contradicts itself or is not understood stays with the
 * kernel, and so does what no living worker would take. Each frame is counted in one verdict, and none is changed.
 *
 * All header fields are read from the first buffer of the frame. Drivers put at least the headers there, and
 * a frame whose headers continue in a further buffer counts as truncated.
 */
#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "steer.h"

/* More addresses than one interface has any use for; the tables take about 100 bytes an entry. */
#define MAX_ADDRESSES 1024

/* Groups of both versions of IP, and broadcast addresses. Linux lets a socket join 20 of IPv4 by default. */
#define MAX_GROUPS 1024

/*
 * Room for 127 copies. What routers and neighbors say to all nodes is a few frames a second; more than a burst of
 * it is nothing that the engine has to hear.
 */
#define HEARD_BYTES (256 * 1024)

/* Replaced by the number of receive queues when the program is loaded. */
#define DEFAULT_QUEUES 64

#define ARP_HARDWARE_ETHERNET 1

/* More fragments, or an offset: RFC 791 section 3.1. */
#define IPV4_FRAGMENT 0x3fff

#define VLAN_TAGS_MAX 2
#define VLAN_ID_MASK 0x0fff

/* RFC 4861 section 4.3 and 4.4. */
#define ICMPV6_NEIGHBOR_SOLICITATION 135
#define ICMPV6_NEIGHBOR_ADVERTISEMENT 136

const volatile struct steer_config config;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ADDRESSES);
	__type(key, __be32);
	__type(value, __u8);
} owned_ipv4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ADDRESSES);
	__type(key, struct in6_addr);
	__type(value, __u8);
} owned_ipv6 SEC(".maps");

/* What is to become of frames to group and broadcast addresses: enum steer_group_use. IPv4 is ::ffff:a.b.c.d. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_GROUPS);
	__type(key, struct in6_addr);
	__type(value, __u8);
} groups SEC(".maps");

/* Copies of frames: struct steer_heard. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, HEARD_BYTES);
} heard SEC(".maps");

/* The AF_XDP socket of each receive queue. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, DEFAULT_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

/* When the worker of each receive queue last beat: CLOCK_MONOTONIC, ns. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DEFAULT_QUEUES);
	__type(key, __u32);
	__type(value, __u64);
} heartbeat SEC(".maps");

/* Frames by enum steer_verdict. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STEER_VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

struct vlan_tag {
	__be16 control;
	__be16 protocol; /* of what follows */
};

/* What every ARP begins with, RFC 826. <linux/if_arp.h> would drag the C library in. */
struct arp_fixed {
	__be16 hardware_type;
	__be16 protocol_type;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 operation;
};

/* ARP for IPv4 over Ethernet. */
struct arp_ipv4 {
	struct arp_fixed fixed;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender;
	__u8 target_mac[ETH_ALEN];
	__be32 target;
} __attribute__((packed));

struct ndp_message {
	struct icmp6hdr icmp;
	struct in6_addr target;
};

/* A frame, parsed as far as `header`, where the network layer begins. */
struct frame {
	struct xdp_md *ctx;
	void *header;
	void *end; /* of the first buffer */
	__u32 header_offset;
	__be16 protocol;
};

/* Whether the queue's worker has not beaten for longer than the limit. */
static __always_inline bool is_stale(__u32 queue)
{
	__u64 *beat;
	__u64 now, last;

	if (!config.heartbeat_limit_ns)
		return false;
	beat = bpf_map_lookup_elem(&heartbeat, &queue);
	if (!beat)
		return true;
	last = *(volatile __u64 *)beat;
	/* CLOCK_MONOTONIC as of the last timer tick, at 1-10 ms: a fresh beat may lie ahead of it. */
	now = bpf_ktime_get_coarse_ns();
	return now > last && now - last > config.heartbeat_limit_ns;
}

#include "syn_guard.h"

static __always_inline enum steer_verdict classify(struct xdp_md *ctx);
static __always_inline enum steer_verdict classify_ipv4(const struct frame *frame);
static __always_inline enum steer_verdict classify_ipv6(const struct frame *frame);
static __always_inline enum steer_verdict classify_arp(const struct frame *frame);
static __always_inline enum steer_verdict classify_group(const struct frame *frame, const struct in6_addr *group);
static __always_inline enum steer_verdict copy(struct xdp_md *ctx);
static __always_inline enum steer_verdict redirect(struct xdp_md *ctx, enum steer_verdict verdict);

static __always_inline bool redirects(enum steer_verdict verdict)
{
	return verdict <= STEER_REDIRECT_GROUP;
}

SEC("xdp.frags")
int steer(struct xdp_md *ctx)
{
	enum steer_verdict verdict = classify(ctx);
	__u32 index;
	__u64 *frames;

	if (redirects(verdict))
		verdict = redirect(ctx, verdict);

	index = verdict;
	frames = bpf_map_lookup_elem(&verdicts, &index);
	if (frames)
		(*frames)++; /* this CPU's own, and XDP does not interrupt XDP */

	if (redirects(verdict))
		return XDP_REDIRECT;
	return verdict == STEER_DROP_SYN ? XDP_DROP : XDP_PASS;
}

static __always_inline bool is_vlan(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

/* What would become of the frame if its worker is there to take it. */
static __always_inline enum steer_verdict classify(struct xdp_md *ctx)
{
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	struct frame frame = { .ctx = ctx, .end = (void *)(long)ctx->data_end };
	__u16 outer = 0, inner = 0;
	__be16 outer_type = 0, inner_type = 0;

	if ((void *)(ethernet + 1) > frame.end)
		return STEER_PASS_MALFORMED;
	frame.protocol = ethernet->h_proto;
	frame.header = ethernet + 1;
	frame.header_offset = sizeof(*ethernet);

	for (int i = 0; i < VLAN_TAGS_MAX && is_vlan(frame.protocol); i++) {
		struct vlan_tag *tag = frame.header;
		__u16 id;

		if ((void *)(tag + 1) > frame.end)
			return STEER_PASS_MALFORMED;
		/* IEEE 802.1Q: VID 0 only carries a priority; the frame belongs to no VLAN. */
		id = bpf_ntohs(tag->control) & VLAN_ID_MASK;
		if (outer) {
			inner = id;
			inner_type = frame.protocol;
		} else {
			outer = id;
			outer_type = frame.protocol;
		}
		frame.protocol = tag->protocol;
		frame.header = tag + 1;
		frame.header_offset += sizeof(*tag);
	}
	if (is_vlan(frame.protocol) || outer != config.outer_vlan || inner != config.inner_vlan)
		return STEER_PASS_OTHER_VLAN;
	if (outer && outer_type != bpf_htons(config.outer_type))
		return STEER_PASS_OTHER_VLAN;
	if (inner && inner_type != bpf_htons(ETH_P_8021Q))
		return STEER_PASS_OTHER_VLAN;

	switch (frame.protocol) {
	case bpf_htons(ETH_P_IP):
		return classify_ipv4(&frame);
	case bpf_htons(ETH_P_IPV6):
		return classify_ipv6(&frame);
	case bpf_htons(ETH_P_ARP):
		return classify_arp(&frame);
	default:
		return STEER_PASS_OTHER_PROTOCOL;
	}
}

/*
 * Whether the frame has `len` bytes from the network header on; further buffers count. Adding `len` to the
 * packet pointer instead would save 3 ns a frame, but the verifier lets only CAP_PERFMON do that.
 */
static __always_inline bool holds(const struct frame *frame, __u32 len)
{
	return frame->header_offset + len <= bpf_xdp_get_buff_len(frame->ctx);
}

/*
 * Asked first, so that groups cost the frames nothing that are the engine's. Only unicast addresses are ever put
 * into the table, so this needs no check for multicast and broadcast.
 */
static __always_inline bool owns_ipv4(__be32 address)
{
	return bpf_map_lookup_elem(&owned_ipv4, &address) != NULL;
}

static __always_inline bool owns_ipv6(const struct in6_addr *address)
{
	return bpf_map_lookup_elem(&owned_ipv6, address) != NULL;
}

/* RFC 1112 section 4, and RFC 919 section 7: multicast, and the limited broadcast. */
static __always_inline bool is_ipv4_group(__be32 address)
{
	return (bpf_ntohl(address) >> 24) >= 224;
}

/* RFC 4291 section 2.7. */
static __always_inline bool is_ipv6_group(const struct in6_addr *address)
{
	return address->s6_addr[0] == 0xff;
}

/* Whether the frame went to several stations: only so can an IPv4 address be a directed broadcast. */
static __always_inline bool is_link_group(const struct xdp_md *ctx)
{
	const struct ethhdr *ethernet = (void *)(long)ctx->data;

	return (void *)(ethernet + 1) <= (void *)(long)ctx->data_end && ethernet->h_dest[0] & 1;
}

/* Fragments and options make no difference: all that is sent to the address is the engine's. */
static __always_inline enum steer_verdict classify_ipv4(const struct frame *frame)
{
	struct iphdr *ip = frame->header;
	__u32 header_len, total_len;

	if ((void *)(ip + 1) > frame->end)
		return STEER_PASS_MALFORMED;
	header_len = ip->ihl * 4;
	total_len = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header_len < sizeof(*ip) || total_len < header_len || !holds(frame, total_len))
		return STEER_PASS_MALFORMED;

	if (owns_ipv4(ip->daddr)) {
		/* With options or as a fragment, the stack's own guard sees to it. */
		if (ip->protocol == IPPROTO_TCP && header_len == sizeof(*ip) &&
		    !(ip->frag_off & bpf_htons(IPV4_FRAGMENT)) &&
		    is_refused_request(frame, ip + 1, (__u64)ip->saddr << 32 | ip->daddr))
			return STEER_DROP_SYN;
		return STEER_REDIRECT_IPV4;
	}
	if (is_ipv4_group(ip->daddr) || is_link_group(frame->ctx)) {
		struct in6_addr group = { .s6_addr32 = { 0, 0, bpf_htonl(0xffff), ip->daddr } };

		return classify_group(frame, &group);
	}
	return STEER_PASS_NOT_OWNED;
}

static __always_inline enum steer_verdict classify_ipv6(const struct frame *frame)
{
	struct ipv6hdr *ip = frame->header;
	__u32 payload_len;

	if ((void *)(ip + 1) > frame->end)
		return STEER_PASS_MALFORMED;
	payload_len = bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || !holds(frame, sizeof(*ip) + payload_len))
		return STEER_PASS_MALFORMED;

	/*
	 * Solicitations are sent to multicast addresses, and the advertisement that tells of a duplicate to all
	 * nodes. An advertisement that answers the engine has another's target and is owned by its destination.
	 */
	if (ip->nexthdr == IPPROTO_ICMPV6 && payload_len >= sizeof(struct icmp6hdr)) {
		struct ndp_message *ndp = (void *)(ip + 1);
		__u8 type;

		if ((void *)(&ndp->icmp + 1) > frame->end)
			return STEER_PASS_MALFORMED;
		type = ndp->icmp.icmp6_type;
		if (type == ICMPV6_NEIGHBOR_SOLICITATION || type == ICMPV6_NEIGHBOR_ADVERTISEMENT) {
			if (payload_len < sizeof(*ndp) || (void *)(ndp + 1) > frame->end)
				return STEER_PASS_MALFORMED;
			if (owns_ipv6(&ndp->target))
				return STEER_REDIRECT_NDP;
		}
	}
	if (owns_ipv6(&ip->daddr)) {
		const __u32 *from = ip->saddr.s6_addr32;
		__u64 subnet = (__u64)from[0] << 32 | from[1], host = (__u64)from[2] << 32 | from[3];

		if (ip->nexthdr == IPPROTO_TCP && is_refused_request(frame, ip + 1, mix(subnet, host)))
			return STEER_DROP_SYN;
		return STEER_REDIRECT_IPV6;
	}
	return is_ipv6_group(&ip->daddr) ? classify_group(frame, &ip->daddr) : STEER_PASS_NOT_OWNED;
}

/*
 * Who asks for an owned address, and who claims it: a conflict, RFC 5227. An answer to the engine's own
 * question has an owned target.
 */
static __always_inline enum steer_verdict classify_arp(const struct frame *frame)
{
	struct arp_fixed *fixed = frame->header;
	struct arp_ipv4 *arp = frame->header;

	if ((void *)(fixed + 1) > frame->end)
		return STEER_PASS_MALFORMED;
	if (fixed->hardware_type != bpf_htons(ARP_HARDWARE_ETHERNET) || fixed->protocol_type != bpf_htons(ETH_P_IP))
		return STEER_PASS_OTHER_PROTOCOL;
	if (fixed->hardware_len != ETH_ALEN || fixed->protocol_len != sizeof(arp->target) ||
	    (void *)(arp + 1) > frame->end)
		return STEER_PASS_MALFORMED;

	return owns_ipv4(arp->target) || owns_ipv4(arp->sender) ? STEER_REDIRECT_ARP : STEER_PASS_NOT_OWNED;
}

/* What is sent to a group that the engine does not listen to is the kernel's alone. */
static __always_inline enum steer_verdict classify_group(const struct frame *frame, const struct in6_addr *group)
{
	const __u8 *use = bpf_map_lookup_elem(&groups, group);

	if (!use)
		return STEER_PASS_NOT_OWNED;
	return *use == STEER_GROUP_REDIRECT ? STEER_REDIRECT_GROUP : copy(frame->ctx);
}

/*
 * Puts a copy of the frame into the ring. Nobody has to live for that: a ring that is not read fills up, and the
 * kernel has the frame in any case.
 */
static __always_inline enum steer_verdict copy(struct xdp_md *ctx)
{
	__u64 len = bpf_xdp_get_buff_len(ctx);
	struct steer_heard *record;

	if (len == 0 || len > STEER_HEARD_MAX)
		return STEER_PASS_COPY_LOST;
	record = bpf_ringbuf_reserve(&heard, sizeof(*record), 0);
	if (!record)
		return STEER_PASS_COPY_LOST;
	record->len = len;
	record->queue = ctx->rx_queue_index;
	if (bpf_xdp_load_bytes(ctx, 0, record->frame, len)) {
		bpf_ringbuf_discard(record, 0);
		return STEER_PASS_COPY_LOST;
	}
	bpf_ringbuf_submit(record, 0);
	return STEER_PASS_COPIED;
}

/* `verdict` if a living worker serves the frame's queue. */
static __always_inline enum steer_verdict redirect(struct xdp_md *ctx, enum steer_verdict verdict)
{
	__u32 queue = ctx->rx_queue_index;

	if (bpf_redirect_map(&sockets, queue, XDP_PASS) != XDP_REDIRECT)
		return STEER_PASS_NO_SOCKET;
	/* The redirection takes place only if the program ends with XDP_REDIRECT. */
	return is_stale(queue) ? STEER_PASS_STALE : verdict;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
