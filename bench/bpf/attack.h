/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Frames that are sent to do harm: each is another, and all its checksums are right.
 *
 *   FRAGMENT   of 24 bytes: every other one from anywhere, with any identification and offset; the rest from
 *              16 sources with 8 identifications each, so that datagrams grow and overlap
 *   SYN        from anywhere, with an MSS of 1,460
 *   AS_IS      what BPF_PROG_RUN was given
 *   PASSED     an EtherType for experiments (IEEE 802, 0x88b5), which the server's XDP program passes to its
 *              kernel: what the same rate costs the generator's core, and no server
 */
#ifndef BAREWIRE_BENCH_ATTACK_H
#define BAREWIRE_BENCH_ATTACK_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "checksum.h"

#define ATTACK_FRAGMENT 1
#define ATTACK_SYN 2
#define ATTACK_PASSED 3
#define ATTACK_AS_IS 4

/* Frames that are due together: to hand over few at a time costs more than to send them. A power of two. */
#define ATTACK_BUNCH 32

/* Every kind fits into the shortest frame of the generator. */
#define ATTACK_LEN 62
#define FRAGMENT_PAYLOAD 24
#define SYN_LEN 24

/* The same words, in the same order, as `Attack` in live_frames.rs. */
struct attack {
	__u64 kind;		/* 0: none */
	__u64 interval_q10;	/* 1/1024 ns between two; 0 is "as many as the program is run for" */
	__u64 macs[2];		/* 12 bytes */
	__u32 target;		/* network order, as the port */
	__u16 port;
	__u16 unused;
};

/* 32.0.0.0/3: unicast, and none of the lab's. */
static __always_inline __u32 anywhere(void)
{
	return bpf_htonl(0x20000000 | bpf_get_prandom_u32() >> 3);
}

static __always_inline void write_ip(__u8 *ip, __u32 total_len, __u32 id_and_fragment, __u8 protocol, __u32 source,
				     __u32 target)
{
	__u32 first = bpf_htonl(0x45000000 | total_len);
	__u32 second = bpf_htonl(id_and_fragment);
	__u32 third = bpf_htonl(64 << 24 | protocol << 16);
	__u64 sum = (__u64)first + second + third + source + target;

	*(__u32 *)ip = first;
	*(__u32 *)(ip + 4) = second;
	*(__u32 *)(ip + 8) = third;
	*(__u16 *)(ip + 10) = ~fold(sum);
	*(__u32 *)(ip + 12) = source;
	*(__u32 *)(ip + 16) = target;
}

static __always_inline void write_fragment(__u8 *frame, const struct attack *attack)
{
	__u32 dice = bpf_get_prandom_u32(), more = bpf_get_prandom_u32();
	__u32 source, id, at;

	if (dice & 1) {
		source = anywhere();
		id = dice >> 16;
		at = more & 0x1fff;
	} else {
		source = bpf_htonl(0x20ff0000 | (dice >> 1 & 15));
		id = dice >> 5 & 7;
		at = (more & 63) * (FRAGMENT_PAYLOAD / 8);
	}
	/* One of 64 is the last of its datagram. */
	if (more >> 26)
		at |= 0x2000;
	write_ip(frame + 14, 20 + FRAGMENT_PAYLOAD, id << 16 | at, 17, source, attack->target);
}

static __always_inline void write_syn(__u8 *frame, const struct attack *attack)
{
	__u32 dice = bpf_get_prandom_u32(), sequence = bpf_get_prandom_u32(), source = anywhere();
	/* From 1,024 to 64,511. */
	__u32 port = 1024 + (dice >> 16) * 63488u / 65536u;
	__u32 ports = bpf_htonl(port << 16 | bpf_ntohs(attack->port));
	/* Six words of header, SYN, a window of 64,240; an MSS of 1,460. */
	__u32 flags = bpf_htonl(0x60020000 | 64240), mss = bpf_htonl(0x020405b4);
	__u64 sum = (__u64)source + attack->target + bpf_htonl(6 << 16 | SYN_LEN) + ports + sequence + flags + mss;
	__u8 *tcp = frame + 34;

	write_ip(frame + 14, 20 + SYN_LEN, dice << 16, 6, source, attack->target);
	*(__u32 *)tcp = ports;
	*(__u32 *)(tcp + 4) = sequence;
	*(__u32 *)(tcp + 8) = 0;
	*(__u32 *)(tcp + 12) = flags;
	*(__u16 *)(tcp + 16) = ~fold(sum);
	*(__u16 *)(tcp + 18) = 0;
	*(__u32 *)(tcp + 20) = mss;
}

/* Makes an attacker's frame of ATTACK_LEN bytes or more. */
static __always_inline void write_attack(__u8 *frame, const struct attack *attack)
{
	if (attack->kind == ATTACK_AS_IS)
		return;
	*(__u64 *)frame = attack->macs[0];
	*(__u32 *)(frame + 8) = attack->macs[1];
	*(__u16 *)(frame + 12) = attack->kind == ATTACK_PASSED ? bpf_htons(0x88b5) : bpf_htons(0x0800);
	if (attack->kind == ATTACK_FRAGMENT)
		write_fragment(frame, attack);
	else if (attack->kind == ATTACK_SYN)
		write_syn(frame, attack);
}

#endif
