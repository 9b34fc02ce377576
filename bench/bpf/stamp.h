/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The frame that the sender writes and the receiver reads back.
 *
 *   0          14         34      42       46           54        62
 *   | Ethernet | IPv4 (20)| UDP   | trial  | sequence   | due, ns | zeros ... |
 *
 * The stamp is in the machine's own byte order: only the machine that wrote it reads it.
 */
#ifndef BAREWIRE_BENCH_STAMP_H
#define BAREWIRE_BENCH_STAMP_H

#include <linux/types.h>

#define HEADERS_LEN 42
#define STAMPED_LEN 62

struct stamped_frame {
	__u64 headers[5];	/* bytes 0..40 */
	__u16 udp_checksum;
	__u32 trial;
	__u64 sequence;
	__u64 due_ns;
} __attribute__((packed));

_Static_assert(sizeof(struct stamped_frame) == STAMPED_LEN, "the picture above is the layout");

#endif
