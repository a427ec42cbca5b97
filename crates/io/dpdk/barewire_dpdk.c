/* fopencookie() */
#define _GNU_SOURCE
/* rte_eth_read_clock(), in every version since 19.08 */
#define ALLOW_EXPERIMENTAL_API

#include "barewire_dpdk.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <rte_mempool.h>
#include <rte_version.h>

_Static_assert(sizeof(struct bw_packet) == 32, "as crates/io/src/dpdk/library.rs has it");
_Static_assert(sizeof(struct bw_port_config) == 24, "as crates/io/src/dpdk/library.rs has it");
_Static_assert(sizeof(struct bw_port_info) == 60, "as crates/io/src/dpdk/library.rs has it");

/* Buffers of a thread's own, which it takes and gives back without looking at the others'. */
#define CACHE 256
#define MAX_BURST 1024

/* Which ports are open; one is opened or closed at a time. */
static bool taken[RTE_MAX_ETHPORTS];

struct bw_port {
	struct rte_device *device;
	struct rte_mempool *pool;
	uint64_t time_flag;  /* in ol_flags; 0 for none */
	int time_offset;     /* in the mbuf */
	uint16_t id;
	bool started;
	bool reads_clock;    /* else the time of day of the device's clock is read */
	uint32_t held;
	struct rte_mbuf *mbufs[MAX_BURST];
};

uint32_t bw_abi(void)
{
	return BW_ABI;
}

const char *bw_version(void)
{
	return rte_version();
}

/* --- the log ------------------------------------------------------------------------------------ */

/* The first error is the driver's own; those that follow say that it failed. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_line[512];

static ssize_t keep_error(void *cookie, const char *text, size_t len)
{
	(void)cookie;
	if (rte_log_cur_msg_loglevel() > (int)RTE_LOG_ERR)
		return (ssize_t)len;
	size_t end = len;
	while (end > 0 && (text[end - 1] == '\n' || text[end - 1] == ' '))
		end--;
	size_t begin = end;
	while (begin > 0 && text[begin - 1] != '\n')
		begin--;
	if (end > begin) {
		size_t kept = RTE_MIN(end - begin, sizeof(log_line) - 1);
		pthread_mutex_lock(&log_lock);
		if (log_line[0] == 0) {
			memcpy(log_line, text + begin, kept);
			log_line[kept] = 0;
		}
		pthread_mutex_unlock(&log_lock);
	}
	return (ssize_t)len;
}

const char *bw_first_error(void)
{
	static char copy[sizeof(log_line)];
	pthread_mutex_lock(&log_lock);
	memcpy(copy, log_line, sizeof(copy));
	pthread_mutex_unlock(&log_lock);
	return copy;
}

static void forget_log(void)
{
	pthread_mutex_lock(&log_lock);
	log_line[0] = 0;
	pthread_mutex_unlock(&log_lock);
}

int bw_init(int argc, char **argv, int logs_to_stderr)
{
	if (!logs_to_stderr) {
		static const cookie_io_functions_t functions = { .write = keep_error };
		FILE *stream = fopencookie(NULL, "w", functions);
		if (stream == NULL)
			return -ENOMEM;
		setvbuf(stream, NULL, _IOLBF, 1024);
		rte_openlog_stream(stream);
	}
	return rte_eal_init(argc, argv) < 0 ? -(rte_errno ? rte_errno : EIO) : 0;
}

/* --- threads ------------------------------------------------------------------------------------ */

static pthread_key_t registered;
static pthread_once_t registered_once = PTHREAD_ONCE_INIT;

static void unregister(void *value)
{
	(void)value;
	rte_thread_unregister();
}

static void make_key(void)
{
	pthread_key_create(&registered, unregister);
}

/* Only threads that DPDK knows have buffers of their own. At most so many as RTE_MAX_LCORE can be known. */
static __rte_cold void make_known(void)
{
	static __thread bool tried;
	if (tried)
		return;
	tried = true;
	pthread_once(&registered_once, make_key);
	if (rte_thread_register() == 0)
		pthread_setspecific(registered, &registered);
}

/* --- ports -------------------------------------------------------------------------------------- */

/* Whether a device's name is the text's, of which so much names it. */
static bool is_named(const char *name, const char *text, size_t len)
{
	size_t found = strlen(name);
	/* A PCI address may be given without its domain. */
	return found >= len && strncmp(name + (found - len), text, len) == 0 &&
	       (found == len || name[found - len - 1] == ':');
}

static size_t name_of(const char **text)
{
	const char *begin = *text;
	const char *bus = strncmp(begin, "pci:", 4) == 0 || strncmp(begin, "vdev:", 5) == 0 ? strchr(begin, ':') : NULL;
	if (bus != NULL)
		*text = bus + 1;
	return strcspn(*text, ",");
}

/* A device of any kind that was probed. */
static struct rte_device *probed(const char *text)
{
	size_t len = name_of(&text);
	const char *const buses[] = { "bus=pci", "bus=vdev" };
	for (size_t n = 0; n < RTE_DIM(buses); n++) {
		struct rte_dev_iterator each;
		struct rte_device *device, *found = NULL;
		RTE_DEV_FOREACH(device, buses[n], &each) {
			if (found == NULL && rte_dev_is_probed(device) && is_named(rte_dev_name(device), text, len))
				found = device;
		}
		if (found != NULL)
			return found;
	}
	return NULL;
}

/* The first port of a device that was just probed. */
static int port_of(const char *text, struct rte_device **device, uint16_t *id)
{
	size_t len = name_of(&text);
	uint16_t each;
	RTE_ETH_FOREACH_DEV(each) {
		struct rte_eth_dev_info info;
		if (rte_eth_dev_info_get(each, &info) != 0)
			continue;
		if (is_named(rte_dev_name(info.device), text, len)) {
			*device = info.device;
			*id = each;
			return 0;
		}
	}
	return -ENODEV;
}

static int start(struct bw_port *port, const struct bw_port_config *config, struct bw_port_info *info,
		 const char **what)
{
	struct rte_eth_dev_info device;
	int result = rte_eth_dev_info_get(port->id, &device);
	*what = "rte_eth_dev_info_get";
	if (result != 0)
		return result;
	snprintf(info->driver, sizeof(info->driver), "%s", device.driver_name);
	info->if_index = device.if_index;
	info->max_queues = device.max_rx_queues;
	info->sends = device.max_tx_queues > 0;
	if (config->queues > device.max_rx_queues)
		return *what = "queues", -ERANGE;
	struct rte_ether_addr mac;
	if (rte_eth_macaddr_get(port->id, &mac) == 0)
		memcpy(info->mac, mac.addr_bytes, sizeof(info->mac));

	struct rte_eth_conf conf = { 0 };
	if (config->queues > 1) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf =
			device.flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP);
		if (conf.rx_adv_conf.rss_conf.rss_hf == 0)
			conf.rxmode.mq_mode = RTE_ETH_MQ_RX_NONE;
	}
	uint64_t checksums = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
	if ((device.rx_offload_capa & checksums) == checksums) {
		conf.rxmode.offloads |= checksums;
		info->checksums = 1;
	}
	if (config->times && device.rx_offload_capa & RTE_ETH_RX_OFFLOAD_TIMESTAMP)
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_TIMESTAMP;

	uint16_t mtu = 0;
	if (rte_eth_dev_get_mtu(port->id, &mtu) != 0 || mtu == 0)
		mtu = RTE_ETHER_MTU;
	uint32_t frame = config->frame_bytes;
	if (frame == 0)
		frame = mtu + RTE_ETHER_HDR_LEN + 2 * RTE_VLAN_HLEN + RTE_ETHER_CRC_LEN;
	/* Some devices take their buffers in steps of 1024. */
	uint32_t room = RTE_MIN(RTE_MAX(RTE_ALIGN_CEIL(frame, 1024u), 2048u), (uint32_t)UINT16_MAX - RTE_PKTMBUF_HEADROOM);
	info->frame_bytes = room;
	if (device.max_mtu != 0)
		conf.rxmode.mtu = RTE_MIN(RTE_MAX(mtu, device.min_mtu), device.max_mtu);

	*what = "rte_eth_dev_configure";
	result = rte_eth_dev_configure(port->id, config->queues, info->sends, &conf);
	if (result != 0)
		return result;
	uint16_t receive = config->descriptors, send = 256;
	*what = "rte_eth_dev_adjust_nb_rx_tx_desc";
	result = rte_eth_dev_adjust_nb_rx_tx_desc(port->id, &receive, &send);
	if (result != 0)
		return result;
	info->descriptors = receive;

	/* What all queues, a burst, a thread's own store and what waits to be sent can hold at once. */
	info->buffers = (uint32_t)config->queues * receive + 2u * MAX_BURST + CACHE * 2 + send;
	char name[RTE_MEMPOOL_NAMESIZE];
	snprintf(name, sizeof(name), "barewire-%u", port->id);
	*what = "rte_pktmbuf_pool_create";
	port->pool = rte_pktmbuf_pool_create(name, info->buffers, CACHE, 0, (uint16_t)(room + RTE_PKTMBUF_HEADROOM),
					     (int)rte_eth_dev_socket_id(port->id));
	if (port->pool == NULL)
		return -(rte_errno ? rte_errno : ENOMEM);
	for (uint16_t queue = 0; queue < config->queues; queue++) {
		struct rte_eth_rxconf receive_conf = device.default_rxconf;
		receive_conf.offloads = conf.rxmode.offloads & device.rx_queue_offload_capa;
		*what = "rte_eth_rx_queue_setup";
		result = rte_eth_rx_queue_setup(port->id, queue, receive,
						(unsigned int)rte_eth_dev_socket_id(port->id), &receive_conf, port->pool);
		if (result != 0)
			return result;
	}
	if (info->sends) {
		*what = "rte_eth_tx_queue_setup";
		result = rte_eth_tx_queue_setup(port->id, 0, send, (unsigned int)rte_eth_dev_socket_id(port->id), NULL);
		if (result != 0)
			return result;
	}
	*what = "rte_eth_dev_start";
	result = rte_eth_dev_start(port->id);
	if (result != 0)
		return result;
	port->started = true;

	if (conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_TIMESTAMP) {
		*what = "rte_mbuf_dyn_rx_timestamp_register";
		if (rte_mbuf_dyn_rx_timestamp_register(&port->time_offset, &port->time_flag) != 0)
			return -(rte_errno ? rte_errno : ENOSPC);
		info->times = 1;
		uint64_t now;
		port->reads_clock = rte_eth_read_clock(port->id, &now) == 0;
		if (!port->reads_clock)
			rte_eth_timesync_enable(port->id);
		info->clock = bw_clock(port, &now) == 0;
	}
	return 0;
}

int bw_port_open(const struct bw_port_config *config, struct bw_port **out, struct bw_port_info *info,
		 const char **what)
{
	memset(info, 0, sizeof(*info));
	forget_log();
	struct bw_port *port = calloc(1, sizeof(*port));
	*what = "calloc";
	if (port == NULL)
		return -ENOMEM;
	*what = "rte_dev_probe";
	bool was_probed = probed(config->device) != NULL;
	int result = rte_dev_probe(config->device);
	if (result != 0) {
		free(port);
		return result < 0 ? result : -ENODEV;
	}
	*what = "the search for its port";
	result = port_of(config->device, &port->device, &port->id);
	if (result != 0) {
		struct rte_device *device = was_probed ? NULL : probed(config->device);
		if (device != NULL)
			rte_dev_remove(device);
		free(port);
		return result;
	}
	/* To probe it once more is no error to DPDK. */
	if (taken[port->id]) {
		free(port);
		return -EEXIST;
	}
	taken[port->id] = true;
	result = start(port, config, info, what);
	if (result != 0) {
		bw_port_close(port);
		return result;
	}
	*out = port;
	return 0;
}

void bw_port_close(struct bw_port *port)
{
	bw_release(port);
	taken[port->id] = false;
	if (port->started)
		rte_eth_dev_stop(port->id);
	rte_eth_dev_close(port->id);
	rte_dev_remove(port->device);
	rte_mempool_free(port->pool);
	free(port);
}

/* --- frames ------------------------------------------------------------------------------------- */

void bw_release(struct bw_port *port)
{
	if (port->held != 0)
		rte_pktmbuf_free_bulk(port->mbufs, port->held);
	port->held = 0;
}

uint32_t bw_receive(struct bw_port *port, uint16_t queue, struct bw_packet *out, uint32_t max)
{
	if (unlikely(rte_lcore_id() == LCORE_ID_ANY))
		make_known();
	/* Those of a receiver that was unwound. */
	bw_release(port);
	uint16_t count = rte_eth_rx_burst(port->id, queue, port->mbufs, (uint16_t)RTE_MIN(max, (uint32_t)MAX_BURST));
	port->held = count;
	for (uint16_t n = 0; n < count; n++) {
		const struct rte_mbuf *mbuf = port->mbufs[n];
		uint16_t flags = 0;
		uint64_t l4 = mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
		/* NONE says that the checksum is not there yet, and that all is well with what it is for. */
		if (l4 == RTE_MBUF_F_RX_L4_CKSUM_GOOD || l4 == RTE_MBUF_F_RX_L4_CKSUM_NONE)
			flags |= BW_CHECKSUM_GOOD;
		if (mbuf->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED)
			flags |= BW_VLAN;
		if (mbuf->nb_segs != 1)
			flags |= BW_PIECES;
		if (mbuf->ol_flags & port->time_flag) {
			flags |= BW_TIME;
			out[n].time = *RTE_MBUF_DYNFIELD(mbuf, port->time_offset, rte_mbuf_timestamp_t *);
		}
		out[n].data = rte_pktmbuf_mtod(mbuf, const uint8_t *);
		out[n].mbuf = port->mbufs[n];
		out[n].len = mbuf->data_len;
		out[n].vlan_tci = mbuf->vlan_tci;
		out[n].flags = flags;
	}
	return count;
}

uint32_t bw_packet_copy(const struct bw_packet *packet, uint8_t *to, uint32_t room)
{
	uint32_t at = 0;
	for (const struct rte_mbuf *piece = packet->mbuf; piece != NULL; piece = piece->next) {
		if (piece->data_len > room - at)
			return 0;
		memcpy(to + at, rte_pktmbuf_mtod(piece, const void *), piece->data_len);
		at += piece->data_len;
	}
	return at;
}

int bw_send(struct bw_port *port, const uint8_t *frame, uint32_t len)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(port->pool);
	if (mbuf == NULL)
		return -ENOMEM;
	char *to = len <= UINT16_MAX ? rte_pktmbuf_append(mbuf, (uint16_t)len) : NULL;
	if (to == NULL) {
		rte_pktmbuf_free(mbuf);
		return -EMSGSIZE;
	}
	memcpy(to, frame, len);
	if (rte_eth_tx_burst(port->id, 0, &mbuf, 1) == 1)
		return 0;
	rte_pktmbuf_free(mbuf);
	return -EAGAIN;
}

/* --- control ------------------------------------------------------------------------------------ */

int bw_listen(struct bw_port *port, const uint8_t (*addresses)[6], uint32_t count, int may_be_promiscuous)
{
	struct rte_ether_addr *list = calloc(count ? count : 1, sizeof(*list));
	if (list == NULL)
		return -ENOMEM;
	for (uint32_t n = 0; n < count; n++)
		memcpy(list[n].addr_bytes, addresses[n], RTE_ETHER_ADDR_LEN);
	int result = rte_eth_dev_set_mc_addr_list(port->id, list, count);
	free(list);
	if (result == 0)
		return BW_FILTERED;
	result = rte_eth_allmulticast_enable(port->id);
	if (result == 0)
		return BW_ALL_MULTICAST;
	if (!may_be_promiscuous)
		return result;
	result = rte_eth_promiscuous_enable(port->id);
	return result == 0 ? BW_PROMISCUOUS : result;
}

int bw_statistics(struct bw_port *port, struct bw_statistics *out)
{
	struct rte_eth_stats stats;
	int result = rte_eth_stats_get(port->id, &stats);
	if (result != 0)
		return result;
	out->missed = stats.imissed;
	out->no_buffer = stats.rx_nombuf;
	out->damaged = stats.ierrors;
	return 0;
}

int bw_clock(struct bw_port *port, uint64_t *out)
{
	if (port->reads_clock)
		return rte_eth_read_clock(port->id, out);
	struct timespec time;
	int result = rte_eth_timesync_read_time(port->id, &time);
	if (result == 0)
		*out = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
	return result;
}
