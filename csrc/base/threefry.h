/* Threefry4x32-20, a counter-based generator (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as
 * 1, 2, 3"; code and test vectors in their Random123): a keyed bijection of a 128-bit counter, without state, made of
 * the Threefish cipher, with rounds to spare over those that pass BigCrush. It has only additions, rotations and
 * exclusive ors of 32 bits, which every instruction set has as vectors, and gives the same words on every machine.
 * (Philox, of the same paper, needs the high halves of products; what compilers make of them takes nearly twice as
 * long.)
 *
 * Here the key is (seed, step) and the counter (block, layer, 0), low words first. Sixteen consecutive blocks of four
 * words make a tile of 64: word w of the tile's block b is its element 16 w + b, so that the loop over blocks stores
 * vectors as they are.
 */
#ifndef FNN_THREEFRY_H
#define FNN_THREEFRY_H

#include "base/common.h"

#define FNN_TILE_BLOCKS 16
#define FNN_TILE 64 /* words */

#define FNN_ROTATE(x, n) ((x) << (n) | (x) >> (32 - (n)))
#define FNN_MIX(x, y, n) \
    x += y;              \
    y = FNN_ROTATE(y, n) ^ x;
/* four rounds with the rotations of the even or of the odd groups of four, then the s-th subkey */
#define FNN_EVEN_ROUNDS \
    FNN_MIX(x0, x1, 10) \
    FNN_MIX(x2, x3, 26) \
    FNN_MIX(x0, x3, 11) \
    FNN_MIX(x2, x1, 21) \
    FNN_MIX(x0, x1, 13) \
    FNN_MIX(x2, x3, 27) \
    FNN_MIX(x0, x3, 23) \
    FNN_MIX(x2, x1, 5)
#define FNN_ODD_ROUNDS  \
    FNN_MIX(x0, x1, 6)  \
    FNN_MIX(x2, x3, 20) \
    FNN_MIX(x0, x3, 17) \
    FNN_MIX(x2, x1, 11) \
    FNN_MIX(x0, x1, 25) \
    FNN_MIX(x2, x3, 10) \
    FNN_MIX(x0, x3, 18) \
    FNN_MIX(x2, x1, 20)
#define FNN_SUBKEY(s)       \
    x0 += k[(s) % 5];       \
    x1 += k[((s) + 1) % 5]; \
    x2 += k[((s) + 2) % 5]; \
    x3 += k[((s) + 3) % 5] + (s);

FNN_INLINE void fnn_threefry_tile(uint64_t seed, uint64_t step, uint32_t layer, uint64_t tile, uint32_t *restrict words)
{
    const uint64_t block = tile * FNN_TILE_BLOCKS; /* its low word does not overflow within a tile */
    const uint32_t start = (uint32_t)block, high = (uint32_t)(block >> 32);
    uint32_t k[5] = {(uint32_t)seed, (uint32_t)(seed >> 32), (uint32_t)step, (uint32_t)(step >> 32)};
    k[4] = 0x1BD11BDAu ^ k[0] ^ k[1] ^ k[2] ^ k[3];
    for (uint32_t lane = 0; lane < FNN_TILE_BLOCKS; lane++) {
        uint32_t x0 = start + lane + k[0], x1 = high + k[1], x2 = layer + k[2], x3 = k[3];
        FNN_EVEN_ROUNDS
        FNN_SUBKEY(1u)
        FNN_ODD_ROUNDS
        FNN_SUBKEY(2u)
        FNN_EVEN_ROUNDS
        FNN_SUBKEY(3u)
        FNN_ODD_ROUNDS
        FNN_SUBKEY(4u)
        FNN_EVEN_ROUNDS
        FNN_SUBKEY(5u)
        words[lane] = x0;
        words[FNN_TILE_BLOCKS + lane] = x1;
        words[2 * FNN_TILE_BLOCKS + lane] = x2;
        words[3 * FNN_TILE_BLOCKS + lane] = x3;
    }
}

#undef FNN_ROTATE
#undef FNN_MIX
#undef FNN_EVEN_ROUNDS
#undef FNN_ODD_ROUNDS
#undef FNN_SUBKEY

#endif
