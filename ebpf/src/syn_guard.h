/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The guard of a queue: while it is up, a connection request reaches the engine only when it comes again.
 *
 *   hash of addresses and ports -> set of four entries: is this request one of them, and not too old?
 *                                     yes: to the engine     no: it takes the place of the oldest, and is dropped
 *
 * At 500,000 requests a second, one in 60 is pushed out by others within a second; its host asks once more, after two
 * (RFC 6298 section 2.1). Part of steer.bpf.c.
 */
#ifndef BAREWIRE_SYN_GUARD_H
#define BAREWIRE_SYN_GUARD_H

#define GUARD_SETS (512 * 1024)
#define GUARD_WAYS 4

/* In units of 2^26 ns, 67 ms: a host asks again after 1 s, then after 2. */
#define GUARD_UNIT_SHIFT 26
#define GUARD_AGE_MAX 60

#define TCP_FLAGS_OFFSET 13
#define TCP_HEADER_LEN 20
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Until when the guard of each receive queue is up: CLOCK_MONOTONIC, ns. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DEFAULT_QUEUES);
	__type(key, __u32);
	__type(value, __u64);
} guard SEC(".maps");

/*
 * Connection requests that came while a guard was up: 8 MiB. An entry is the high bits of the request's hash, and when
 * it came.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GUARD_SETS * GUARD_WAYS);
	__type(key, __u32);
	__type(value, __u32);
} requests SEC(".maps");

/* Spreads two words over one: an odd constant for the low bits, a shift for the high ones. */
static __always_inline __u64 mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

/* Whether a worker that lives has raised the guard of the queue. */
static __always_inline bool is_guarded(__u32 queue, __u64 now)
{
	__u64 *until = bpf_map_lookup_elem(&guard, &queue);

	return until && now < *(volatile __u64 *)until && !is_stale(queue);
}

/*
 * Whether the request came before, not long ago. From now on it has. A function of its own, because inlined it runs out
 * of registers, and without CAP_PERFMON not everything may be kept on the stack.
 */
static __attribute__((noinline)) bool comes_again(__u64 hash, __u64 now)
{
	__u32 first = hash % GUARD_SETS * GUARD_WAYS, name = hash >> 48, oldest = first;
	__u16 when = now >> GUARD_UNIT_SHIFT, oldest_age = 0;
	__u32 *entry;

	/* Each is looked up by itself: only CAP_PERFMON may add a variable to a pointer. */
	for (int way = 0; way < GUARD_WAYS; way++) {
		__u32 index = first + way;
		__u16 age;

		entry = bpf_map_lookup_elem(&requests, &index);
		if (!entry)
			return true;
		age = when - (__u16)*entry;
		if (*entry >> 16 == name && age <= GUARD_AGE_MAX) {
			*entry = name << 16 | when;
			return true;
		}
		if (age >= oldest_age) {
			oldest_age = age;
			oldest = index;
		}
	}
	entry = bpf_map_lookup_elem(&requests, &oldest);
	if (entry)
		*entry = name << 16 | when;
	return false;
}

/* Whether the TCP segment is a connection request that does not come again, at a queue whose guard is up. */
static __always_inline bool is_refused_request(const struct frame *frame, const void *segment, __u64 hosts)
{
	const __u8 *bytes = segment;
	__u64 now, hash;

	if ((void *)(bytes + TCP_HEADER_LEN) > frame->end ||
	    (bytes[TCP_FLAGS_OFFSET] & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) != TCP_SYN)
		return false;
	now = bpf_ktime_get_coarse_ns();
	if (!is_guarded(frame->ctx->rx_queue_index, now))
		return false;
	hash = mix(mix(config.guard_key, hosts), *(const __u32 *)bytes);
	return !comes_again(mix(hash, config.guard_key), now);
}

#endif
