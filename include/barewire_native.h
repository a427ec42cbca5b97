/* A strategy in C for the feed's own thread. docs/native.md explains it; compile into a shared library, and hand the
 * function to barewire.native() through ctypes or cffi:
 *
 *     struct state { int64_t changes; };
 *     void on_bbo(const void *event, const struct barewire_top *top, void *state) {
 *         const struct barewire_bbo *bbo = event;
 *         ...
 *     }
 *
 * event: 56 bytes: struct barewire_mbo, _bbo, _gap or _status, as its `kind` says. It and `top` are gone when the function
 * returns. The feed waits for the function: it must not wait itself, and must not let a C++ exception out.
 */
#ifndef BAREWIRE_NATIVE_H
#define BAREWIRE_NATIVE_H

#include "barewire_ring.h"

/* The best bid and offer of the event's instrument, after the message that the event came from. Prices in 1e-9 currency
 * units, BAREWIRE_UNDEF_PRICE where the side is empty; sizes summed over the level. */
struct barewire_top {
    int64_t bid_price;
    int64_t ask_price;
    uint64_t bid_size;
    uint64_t ask_size;
};

typedef void (*barewire_native)(const void *event, const struct barewire_top *top, void *state);

#endif
