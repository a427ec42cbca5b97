/* The C reader of the torture test: as `read` of crates/ring/examples/torture.rs, which says what a record holds. */
#include "barewire_ring.h"
#include <stdlib.h>

static const uint64_t odd = 0x9e3779b97f4a7c15ull;

static uint64_t rotate(uint64_t word, int by) {
    return word << by | word >> (64 - by);
}

static void check(const struct barewire_ring_record *found, uint64_t n, uint64_t epoch) {
    uint64_t first = (n + 1) * odd ^ epoch, kind = n % 4 ? 2 : 1, sum = 0;
    uint64_t words[7] = {first, rotate(first, 17) * odd, n, (n % 64 + 1) | 1ull << 32 | kind << 40, rotate(first, 31), ~first};
    for (int i = 0; i < 6; i++) sum += words[i];
    words[6] = sum * odd;
    if (found->ring_sequence == n && memcmp(found->record.words, words, sizeof words) == 0) return;
    printf("wrong record where %llu should be\n", (unsigned long long)n);
    exit(2);
}

static int attach(struct barewire_ring *ring, const char *name, uint64_t not_epoch) {
    for (int attempt = 0; attempt < 6000; attempt++) {
        int error = barewire_ring_attach(ring, name);
        if (!error && ring->header.epoch != not_epoch) return 0;
        if (!error) barewire_ring_detach(ring);
        usleep(10000);
    }
    return ENOENT;
}

int main(int argc, char **argv) {
    static struct barewire_ring_record batch[1000];
    struct barewire_ring ring;
    uint64_t epoch = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 2) return 1;
    for (;;) {
        int again = epoch != 0;
        if (attach(&ring, argv[1], epoch) != 0) return 3;
        if (again) barewire_ring_seek_oldest(&ring);
        epoch = ring.header.epoch;
        uint64_t from = ring.next, next = from, total = 0, missed = 0, lost, state = BAREWIRE_RING_LIVE;
        printf("at %llu %llu\n", (unsigned long long)epoch, (unsigned long long)from);
        for (;;) {
            uint64_t before = barewire_ring_load_acquire_(ring.base + BAREWIRE_RING_STATE_OFFSET);
            size_t count = barewire_ring_read(&ring, batch, 1000, &lost);
            next += lost, missed += lost, total += count;
            for (size_t i = 0; i < count; i++) check(&batch[i], next++, epoch);
            state = before;
            if (!count && !lost && state != BAREWIRE_RING_LIVE) break;
            if (!count && !lost) usleep(100);
            else if (next % 59 == 0) usleep(1000 * (next % 20));
        }
        printf("done %llu %llu %llu %llu %llu\n", (unsigned long long)epoch, (unsigned long long)from,
               (unsigned long long)next, (unsigned long long)total, (unsigned long long)missed);
        barewire_ring_detach(&ring);
        if (state == BAREWIRE_RING_CLOSED) return 0;
    }
}
