// x [rows, parts, width, inner] standardised over the channels of each position, which lie `inner` numbers apart.
#pragma once
#include <type_traits>

#include "norm_problem.h"

// Positions that are worked on at once, as vectors: so many that no sum waits for its last addition. The last vector of a
// row overlaps the one before instead of being filled up.
template <class real, int vectors> struct Tile {
    static constexpr int count = vectors;
    int64_t start, overlap;

    int64_t at(int vector) const { return start + vector * lanes<real> - (vector + 1 == vectors ? overlap : 0); }

    // 1 for positions that no vector before has
    Vector<real> fresh(int vector) const {
        real is[lanes<real>];
        for (int64_t i = 0; i < lanes<real>; ++i) is[i] = vector + 1 < vectors || i >= overlap;
        return load(is);
    }
};

// Calls body(tile, load, store).
template <class real, class Body> [[gnu::always_inline]] inline void each_tile(int64_t inner, Body body) {
    constexpr int64_t step = lanes<real>;
    if (inner < step)
        return body(Tile<real, 1>{0, 0}, [inner](const real* p) { return load_some(p, inner); },
                    [inner](real* p, Vector<real> v) { store_some(p, v, inner); });
    const auto whole = [&](auto tile) {
        body(tile, [](const real* p) { return load(p); }, [](real* p, Vector<real> v) { store(p, v); });
    };
    int64_t s = 0;
    for (; s + 4 * step <= inner; s += 4 * step) whole(Tile<real, 4>{s, 0});
    const int64_t left = inner - s;
    if (left > 3 * step) whole(Tile<real, 4>{s, 4 * step - left});
    else if (left > 2 * step) whole(Tile<real, 3>{s, 3 * step - left});
    else if (left > step) whole(Tile<real, 2>{s, 2 * step - left});
    else if (left > 0) whole(Tile<real, 1>{s, step - left});
}

// Adds term(channel, vector) of `width` channels to the totals, blocks of them alone, because one long sum would round more.
template <class real, int vectors, class Term>
[[gnu::always_inline]] inline void add_channels(int64_t width, Vector<real> (&total)[vectors], Term term) {
    constexpr int64_t block = 64;
    for (int64_t c = 0; c < width;) {
        const int64_t end = std::min(width, c + block);
        Vector<real> part[vectors]{};
        for (; c < end; ++c)
            for (int i = 0; i < vectors; ++i) part[i] += term(c, i);
        for (int i = 0; i < vectors; ++i) total[i] += part[i];
    }
}

// found: [rows, parts, 2, inner], mean and 1 / √(variance + eps), or null
template <class real>
void positions_forward(const Rows& r, const real* x, Affine<real> affine, double eps, real* y, real* found, int64_t chunk) {
    int64_t part = 0;
    for (int64_t n = r.from(chunk) * r.parts; n < r.from(chunk + 1) * r.parts; ++n, part = part + 1 == r.parts ? 0 : part + 1) {
        const int64_t first = part * r.width;
        each_tile<real>(r.inner, [&](auto tile, auto get, auto put) {
            constexpr int vectors = decltype(tile)::count;
            const auto at = [&](int64_t c, int i) { return n * r.block() + c * r.inner + tile.at(i); };
            Vector<real> mean[vectors]{}, scale[vectors]{};
            add_channels<real>(r.width, mean, [&](int64_t c, int i) { return get(x + at(c, i)); });
            for (int i = 0; i < vectors; ++i) mean[i] /= real(r.width);
            add_channels<real>(r.width, scale, [&](int64_t c, int i) {
                const Vector<real> d = get(x + at(c, i)) - mean[i];
                return d * d;
            });
            for (int i = 0; i < vectors; ++i) {
                scale[i] = real(1) / root<real>(scale[i] / real(r.width) + real(eps));
                if (!found) continue;
                put(found + 2 * n * r.inner + tile.at(i), mean[i]);
                put(found + (2 * n + 1) * r.inner + tile.at(i), scale[i]);
            }
            for (int64_t c = 0; c < r.width; ++c) {
                const real gain = affine.gain ? affine.gain[first + c] : 1, bias = affine.bias ? affine.bias[first + c] : 0;
                for (int i = 0; i < vectors; ++i) put(y + at(c, i), (get(x + at(c, i)) - mean[i]) * (scale[i] * gain) + bias);
            }
        });
    }
}

// A chunk's sums a channel, a vector each until they are closed
template <class real> struct PositionSums {
    static constexpr int64_t rows = 8;

    PositionSums(real* of_chunks, int64_t chunk, int64_t channels)
        : total(of_chunks ? of_chunks + chunk * channels : nullptr), open(total ? channels * lanes<real> : 0) {}

    void add(int64_t channel, Vector<real> v) {
        real* to = open.data() + channel * lanes<real>;
        store(to, load(to) + v);
    }

    void close() {
        for (size_t i = 0; i < open.size(); i += lanes<real>) total[i / lanes<real>] += sum<real>(load(open.data() + i));
        std::fill(open.begin(), open.end(), real(0));
    }

    real* const total;
    std::vector<real> open;
};

// dx = scale · (g - mean(g) - x̂ · mean(g · x̂)) with g = dy · gain
template <class real> struct PositionsBackward {
    const Rows& r;
    const real *x, *dy;
    const real* gain;
    const real* found;
    real* dx;  // null if nobody needs it
    AffineGradients<real> sums;

    void run(int64_t chunk) const {
        const int64_t from = r.from(chunk) * r.parts, to = r.from(chunk + 1) * r.parts;
        PositionSums<real> of_gain(sums.gain, chunk, r.channels()), of_bias(sums.bias, chunk, r.channels());
        int64_t part = 0;
        for (int64_t n = from; n < to; ++n, part = part + 1 == r.parts ? 0 : part + 1) {
            block(n, part * r.width, of_gain, of_bias);
            if ((n + 1) % (PositionSums<real>::rows * r.parts) == 0) of_gain.close(), of_bias.close();
        }
        of_gain.close(), of_bias.close();
    }

  private:
    void block(int64_t n, int64_t first, PositionSums<real>& of_gain, PositionSums<real>& of_bias) const {
        each_tile<real>(r.inner, [&](auto tile, auto get, auto put) {
            constexpr int vectors = decltype(tile)::count;
            const auto at = [&](int64_t c, int i) { return n * r.block() + c * r.inner + tile.at(i); };
            Vector<real> mean[vectors], scale[vectors], fresh[vectors], g[vectors]{}, gx[vectors]{};
            for (int i = 0; i < vectors; ++i) {
                mean[i] = get(found + 2 * n * r.inner + tile.at(i));
                scale[i] = get(found + (2 * n + 1) * r.inner + tile.at(i));
                fresh[i] = tile.fresh(i);
            }
            for (int64_t c = 0; c < r.width; ++c) {
                const real weight = gain ? gain[first + c] : 1;
                Vector<real> one{}, two{};
                for (int i = 0; i < vectors; ++i) {
                    const Vector<real> d = get(dy + at(c, i)), product = d * ((get(x + at(c, i)) - mean[i]) * scale[i]);
                    one += d * fresh[i], two += product * fresh[i];
                    g[i] += d * weight, gx[i] += product * weight;
                }
                if (of_gain.total) of_gain.add(first + c, two);
                if (of_bias.total) of_bias.add(first + c, one);
            }
            if (!dx) return;
            for (int i = 0; i < vectors; ++i) g[i] /= real(r.width), gx[i] *= scale[i] / real(r.width);
            for (int64_t c = 0; c < r.width; ++c) {
                const real weight = gain ? gain[first + c] : 1;
                for (int i = 0; i < vectors; ++i) {
                    const Vector<real> less = get(dy + at(c, i)) * weight - g[i] - (get(x + at(c, i)) - mean[i]) * gx[i];
                    put(dx + at(c, i), less * scale[i]);
                }
            }
        });
    }
};
