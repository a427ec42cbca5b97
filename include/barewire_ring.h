/* barewire's broadcast ring, read from C11 or C++11 on Linux. docs/ring.md explains it; this header is all a reader needs.
 *
 *     struct barewire_ring ring;
 *     int error = barewire_ring_attach(&ring, "demo");
 *     struct barewire_ring_record batch[256];
 *     uint64_t lost;
 *     size_t count = barewire_ring_read(&ring, batch, 256, &lost);
 *
 * The mapping is read-only: a reader cannot harm the producer, nor other readers. Everything in it may change under the
 * reader, or be nonsense; what is relied upon is checked once, when attaching. Integers are little-endian.
 *
 * One barewire_ring is for one thread at a time; any number of them may read the same ring.
 */
#ifndef BAREWIRE_RING_H
#define BAREWIRE_RING_H

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "barewire's ring is little-endian"
#endif

/* ---- layout: offsets from the beginning of the mapping, in bytes ---- */

#define BAREWIRE_RING_MAGIC "BAREWIRE"
#define BAREWIRE_RING_VERSION 1u
/* Of the field tables of the four kinds of record: another value means that they have other fields. */
#define BAREWIRE_RING_LAYOUT_HASH 0x28c0145452536c09ull
#define BAREWIRE_RING_HEADER_BYTES 4096u
#define BAREWIRE_RING_PUBLISHED_OFFSET 128u       /* u64: events published; written with every event, never poll it */
#define BAREWIRE_RING_HEARTBEAT_OFFSET 256u       /* u64: ns since 1970, UTC */
#define BAREWIRE_RING_STATE_OFFSET 264u           /* u64: enum barewire_ring_state */
#define BAREWIRE_RING_DIRECTORY_COUNT_OFFSET 384u /* u64: entries in the instrument directory */
#define BAREWIRE_RING_STATS_OFFSET 4096u          /* u64[512] */
#define BAREWIRE_RING_STATS_WORDS 512u
#define BAREWIRE_RING_STAT_NAMES_OFFSET 8192u /* char[512][64], padded with zeros */
#define BAREWIRE_RING_STAT_NAME_BYTES 64u
#define BAREWIRE_RING_DIRECTORY_OFFSET 40960u /* struct barewire_ring_instrument[directory_capacity] */
#define BAREWIRE_RING_MAX_CAPACITY (1u << 26)
#define BAREWIRE_RING_MAX_DIRECTORY_CAPACITY (1u << 22)
/* Set in a slot's sequence word while the slot is being written. */
#define BAREWIRE_RING_BUSY (1ull << 63)

enum barewire_ring_state {
    BAREWIRE_RING_LIVE = 1,    /* the producer is at work, or died: see the heartbeat */
    BAREWIRE_RING_CLOSED = 2,  /* the producer closed the ring */
    BAREWIRE_RING_REPLACED = 3 /* the producer died, and another has the name: attach again */
};

/* The fixed fields at offset 0. */
struct barewire_ring_header {
    char magic[8];
    uint32_t version;
    uint32_t header_bytes;
    uint64_t layout_hash;
    uint32_t capacity;  /* slots; a power of two */
    uint32_t slot_bytes;
    uint64_t epoch;     /* ns since 1970 at creation; differs from any earlier ring of the name */
    uint64_t producer_pid;
    uint64_t producer_start; /* clock ticks since boot */
    uint64_t producer_pid_namespace;
    uint64_t slots_offset;
    uint64_t total_bytes;
    uint64_t stats_offset;
    uint32_t stats_words;
    uint32_t stat_name_bytes;
    uint64_t stat_names_offset;
    uint64_t directory_offset;
    uint32_t directory_capacity;
    uint32_t directory_entry_bytes;
    uint64_t reserved;
};

struct barewire_ring_instrument {
    uint32_t instrument_id;
    char symbol[20]; /* padded with zeros; without one when all 20 are used */
    uint8_t reserved[8];
};

/* A slot. Event n, counted from 0, is in slot n & (capacity - 1), whole while `sequence` is n + 1. */
struct barewire_ring_slot {
    uint64_t sequence;
    uint64_t words[7];
};

/* ---- records: 56 bytes, alike in the first 32 ---- */

#define BAREWIRE_UNDEF_PRICE INT64_MAX

enum barewire_kind { BAREWIRE_MBO = 1, BAREWIRE_BBO = 2, BAREWIRE_GAP = 3, BAREWIRE_STATUS = 4 };

/* The fields that every kind begins with. Times are ns since 1970, UTC; 0 where not known. flags: 128 last of its packet,
 * 32 snapshot, 8 degraded clock, 4 maybe stale, 2 recovered. ts_source: 0 none, 1 nic, 2 capture, 3 kernel, 4 user. */
#define BAREWIRE_RECORD_HEAD \
    uint64_t ts_event;       \
    uint64_t ts_recv;        \
    uint64_t sequence;       \
    uint32_t instrument_id;  \
    uint8_t publisher_id;    \
    uint8_t kind;            \
    uint8_t flags;           \
    uint8_t ts_source

/* One thing that happened to one order, or a trade. Prices are in 1e-9 currency units. */
struct barewire_mbo {
    BAREWIRE_RECORD_HEAD;
    uint64_t order_id;
    int64_t price; /* BAREWIRE_UNDEF_PRICE where there is none */
    uint32_t size;
    char action; /* A add, C cancel, M modify, T trade, F fill, R clear */
    char side;   /* B bid, A ask, N none */
    uint8_t reserved[2];
};

/* The best bid and offer after a message that changed them. */
struct barewire_bbo {
    BAREWIRE_RECORD_HEAD;
    int64_t bid_price; /* BAREWIRE_UNDEF_PRICE where the side is empty */
    int64_t ask_price;
    uint32_t bid_size;
    uint32_t ask_size;
};

/* Messages that were lost: `count` of them from `sequence` on. */
struct barewire_gap {
    BAREWIRE_RECORD_HEAD;
    uint64_t count;
    uint8_t reason; /* 1 sequence jump, 2 late join, 3 session ended, 4 a snapshot took their place */
    uint8_t reserved[15];
};

/* Trading state, session and system events, broken trades. */
struct barewire_status {
    BAREWIRE_RECORD_HEAD;
    uint64_t value; /* the match number of a broken trade, the number of a line, a clock's error in ns */
    /* H trading state, h operational halt, S system event, B trade broken, N session start, Z session end, D line down,
     * U line up, R books recovered, K clock */
    char code;
    char state;
    char reason[4];
    uint8_t reserved[10];
};

/* An event and its number in the ring, as barewire_ring_read yields it: look at mbo.kind first. */
struct barewire_ring_record {
    uint64_t ring_sequence;
    union {
        uint64_t words[7];
        struct barewire_mbo mbo;
        struct barewire_bbo bbo;
        struct barewire_gap gap;
        struct barewire_status status;
    } record;
};

/* ---- attaching ---- */

struct barewire_ring {
    const unsigned char *base;
    const struct barewire_ring_slot *slots;
    uint64_t mask; /* capacity - 1 */
    uint64_t next; /* the next event to be read */
    struct barewire_ring_header header;
    size_t bytes;
};

static inline uint64_t barewire_ring_load_(const void *word) {
    return __atomic_load_n((const uint64_t *)word, __ATOMIC_RELAXED);
}

static inline uint64_t barewire_ring_load_acquire_(const void *word) {
    return __atomic_load_n((const uint64_t *)word, __ATOMIC_ACQUIRE);
}

/* How many events have been published. Costs the producer a cache miss: not for a loop. */
static inline uint64_t barewire_ring_published(const struct barewire_ring *ring) {
    return barewire_ring_load_acquire_(ring->base + BAREWIRE_RING_PUBLISHED_OFFSET) & ~BAREWIRE_RING_BUSY;
}

/* Whether a header is of a ring that this code can read, in a file of so many bytes. */
static inline int barewire_ring_check_(const struct barewire_ring_header *h, uint64_t file_bytes) {
    if (memcmp(h->magic, BAREWIRE_RING_MAGIC, 8) != 0 || h->version != BAREWIRE_RING_VERSION) return 0;
    if (h->layout_hash != BAREWIRE_RING_LAYOUT_HASH) return 0;
    if (h->capacity < 2 || h->capacity > BAREWIRE_RING_MAX_CAPACITY || (h->capacity & (h->capacity - 1))) return 0;
    if (h->directory_capacity > BAREWIRE_RING_MAX_DIRECTORY_CAPACITY || h->directory_capacity % 128) return 0;
    if (h->slots_offset != BAREWIRE_RING_DIRECTORY_OFFSET + (uint64_t)h->directory_capacity * 32) return 0;
    if (h->total_bytes != h->slots_offset + (uint64_t)h->capacity * 64) return 0;
    return h->total_bytes <= file_bytes;
}

/* Attaches to the ring behind an open descriptor, at its newest event; the descriptor may be closed afterwards. Returns
 * 0, or an error number: EPROTO where the file is not a whole ring of this version. */
static inline int barewire_ring_open(struct barewire_ring *ring, int fd) {
    struct stat file;
    void *base;
    memset(ring, 0, sizeof *ring);
    if (fstat(fd, &file) != 0) return errno;
    if (!S_ISREG(file.st_mode) || file.st_size < (off_t)BAREWIRE_RING_HEADER_BYTES) return EPROTO;
    /* Read, not mapped: what is checked cannot change before it is used. */
    if (pread(fd, &ring->header, sizeof ring->header, 0) != (ssize_t)sizeof ring->header) return EPROTO;
    if (!barewire_ring_check_(&ring->header, (uint64_t)file.st_size)) return EPROTO;
    base = mmap(NULL, (size_t)ring->header.total_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (base == MAP_FAILED) return errno;
    ring->base = (const unsigned char *)base;
    ring->bytes = (size_t)ring->header.total_bytes;
    ring->slots = (const struct barewire_ring_slot *)(const void *)(ring->base + ring->header.slots_offset);
    ring->mask = ring->header.capacity - 1;
    ring->next = barewire_ring_published(ring);
    return 0;
}

/* The same by name; `owner` may be NULL. */
static inline int barewire_ring_attach_of_(struct barewire_ring *ring, const char *name, const uid_t *owner) {
    char path[128];
    struct stat file;
    int fd, error, length;
    memset(ring, 0, sizeof *ring);
    if (name[0] == 0 || name[0] == '.' || strchr(name, '/')) return EINVAL;
    length = snprintf(path, sizeof path, "/dev/shm/barewire.%s", name);
    if (length < 0 || (size_t)length >= sizeof path) return ENAMETOOLONG;
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return errno;
    /* Of the open file: what has the name by now may be another. */
    error = owner && fstat(fd, &file) != 0 ? errno : owner && file.st_uid != *owner ? EPERM : barewire_ring_open(ring, fd);
    close(fd);
    return error;
}

/* Attaches to the ring of that name, /dev/shm/barewire.NAME, at its newest event. Returns 0 or an error number. */
static inline int barewire_ring_attach(struct barewire_ring *ring, const char *name) {
    return barewire_ring_attach_of_(ring, name, NULL);
}

/* The same, if the ring is this user's: any user of the machine can be the first to use a name. EPERM where it is another's. */
static inline int barewire_ring_attach_owned(struct barewire_ring *ring, const char *name, uid_t owner) {
    return barewire_ring_attach_of_(ring, name, &owner);
}

static inline void barewire_ring_detach(struct barewire_ring *ring) {
    if (ring->base) munmap((void *)(uintptr_t)ring->base, ring->bytes);
    memset(ring, 0, sizeof *ring);
}

/* ---- reading ---- */

/* Goes to the oldest event that the ring still has, or behind the newest, without counting anything as lost. */
static inline void barewire_ring_seek_oldest(struct barewire_ring *ring) {
    uint64_t published = barewire_ring_published(ring);
    ring->next = published > ring->mask + 1 ? published - (ring->mask + 1) : 0;
}

static inline void barewire_ring_seek_newest(struct barewire_ring *ring) {
    uint64_t published = barewire_ring_published(ring); /* can be one behind what was read: it follows the event */
    if (published > ring->next) ring->next = published;
}

/* Reads what has been published since the last read, up to `room` events, and returns how many. Never waits, and makes no
 * system call. *lost is how many were overwritten before they could be read; they lie immediately before out[0]. */
static inline size_t barewire_ring_read(struct barewire_ring *ring, struct barewire_ring_record *out, size_t room,
                                        uint64_t *lost) {
    const uint64_t capacity = ring->mask + 1, keep = capacity - (capacity / 4 ? capacity / 4 : 1);
    size_t count = 0, word;
    *lost = 0;
    while (count < room) {
        const struct barewire_ring_slot *slot = &ring->slots[ring->next & ring->mask];
        const uint64_t wanted = ring->next + 1;
        uint64_t found = barewire_ring_load_acquire_(&slot->sequence), head, resume;
        if (found == wanted) {
            for (word = 0; word < 7; word++) out[count].record.words[word] = barewire_ring_load_(&slot->words[word]);
            __atomic_thread_fence(__ATOMIC_ACQUIRE);
            found = barewire_ring_load_(&slot->sequence);
            if (found == wanted) {
                out[count++].ring_sequence = ring->next++;
                continue;
            }
        } else if ((found & ~BAREWIRE_RING_BUSY) <= wanted) {
            break; /* not yet there */
        }
        if (count > 0) break; /* overrun: the next call begins with the gap */
        head = barewire_ring_published(ring);
        found = (found & ~BAREWIRE_RING_BUSY) ? (found & ~BAREWIRE_RING_BUSY) - 1 : 0;
        if (found > head) head = found;
        resume = head > keep ? head - keep : 0;
        if (resume <= ring->next) resume = ring->next + 1;
        *lost += resume - ring->next;
        ring->next = resume;
    }
    return count;
}

/* ---- the rest of the mapping ---- */

/* Whether the producer is done. Read once more afterwards: what it published before is there. */
static inline int barewire_ring_is_closed(const struct barewire_ring *ring) {
    uint64_t state = barewire_ring_load_acquire_(ring->base + BAREWIRE_RING_STATE_OFFSET);
    return state == BAREWIRE_RING_CLOSED || state == BAREWIRE_RING_REPLACED;
}

/* When the producer last said that it is alive, in ns since 1970, UTC. */
static inline uint64_t barewire_ring_heartbeat(const struct barewire_ring *ring) {
    return barewire_ring_load_(ring->base + BAREWIRE_RING_HEARTBEAT_OFFSET);
}

static inline uint32_t barewire_ring_instrument_count(const struct barewire_ring *ring) {
    uint64_t count = barewire_ring_load_acquire_(ring->base + BAREWIRE_RING_DIRECTORY_COUNT_OFFSET);
    return count < ring->header.directory_capacity ? (uint32_t)count : ring->header.directory_capacity;
}

/* Entry `index` of the instrument directory; all zero beyond the last. Of several with one id, the last holds. */
static inline struct barewire_ring_instrument barewire_ring_instrument_at(const struct barewire_ring *ring,
                                                                          uint32_t index) {
    struct barewire_ring_instrument entry;
    uint64_t words[sizeof entry / 8] = {0};
    size_t word, offset = BAREWIRE_RING_DIRECTORY_OFFSET + (size_t)index * sizeof entry;
    if (index < barewire_ring_instrument_count(ring))
        for (word = 0; word < sizeof entry / 8; word++) words[word] = barewire_ring_load_(ring->base + offset + word * 8);
    memcpy(&entry, words, sizeof entry);
    return entry;
}

/* The value of statistic `index`; 0 beyond the last. */
static inline uint64_t barewire_ring_stat(const struct barewire_ring *ring, size_t index) {
    return index < BAREWIRE_RING_STATS_WORDS ? barewire_ring_load_(ring->base + BAREWIRE_RING_STATS_OFFSET + index * 8) : 0;
}

/* Its name, always terminated; empty where it has none. */
static inline void barewire_ring_stat_name(const struct barewire_ring *ring, size_t index,
                                           char name[BAREWIRE_RING_STAT_NAME_BYTES]) {
    memset(name, 0, BAREWIRE_RING_STAT_NAME_BYTES);
    if (index < BAREWIRE_RING_STATS_WORDS)
        memcpy(name, ring->base + BAREWIRE_RING_STAT_NAMES_OFFSET + index * BAREWIRE_RING_STAT_NAME_BYTES,
               BAREWIRE_RING_STAT_NAME_BYTES - 1);
}

#endif
