/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Log-linear buckets: 64 for each power of two, so that none is wider than 1/64 of its value. The same
 * arithmetic as histogram.rs. 36 bits of nanoseconds are 68 s. */
#ifndef BAREWIRE_BENCH_BUCKETS_H
#define BAREWIRE_BENCH_BUCKETS_H

#include <linux/types.h>

#define SUB_BITS 6
#define MAX_BITS 36
#define BUCKETS ((MAX_BITS - SUB_BITS + 1) << SUB_BITS)

static __always_inline __u32 bucket_of(__u64 value)
{
	__u32 bits = 0;
	__u64 rest = value >> SUB_BITS;

	if (value >> MAX_BITS)
		return BUCKETS - 1;
	/* bits = length of `rest` in binary: how far the value exceeds the linear part */
	if (rest >> 16) { bits += 16; rest >>= 16; }
	if (rest >> 8) { bits += 8; rest >>= 8; }
	if (rest >> 4) { bits += 4; rest >>= 4; }
	if (rest >> 2) { bits += 2; rest >>= 2; }
	if (rest >> 1) { bits += 1; rest >>= 1; }
	bits += rest;
	if (!bits)
		return value;
	return (bits << SUB_BITS) + ((value >> (bits - 1)) & ((1 << SUB_BITS) - 1));
}

#endif
