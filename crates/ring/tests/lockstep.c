/* The C reader under the test's command: each line on standard input is one, each answered by a line.
 *
 *     read N      count lost first, of one read of up to N events, all of them checked
 *     end         read lost, having read until the ring is closed
 *     about       capacity published heartbeat closed, instruments and the last one's id and symbol, a statistic
 */
#include "barewire_ring.h"

/* Event n, as common.rs makes it. */
static void check(const struct barewire_ring_record *record, uint64_t n) {
    uint64_t word = (n + 1) * 0x9e3779b97f4a7c15ull;
    if (record->ring_sequence != n) printf("out of order "), fflush(stdout), _exit(2);
    for (int i = 0; i < 7; i++) {
        uint64_t expected = i ? word << (8 * i) | word >> (64 - 8 * i) : word;
        if (record->record.words[i] != expected) printf("torn "), fflush(stdout), _exit(2);
    }
}

static size_t read_checked(struct barewire_ring *ring, size_t room, uint64_t *lost) {
    static struct barewire_ring_record batch[1024];
    uint64_t n = ring->next;
    size_t count = barewire_ring_read(ring, batch, room > 1024 ? 1024 : room, lost);
    n += *lost;
    for (size_t i = 0; i < count; i++) check(&batch[i], n + i);
    if (ring->next != n + count) printf("miscounted "), fflush(stdout), _exit(2);
    return count;
}

int main(int argc, char **argv) {
    struct barewire_ring ring;
    uint64_t lost;
    char line[64];
    int error = argc == 2 ? barewire_ring_attach(&ring, argv[1]) : EINVAL;
    printf("%d\n", error);
    fflush(stdout);
    if (error) return 1;
    while (fgets(line, sizeof line, stdin)) {
        unsigned room = 0;
        if (sscanf(line, "read %u", &room) == 1) {
            size_t count = read_checked(&ring, room, &lost);
            printf("%zu %llu %llu\n", count, (unsigned long long)lost, (unsigned long long)(ring.next - count));
        } else if (strcmp(line, "end\n") == 0) {
            unsigned long long total = 0, missed = 0;
            for (int closed = 0, idle = 0; !(closed && idle);) {
                closed = barewire_ring_is_closed(&ring);
                size_t count = read_checked(&ring, 256, &lost);
                total += count, missed += lost, idle = !count && !lost;
            }
            printf("%llu %llu\n", total, missed);
        } else {
            uint32_t count = barewire_ring_instrument_count(&ring);
            struct barewire_ring_instrument last = barewire_ring_instrument_at(&ring, count - 1);
            char name[BAREWIRE_RING_STAT_NAME_BYTES];
            barewire_ring_stat_name(&ring, 1, name);
            printf("%u %llu %llu %d %u %u %.20s %s %llu\n", ring.header.capacity,
                   (unsigned long long)barewire_ring_published(&ring), (unsigned long long)barewire_ring_heartbeat(&ring),
                   barewire_ring_is_closed(&ring), count, last.instrument_id, last.symbol, name,
                   (unsigned long long)barewire_ring_stat(&ring, 1));
        }
        fflush(stdout);
    }
    barewire_ring_detach(&ring);
    return 0;
}
