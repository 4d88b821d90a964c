// What the norms' kernels get: x [rows, parts, width, inner], contiguous, and one value per channel, [parts · width].
#pragma once
#include <algorithm>
#include <functional>
#include <vector>

#include "vector.h"

struct Rows {
    int64_t rows, parts, width, inner;  // inner: positions that share a channel's gain and bias; 1: channels are last
    int64_t chunks;                     // of rows, each for one thread

    int64_t channels() const { return parts * width; }
    int64_t block() const { return width * inner; }  // values of one part of a row
    int64_t row() const { return parts * block(); }
    int64_t from(int64_t chunk) const { return rows * chunk / chunks; }
};

// A channel's gain and bias; an absent gain is 1, an absent bias 0.
template <class real> struct Affine {
    const real *gain, *bias;
};

// The chunks' gradients of gain and bias, or null: each chunk has its own rows, which are added in their order.
template <class real> struct AffineGradients {
    real *gain, *bias;  // [chunks, channels]
};

// A chunk's sums over rows. Blocks of rows are summed alone, because one long sum would round more.
template <class real> struct RowSums {
    static constexpr int64_t block = 64;

    RowSums(real* of_chunks, int64_t chunk, int64_t channels)
        : total(of_chunks ? of_chunks + chunk * channels : nullptr), part(total ? channels : 0) {}

    real* now() { return total ? part.data() : nullptr; }

    void close() {
        for (size_t c = 0; c < part.size(); ++c) total[c] += part[c], part[c] = 0;
    }

    real* const total;
    std::vector<real> part;
};

// The first `count` numbers; the rest are 0
template <class real> inline Vector<real> load_some(const real* from, int64_t count) {
    Vector<real> v{};
    std::memcpy(&v, from, sizeof(real) * count);
    return v;
}

template <class real> inline void store_some(real* to, Vector<real> v, int64_t count) {
    std::memcpy(to, &v, sizeof(real) * count);
}

// Calls body(offset, load, store) for each vector of `size` numbers, with loads and stores that stop at the end.
template <class real, class Body> [[gnu::always_inline]] inline void each_vector(int64_t size, Body body) {
    int64_t i = 0;
    for (; i + lanes<real> <= size; i += lanes<real>)
        body(i, [](const real* p) { return load(p); }, [](real* p, Vector<real> v) { store(p, v); });
    if (i < size) {
        const int64_t rest = size - i;
        body(i, [rest](const real* p) { return load_some(p, rest); },
             [rest](real* p, Vector<real> v) { store_some(p, v, rest); });
    }
}

template <class real> inline Vector<real> all(real value) { return Vector<real>{} + value; }
