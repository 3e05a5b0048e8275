/*
 * Real functions for DPDK's static inline ones, and proof that struct mr_mbuf is struct rte_mbuf.
 *
 * Nothing is decided here. Per-burst calls cost one call more than in C; what is needed per packet
 * (lengths, offsets, flags, reference counts) is read in Rust from struct mr_mbuf without a call, and
 * single mbufs come from the lcore's cache and go back there without one (dpdk/src/cache.rs).
 */
#include <stddef.h>

#include <rte_cycles.h>
#include <rte_hash_crc.h>
#include <rte_prefetch.h>

#include "wrapper.h"

#define SAME_OFFSET(ours, theirs) \
	_Static_assert(offsetof(struct mr_mbuf, ours) == offsetof(struct rte_mbuf, theirs), #ours)
#define SAME_SIZE(ours, theirs) \
	_Static_assert(sizeof(((struct mr_mbuf *)0)->ours) == \
		sizeof(((struct rte_mbuf *)0)->theirs), #ours)
#define SAME(ours, theirs) \
	SAME_OFFSET(ours, theirs); \
	SAME_SIZE(ours, theirs)

_Static_assert(sizeof(struct mr_mbuf) == sizeof(struct rte_mbuf), "mbuf size");
SAME(buf_addr, buf_addr);
#if RTE_IOVA_AS_PA
SAME(buf_iova, buf_iova);
#endif
SAME(data_off, data_off);
SAME(refcnt, refcnt);
SAME(nb_segs, nb_segs);
SAME(port, port);
SAME(ol_flags, ol_flags);
SAME(packet_type, packet_type);
SAME(pkt_len, pkt_len);
SAME(data_len, data_len);
SAME(vlan_tci, vlan_tci);
SAME(hash_rss, hash.rss);
SAME(hash_hi, hash.fdir.hi);
SAME(vlan_tci_outer, vlan_tci_outer);
SAME(buf_len, buf_len);
SAME(pool, pool);
SAME(next, next);
SAME(tx_offload, tx_offload);
SAME(shinfo, shinfo);
SAME(priv_size, priv_size);
SAME(timesync, timesync);
SAME(dynfield1, dynfield1);
_Static_assert(offsetof(struct mr_mbuf_shinfo, refcnt) ==
	offsetof(struct rte_mbuf_ext_shared_info, refcnt), "shinfo refcnt");
#ifndef RTE_MBUF_REFCNT_ATOMIC
#error "Mbufs travel between lcores: DPDK must be built with RTE_MBUF_REFCNT_ATOMIC"
#endif

static inline struct rte_mbuf *theirs(struct mr_mbuf *frame)
{
	return (struct rte_mbuf *)frame;
}

static inline struct mr_mbuf *ours(struct rte_mbuf *frame)
{
	return (struct mr_mbuf *)frame;
}

/*
 * The bursts of a queue that somebody watches (a capture). All others go from Rust into the driver
 * without a step between (dpdk/src/queue/fast.rs).
 */
uint16_t mr_eth_rx_burst(uint16_t port, uint16_t queue, struct mr_mbuf **frames, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, (struct rte_mbuf **)frames, count);
}

uint16_t mr_eth_tx_burst(uint16_t port, uint16_t queue, struct mr_mbuf **frames, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, (struct rte_mbuf **)frames, count);
}

uint16_t mr_eth_tx_prepare(uint16_t port, uint16_t queue, struct mr_mbuf **frames, uint16_t count)
{
	return rte_eth_tx_prepare(port, queue, (struct rte_mbuf **)frames, count);
}

int mr_eth_rx_queue_count(uint16_t port, uint16_t queue)
{
	return rte_eth_rx_queue_count(port, queue);
}

int mr_eth_link_get_nowait(uint16_t port, struct mr_link *link)
{
	struct rte_eth_link now = { 0 };
	int ret = rte_eth_link_get_nowait(port, &now);

	link->speed_mbps = now.link_speed;
	link->is_up = now.link_status == RTE_ETH_LINK_UP;
	link->is_full_duplex = now.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	link->is_autoneg = now.link_autoneg == RTE_ETH_LINK_AUTONEG;
	return ret;
}

struct mr_mbuf *mr_pktmbuf_alloc(struct rte_mempool *pool)
{
	return ours(rte_pktmbuf_alloc(pool));
}

/* All of them or none: 0 or a negative errno. */
int mr_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct mr_mbuf **frames, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, (struct rte_mbuf **)frames, count);
}

/*
 * One more holder of a reference count that others may change at the same time; fails instead of
 * wrapping.
 *
 * DPDK's own rte_mbuf_refcnt_update() adds without a lock when it reads 1. Two lcores that each
 * hold a handle to the same *indirect* mbuf may both read 1 in the direct one, so that shortcut is
 * not for us.
 */
static inline int hold(uint16_t *refcnt)
{
	uint16_t seen = __atomic_load_n(refcnt, __ATOMIC_RELAXED);

	do {
		if (seen == UINT16_MAX)
			return 0;
	} while (!__atomic_compare_exchange_n(refcnt, &seen, (uint16_t)(seen + 1), 1, __ATOMIC_ACQ_REL,
		__ATOMIC_RELAXED));
	return 1;
}

/*
 * rte_pktmbuf_attach() without what it copies of the original's metadata: a view is a fresh frame.
 *
 * NULL when the pool is empty or the original has 65535 holders. The caller has checked the span.
 */
struct mr_mbuf *mr_pktmbuf_alloc_view(struct rte_mempool *pool, struct mr_mbuf *of,
	uint16_t data_off, uint16_t data_len)
{
	struct rte_mbuf *original = theirs(of);
	struct rte_mbuf *view = rte_pktmbuf_alloc(pool);
	int held;

	if (view == NULL)
		return NULL;
	if (RTE_MBUF_HAS_EXTBUF(original))
		held = hold((uint16_t *)&original->shinfo->refcnt);
	else
		held = hold((uint16_t *)&rte_mbuf_from_indirect(original)->refcnt);
	if (!held) {
		rte_pktmbuf_free(view);
		return NULL;
	}
	if (RTE_MBUF_HAS_EXTBUF(original)) {
		view->ol_flags = RTE_MBUF_F_EXTERNAL;
		view->shinfo = original->shinfo;
	} else {
		view->ol_flags = RTE_MBUF_F_INDIRECT;
		view->priv_size = original->priv_size;
	}
	view->buf_addr = original->buf_addr;
	rte_mbuf_iova_set(view, rte_mbuf_iova_get(original));
	view->buf_len = original->buf_len;
	view->data_off = data_off;
	view->data_len = data_len;
	view->pkt_len = data_len;
	return ours(view);
}

/*
 * A flat copy of a chain; NULL when the pool is empty or the frame is longer than one buffer of it.
 */
struct mr_mbuf *mr_pktmbuf_copy(const struct mr_mbuf *frame, struct rte_mempool *pool)
{
	const struct rte_mbuf *original = (const struct rte_mbuf *)frame;
	struct rte_mbuf *copy;

	if (original->pkt_len + RTE_PKTMBUF_HEADROOM > rte_pktmbuf_data_room_size(pool))
		return NULL;
	copy = rte_pktmbuf_copy(original, pool, 0, UINT32_MAX);
	return ours(copy);
}

void mr_pktmbuf_free(struct mr_mbuf *frame)
{
	rte_pktmbuf_free(theirs(frame));
}

void mr_pktmbuf_free_bulk(struct mr_mbuf **frames, unsigned int count)
{
	rte_pktmbuf_free_bulk((struct rte_mbuf **)frames, count);
}

struct mr_mbuf *mr_mbuf_from_indirect(struct mr_mbuf *view)
{
	return ours(rte_mbuf_from_indirect(theirs(view)));
}

/*
 * Buffers that this lcore could get now: the common store and its own cache. O(1), unlike
 * rte_mempool_avail_count().
 */
unsigned int mr_mempool_available_here(const struct rte_mempool *pool)
{
	/* rte_mempool_ops_get_count() does just this and is not exported. */
	unsigned int count = rte_mempool_get_ops(pool->ops_index)->get_count(pool);
	const struct rte_mempool_cache *cache;

	cache = rte_mempool_default_cache((struct rte_mempool *)(uintptr_t)pool, rte_lcore_id());
	return cache == NULL ? count : count + cache->len;
}

unsigned int mr_mempool_size(const struct rte_mempool *pool)
{
	return pool->size;
}

uint16_t mr_pktmbuf_data_room_size(struct rte_mempool *pool)
{
	return rte_pktmbuf_data_room_size(pool);
}

int mr_errno(void)
{
	return rte_errno;
}

uint32_t mr_hash_crc(const void *key, uint32_t bytes, uint32_t start)
{
	return rte_hash_crc(key, bytes, start);
}

unsigned int mr_lcore_id(void)
{
	return rte_lcore_id();
}

uint64_t mr_rdtsc(void)
{
	return rte_rdtsc();
}

void mr_prefetch0(const void *address)
{
	rte_prefetch0(address);
}

uint32_t mr_softrss(const uint32_t *input, uint32_t words, const uint8_t *key)
{
	/* Only read, in spite of its type. */
	return rte_softrss((uint32_t *)(uintptr_t)input, words, key);
}
