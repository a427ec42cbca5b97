/* What barewire asks of DPDK. DPDK's own functions for this are inlined into their callers, so that they have to be
 * compiled by a C compiler for the very version of DPDK that is installed: `make dpdk` does it, and crates/io/src/dpdk
 * loads what comes of it.
 *
 * Functions that may fail return 0, or a negative errno. None is to be called while another of the same port is running;
 * those that open and close ports not while any other of these is. */

#ifndef BAREWIRE_DPDK_H
#define BAREWIRE_DPDK_H

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)

/* Goes up with every change of what is declared here. */
#define BW_ABI 1

/* A received frame. */
struct bw_packet {
	const uint8_t *data; /* its first piece */
	void *mbuf;
	uint64_t time;       /* BW_TIME: by the device's clock, in the device's unit */
	uint32_t len;        /* bytes at `data`, all of them unless BW_PIECES */
	uint16_t vlan_tci;   /* BW_VLAN: the tag that was taken out */
	uint16_t flags;
};

#define BW_CHECKSUM_GOOD 1 /* the device has verified UDP's checksum */
#define BW_VLAN 2
#define BW_TIME 4
#define BW_PIECES 8 /* it lies in several pieces: bw_packet_copy() */

struct bw_port_config {
	const char *device;   /* as rte_dev_probe() takes it */
	uint32_t frame_bytes; /* of the longest frame expected; 0: the port's MTU and its headers */
	uint16_t queues;
	uint16_t descriptors; /* of a queue */
	uint16_t times;       /* whether the device's receive times are wanted */
};

struct bw_port_info {
	char driver[32];
	uint32_t if_index; /* the kernel's interface beside it, 0 for none */
	uint32_t frame_bytes;
	uint32_t buffers; /* that were taken for the port */
	uint16_t max_queues;
	uint16_t descriptors; /* got */
	uint8_t mac[6];
	uint8_t sends;     /* whether frames can be sent */
	uint8_t checksums; /* whether the device verifies UDP's checksums */
	uint8_t times;     /* whether packets carry the device's times */
	uint8_t clock;     /* whether the device's clock can be read */
	uint8_t unused[2];
};

struct bw_statistics {
	uint64_t missed;    /* the device had nowhere to put them */
	uint64_t no_buffer; /* times that the driver got no buffer; no packets */
	uint64_t damaged;
};

enum bw_multicast { BW_FILTERED = 1, BW_ALL_MULTICAST = 2, BW_PROMISCUOUS = 3 };

struct bw_port;

uint32_t bw_abi(void);
const char *bw_version(void);

/* The first error that DPDK has logged since it was begun, or since the last port was to be opened; "" for none, and where
 * `logs_to_stderr` was asked for. */
const char *bw_first_error(void);

/* Once a process. Changes the calling thread's affinity. */
int bw_init(int argc, char **argv, int logs_to_stderr);

/* `what` is the step that failed. */
int bw_port_open(const struct bw_port_config *config, struct bw_port **out, struct bw_port_info *info,
		 const char **what);
void bw_port_close(struct bw_port *port);

/* Takes at most `max` frames, and never more than 1024, which stay until the port's next bw_receive() or bw_release(). */
uint32_t bw_receive(struct bw_port *port, uint16_t queue, struct bw_packet *out, uint32_t max);
void bw_release(struct bw_port *port);
/* Puts a frame together; returns its length, 0 if there is no room for it. */
uint32_t bw_packet_copy(const struct bw_packet *packet, uint8_t *to, uint32_t room);

int bw_send(struct bw_port *port, const uint8_t *frame, uint32_t len);
/* Lets frames to these addresses in; returns in which way (enum bw_multicast), or a negative errno. */
int bw_listen(struct bw_port *port, const uint8_t (*addresses)[6], uint32_t count, int may_be_promiscuous);
int bw_statistics(struct bw_port *port, struct bw_statistics *out);
/* The device's clock, in the unit of bw_packet.time. */
int bw_clock(struct bw_port *port, uint64_t *out);

#pragma GCC visibility pop

#endif
