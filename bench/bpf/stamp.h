/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The stamp that the sender writes behind the headers of each frame and the receiver reads back.
 *
 *   Ethernet, tag on a VLAN, IP, UDP    | trial 4  | sequence 8 | due, ns 8 | zeros ... |
 *   42 bytes (IPv4), 62 (IPv6), tag + 4
 *
 * It is in the machine's own byte order: only the machine that wrote it reads it.
 */
#ifndef BAREWIRE_BENCH_STAMP_H
#define BAREWIRE_BENCH_STAMP_H

#include <linux/types.h>

#define HEADERS_IPV4 42
#define HEADERS_IPV6 62
#define TAG_LEN 4
#define STAMP_LEN 20

/* Where its parts stand. */
#define STAMP_SEQUENCE 4
#define STAMP_DUE 12

#endif
