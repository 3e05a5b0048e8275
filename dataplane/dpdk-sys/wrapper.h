/*
 * What the bindings are generated from: DPDK's own headers, the wrappers of its inline functions,
 * and a mirror of the mbuf fields that are read on the packet path.
 *
 * Everything that starts with mr_ or MR_ is ours; everything that starts with rte_ is DPDK's.
 */
#ifndef MILLRACE_DPDK_WRAPPER_H
#define MILLRACE_DPDK_WRAPPER_H

#include <stddef.h>
#include <stdint.h>

#include <rte_eal.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_cpuflags.h>
#include <rte_interrupts.h>
#include <rte_hash.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_pdump.h>
#include <rte_power_intrinsics.h>
#include <rte_ring.h>
#include <rte_thash.h>
#include <rte_telemetry.h>
#include <rte_version.h>

/*
 * The fields of struct rte_mbuf that we touch, under flat names.
 *
 * Since 24.03 DPDK wraps some of them in anonymous unions, and bindgen would name those differently
 * per release. The layout is the same in all of them; shim.c proves it for the installed one with
 * _Static_assert.
 */
typedef uint16_t mr_count; /* AtomicU16 in Rust: others may change it while we look at the rest. */

struct mr_mbuf {
	void *buf_addr;
#if RTE_IOVA_AS_PA
	uint64_t buf_iova;
#else
	struct mr_mbuf *next;
#endif
	uint16_t data_off;
	mr_count refcnt;
	uint16_t nb_segs;
	uint16_t port;
	uint64_t ol_flags;
	uint32_t packet_type;
	uint32_t pkt_len;
	uint16_t data_len;
	uint16_t vlan_tci;
	uint32_t hash_rss;
	uint32_t hash_hi;
	uint16_t vlan_tci_outer;
	uint16_t buf_len;
	void *pool;
	/* Second cache line. */
#if RTE_IOVA_AS_PA
	struct mr_mbuf *next;
#else
	uint64_t dynfield2;
#endif
	uint64_t tx_offload;
	struct mr_mbuf_shinfo *shinfo;
	uint16_t priv_size;
	uint16_t timesync;
	uint32_t dynfield1[9];
};

/* struct rte_mbuf_ext_shared_info: who holds an external buffer. */
struct mr_mbuf_shinfo {
	void *free_cb;
	void *fcb_opaque;
	mr_count refcnt;
};

/* Link state, independent of how the release packs struct rte_eth_link. */
struct mr_link {
	uint32_t speed_mbps;
	uint8_t is_up;
	uint8_t is_full_duplex;
	uint8_t is_autoneg;
};

/* Queues. */
uint16_t mr_eth_rx_burst(uint16_t port, uint16_t queue, struct mr_mbuf **frames, uint16_t count);
uint16_t mr_eth_tx_burst(uint16_t port, uint16_t queue, struct mr_mbuf **frames, uint16_t count);
uint16_t mr_eth_tx_prepare(uint16_t port, uint16_t queue, struct mr_mbuf **frames, uint16_t count);
int mr_eth_link_get_nowait(uint16_t port, struct mr_link *link);
int mr_eth_rx_queue_count(uint16_t port, uint16_t queue);

/* Mbufs and pools. */
struct mr_mbuf *mr_pktmbuf_alloc(struct rte_mempool *pool);
int mr_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct mr_mbuf **frames, unsigned int count);
struct mr_mbuf *mr_pktmbuf_alloc_view(struct rte_mempool *pool, struct mr_mbuf *of,
	uint16_t data_off, uint16_t data_len);
struct mr_mbuf *mr_pktmbuf_copy(const struct mr_mbuf *frame, struct rte_mempool *pool);
void mr_pktmbuf_free(struct mr_mbuf *frame);
void mr_pktmbuf_free_bulk(struct mr_mbuf **frames, unsigned int count);
struct mr_mbuf *mr_mbuf_from_indirect(struct mr_mbuf *view);
unsigned int mr_mempool_available_here(const struct rte_mempool *pool);
unsigned int mr_mempool_size(const struct rte_mempool *pool);
uint16_t mr_pktmbuf_data_room_size(struct rte_mempool *pool);

/* The Toeplitz hash of DPDK, to compare ours with; words of the input in host order. */
uint32_t mr_softrss(const uint32_t *input, uint32_t words, const uint8_t *key);

/* The calling thread and the CPU. */
int mr_errno(void);
unsigned int mr_lcore_id(void);
uint32_t mr_hash_crc(const void *key, uint32_t bytes, uint32_t start);
uint64_t mr_rdtsc(void);
void mr_prefetch0(const void *address);

/* mbuf flags. */
static const uint64_t MR_MBUF_F_INDIRECT = RTE_MBUF_F_INDIRECT;
static const uint64_t MR_MBUF_F_EXTERNAL = RTE_MBUF_F_EXTERNAL;
static const uint64_t MR_MBUF_F_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t MR_MBUF_F_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t MR_MBUF_F_RX_LRO = RTE_MBUF_F_RX_LRO;
static const uint64_t MR_MBUF_F_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t MR_MBUF_F_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t MR_MBUF_F_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t MR_MBUF_F_RX_IP_CKSUM_NONE = RTE_MBUF_F_RX_IP_CKSUM_NONE;
static const uint64_t MR_MBUF_F_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t MR_MBUF_F_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t MR_MBUF_F_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t MR_MBUF_F_RX_L4_CKSUM_NONE = RTE_MBUF_F_RX_L4_CKSUM_NONE;
static const uint64_t MR_MBUF_F_TX_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t MR_MBUF_F_TX_IPV6 = RTE_MBUF_F_TX_IPV6;
static const uint64_t MR_MBUF_F_TX_IP_CKSUM = RTE_MBUF_F_TX_IP_CKSUM;
static const uint64_t MR_MBUF_F_TX_TCP_CKSUM = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t MR_MBUF_F_TX_TCP_SEG = RTE_MBUF_F_TX_TCP_SEG;
static const uint64_t MR_MBUF_F_TX_VLAN = RTE_MBUF_F_TX_VLAN;

/* Where the lengths sit in mbuf.tx_offload. */
static const uint32_t MR_MBUF_L2_LEN_OFS = RTE_MBUF_L2_LEN_OFS;
static const uint32_t MR_MBUF_L3_LEN_OFS = RTE_MBUF_L3_LEN_OFS;
static const uint32_t MR_MBUF_L4_LEN_OFS = RTE_MBUF_L4_LEN_OFS;
static const uint32_t MR_MBUF_TSO_SEGSZ_OFS = RTE_MBUF_TSO_SEGSZ_OFS;
static const uint32_t MR_MBUF_L2_LEN_BITS = RTE_MBUF_L2_LEN_BITS;
static const uint32_t MR_MBUF_L3_LEN_BITS = RTE_MBUF_L3_LEN_BITS;
static const uint32_t MR_MBUF_L4_LEN_BITS = RTE_MBUF_L4_LEN_BITS;
static const uint32_t MR_MBUF_TSO_SEGSZ_BITS = RTE_MBUF_TSO_SEGSZ_BITS;

/* Port offloads. */
static const uint64_t MR_RX_OFFLOAD_VLAN_STRIP = RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
static const uint64_t MR_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t MR_RX_OFFLOAD_UDP_CKSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t MR_RX_OFFLOAD_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t MR_RX_OFFLOAD_TCP_LRO = RTE_ETH_RX_OFFLOAD_TCP_LRO;
static const uint64_t MR_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t MR_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t MR_TX_OFFLOAD_VLAN_INSERT = RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
static const uint64_t MR_TX_OFFLOAD_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t MR_TX_OFFLOAD_UDP_CKSUM = RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t MR_TX_OFFLOAD_TCP_CKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t MR_TX_OFFLOAD_TCP_TSO = RTE_ETH_TX_OFFLOAD_TCP_TSO;
static const uint64_t MR_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t MR_TX_OFFLOAD_MBUF_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;

/* RSS types. */
static const uint64_t MR_RSS_IPV4 = RTE_ETH_RSS_IPV4;
static const uint64_t MR_RSS_NONFRAG_IPV4_TCP = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t MR_RSS_NONFRAG_IPV4_UDP = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
static const uint64_t MR_RSS_IPV6 = RTE_ETH_RSS_IPV6;
static const uint64_t MR_RSS_NONFRAG_IPV6_TCP = RTE_ETH_RSS_NONFRAG_IPV6_TCP;
static const uint64_t MR_RSS_NONFRAG_IPV6_UDP = RTE_ETH_RSS_NONFRAG_IPV6_UDP;
static const uint64_t MR_RSS_IPV6_TCP_EX = RTE_ETH_RSS_IPV6_TCP_EX;

/*
 * Where a pool keeps its lcores' caches, and whether one may be used without DPDK's own code: not when
 * that code also checks cookies or counts.
 */
static const uint32_t MR_MEMPOOL_LOCAL_CACHE_OFS = offsetof(struct rte_mempool, local_cache);
#if defined(RTE_LIBRTE_MEMPOOL_DEBUG) || defined(RTE_LIBRTE_MEMPOOL_STATS) || \
	defined(RTE_LIBRTE_MBUF_DEBUG)
static const uint32_t MR_MEMPOOL_CACHES_OPEN = 0;
#else
static const uint32_t MR_MEMPOOL_CACHES_OPEN = 1;
#endif

/* Macros that are expressions, and numbers of more than one type. */
static const uint32_t MR_MEMPOOL_NAME_BYTES_MAX = RTE_MEMPOOL_NAMESIZE - 1;
static const uint32_t MR_ETH_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;
static const int MR_INTR_EVENT_ADD = RTE_INTR_EVENT_ADD;
static const uint32_t MR_TEL_U64 = RTE_TEL_U64_VAL;
static const uint32_t MR_LCORE_ID_ANY = LCORE_ID_ANY;
static const uint32_t MR_SPEED_NUM_UNKNOWN = RTE_ETH_SPEED_NUM_UNKNOWN;

#endif
