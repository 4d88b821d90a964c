// C = A B (+ C), for matrices small enough to stay in cache.
#pragma once
#include <utility>

#include "vector.h"

// One tile of C in registers. A's entry (row, k) stands at a[row * a_row + k * a_k], B's row k at b + k * b_k.
template <class real, int rows, int vectors>
void tile(real* c, int64_t c_row, const real* a, int64_t a_row, int64_t a_k, const real* b, int64_t b_k, int64_t depth,
          bool add) {
    constexpr int64_t L = lanes<real>;
    Vector<real> sums[rows][vectors];
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; ++j) sums[i][j] = Vector<real>{};
    for (int64_t k = 0; k < depth; ++k) {
        Vector<real> weights[vectors];
#pragma GCC unroll 2
        for (int j = 0; j < vectors; ++j) __builtin_prefetch(b + (k + 16) * b_k + j * L);
#pragma GCC unroll 2
        for (int j = 0; j < vectors; ++j) weights[j] = load(b + k * b_k + j * L);
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
            const real input = a[i * a_row + k * a_k];
#pragma GCC unroll 2
            for (int j = 0; j < vectors; ++j) sums[i][j] += input * weights[j];
        }
    }
    // C is added last: a sum of many short sums loses fewer digits than one long sum
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; ++j) {
            real* to = c + i * c_row + j * L;
            store(to, add ? load(to) + sums[i][j] : sums[i][j]);
        }
}

template <class real> using Tile = void (*)(real*, int64_t, const real*, int64_t, int64_t, const real*, int64_t, int64_t, bool);

template <class real, int vectors, int... less_one>
Tile<real> tile_of(int rows, std::integer_sequence<int, less_one...>) {
    static constexpr Tile<real> tiles[] = {tile<real, less_one + 1, vectors>...};
    return tiles[rows - 1];
}
template <class real, int vectors> Tile<real> tile_of(int rows) {
    return tile_of<real, vectors>(rows, std::make_integer_sequence<int, most_rows>());
}

// The share of `total` that belongs to `part` of `parts`.
struct Share {
    int64_t from, size;
    Share(int64_t total, int64_t part, int64_t parts)
        : from(total * part / parts), size(total * (part + 1) / parts - from) {}
};

// A [rows, depth] by strides; B [depth, columns] in panels of two vectors, whose rows are b_k apart.
template <class real> struct Panels {
    const real* data;
    int64_t b_k, panel;  // distance of rows, and of panels
};

template <class real>
void product(real* c, int64_t c_row, const real* a, int64_t a_row, int64_t a_k, Panels<real> b, int64_t rows,
             int64_t columns, int64_t depth, bool add) {
    constexpr int64_t L = lanes<real>;
    const int64_t tiles = (rows + most_rows - 1) / most_rows;
    for (int64_t column = 0, p = 0; column < columns; column += 2 * L, ++p) {
        const bool two = column + L < columns;
        for (int64_t t = 0; t < tiles; ++t) {
            const Share share(rows, t, tiles);  // tiles of equal height, within one row
            const auto run = two ? tile_of<real, 2>(share.size) : tile_of<real, 1>(share.size);
            run(c + share.from * c_row + column, c_row, a + share.from * a_row, a_row, a_k, b.data + p * b.panel,
                b.b_k, depth, add);
        }
    }
}
