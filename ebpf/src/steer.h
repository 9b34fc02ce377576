/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the program steer and user space share. lib.rs says the same in Rust, and its tests compare the two. */
#ifndef BAREWIRE_STEER_H
#define BAREWIRE_STEER_H

#include <linux/types.h>

/*
 * What became of a frame; the number is the index into the map `verdicts`. Every frame is counted once.
 * The verdicts that redirect come first.
 */
enum steer_verdict {
	STEER_REDIRECT_IPV4,	   /* to the socket: IPv4 to an owned address */
	STEER_REDIRECT_IPV6,	   /* to the socket: IPv6 to an owned address */
	STEER_REDIRECT_ARP,	   /* to the socket: ARP about an owned address */
	STEER_REDIRECT_NDP,	   /* to the socket: neighbor discovery about an owned address */
	STEER_REDIRECT_GROUP,	   /* to the socket: to a group that the engine alone has joined */
	STEER_PASS_NOT_OWNED,	   /* to the kernel: well-formed, about addresses that are not owned */
	STEER_PASS_OTHER_PROTOCOL, /* to the kernel: none of IPv4, IPv6 and ARP for IPv4 over Ethernet */
	STEER_PASS_MALFORMED,	   /* to the kernel: truncated headers, wrong version or length fields */
	STEER_PASS_OTHER_VLAN,	   /* to the kernel: not tagged as configured */
	STEER_PASS_NO_SOCKET,	   /* to the kernel: owned, but nobody serves the queue that it came in on */
	STEER_PASS_STALE,	   /* to the kernel: owned, but the queue's worker has not beaten for too long */
	STEER_PASS_COPIED,	   /* to the kernel: to a group of both, with a copy to the engine */
	STEER_PASS_COPY_LOST,	   /* to the kernel: the same, but the copy was too long, or the ring full */
	STEER_DROP_SYN,		   /* dropped: TCP to an owned address, a first connection request in a flood */
	STEER_VERDICTS,
};

/* Who gets what is sent to a group or broadcast address; the values of the map `groups`. */
enum steer_group_use {
	STEER_GROUP_COPY = 1,	  /* the kernel, and a copy goes to the engine */
	STEER_GROUP_REDIRECT = 2, /* the engine alone, as with an owned address */
};

/* The longest frame that is copied: one of an MTU of 1,500 with tags, and whatever a chunk of 2,048 bytes holds. */
#define STEER_HEARD_MAX 2048

/* A record in the ring `heard`: a copy of a frame. */
struct steer_heard {
	__u32 len;   /* bytes of the frame */
	__u32 queue; /* that it came in on */
	__u8 frame[STEER_HEARD_MAX];
};

/* Fixed when the program is loaded. */
struct steer_config {
	/* Age of a worker's last beat from which on its frames are passed, in ns; 0: never. */
	__u64 heartbeat_limit_ns;
	/* VLAN ids in host byte order; 0: no such tag. An inner one without an outer one matches nothing. */
	__u16 outer_vlan;
	__u16 inner_vlan;
	/* EtherType of the outer tag in host byte order: 0x8100 or 0x88a8. An inner one has 0x8100. */
	__u16 outer_type;
	__u16 reserved;
	/* Nobody outside can guess it: key of the table of connection requests. */
	__u64 guard_key;
};

#endif
