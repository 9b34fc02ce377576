/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Ones' complement sums (RFC 1071), in the machine's byte order. */
#ifndef BAREWIRE_BENCH_CHECKSUM_H
#define BAREWIRE_BENCH_CHECKSUM_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

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

#endif
