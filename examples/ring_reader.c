/* Prints what a feed publishes, from the oldest event that its ring has; given a user's number, only of a ring of theirs:
 *     cc -O2 -Wall -Wextra -Iinclude examples/ring_reader.c -o ring_reader && ./ring_reader demo
 */
#include "barewire_ring.h"
#include <stdlib.h>

int main(int argc, char **argv) {
    struct barewire_ring ring;
    struct barewire_ring_record batch[256];
    uint64_t lost;
    int error = argc == 2 ? barewire_ring_attach(&ring, argv[1]) : EINVAL;
    if (argc == 3) error = barewire_ring_attach_owned(&ring, argv[1], (uid_t)strtoul(argv[2], NULL, 10));
    if (error) return fprintf(stderr, "usage: ring_reader NAME [OWNER] (%s)\n", strerror(error)), 1;
    barewire_ring_seek_oldest(&ring);
    for (;;) {
        int closed = barewire_ring_is_closed(&ring); /* before the read: what came before is then seen */
        size_t count = barewire_ring_read(&ring, batch, 256, &lost);
        if (lost) printf("lost %llu\n", (unsigned long long)lost);
        for (size_t i = 0; i < count; i++) {
            const struct barewire_mbo *e = &batch[i].record.mbo; /* every kind begins alike */
            printf("%llu kind=%d instrument=%u sequence=%llu", (unsigned long long)batch[i].ring_sequence, e->kind,
                   e->instrument_id, (unsigned long long)e->sequence);
            if (e->kind == BAREWIRE_MBO) printf(" %c %c %u @ %.4f", e->action, e->side, e->size, (double)e->price / 1e9);
            putchar('\n');
        }
        if (closed && count == 0 && lost == 0) break;
    }
    barewire_ring_detach(&ring);
    return 0;
}
