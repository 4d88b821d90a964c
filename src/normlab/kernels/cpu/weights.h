// Weights in the order in which `product` reads them, every gate padded to whole vectors.
#pragma once
#include <algorithm>

#include "problem.h"

// Layer norm of a = W x over the gates is an RMS norm of the centred a, and a is centred for every x if W is over
// its outputs. So W is centred once, and its gradient once at the end.
template <class real> struct Weights {
    Weights(const real* w, int64_t units, int64_t inputs, int64_t parts, bool centred)
        : w(w), units(units), inputs(inputs), per_part(4 / parts), centred(centred), width(padded<real>(units)),
          zeros(inputs), means(parts * inputs), forward(inputs * 4 * width),
          backward((padded<real>(inputs) + lanes<real>) * 4 * width) {
        zeros.zero();
        if (!centred) return;
        means.zero();
        for (int64_t j = 0; j < 4 * units; ++j) {
            real* mean = means + j / units / per_part * inputs;
            for (int64_t k = 0; k < inputs; ++k) mean[k] += w[j * inputs + k];
        }
        for (int64_t k = 0; k < means.size; ++k) means[k] /= real(per_part * units);
    }

    // B = Wᵀ [inputs, 4 width], for a = x Wᵀ; `part` of `parts` threads does its share of the panels
    void pack_forward(int64_t part, int64_t parts) {
        const Share own(4 * width / wide, part, parts);
        for (int64_t panel = own.from; panel < own.from + own.size; ++panel) {
            real* to = forward + panel * wide * inputs;
            const real *row[wide], *mean[wide];
            for (int64_t j = 0; j < wide; ++j) row[j] = source(panel * wide + j, &mean[j]);
            for (int64_t k = 0; k < inputs; ++k)
                for (int64_t j = 0; j < wide; ++j) to[k * wide + j] = row[j][k] - mean[j][k];
        }
    }

    // B = W [4 width, inputs], for dx = da W
    void pack_backward(int64_t part, int64_t parts) {
        const Share own(4 * width, part, parts);
        for (int64_t n = own.from; n < own.from + own.size; ++n) {
            const real *mean, *row = source(n, &mean);
            for (int64_t from = 0; from < inputs; from += wide) {
                real* to = backward + from * 4 * width + n * wide;
                const int64_t size = std::min(wide, inputs - from);
                for (int64_t k = 0; k < size; ++k) to[k] = row[from + k] - mean[from + k];
                for (int64_t k = size; k < wide; ++k) to[k] = 0;
            }
        }
    }

    Panels<real> forward_panels() const { return {forward, wide, wide * inputs}; }
    Panels<real> backward_panels() const { return {backward, wide, wide * 4 * width}; }

    // The gradient of W [4 units, inputs] from that of Bᵀ [inputs, 4 width], which is centred here
    void unpack_gradient(real* to, real* from, int64_t part, int64_t parts) const {
        constexpr int64_t line = 64 / sizeof(real);  // inputs at a time, so that `to` is written in whole cache lines
        const Share own((inputs + line - 1) / line, part, parts);
        for (int64_t k0 = own.from * line; k0 < std::min(inputs, (own.from + own.size) * line); k0 += line) {
            const int64_t size = std::min(line, inputs - k0);
            if (centred)
                for (int64_t k = k0; k < k0 + size; ++k)
                    for (int64_t gate = 0; gate < 4; gate += per_part) subtract_mean(from + k * 4 * width, gate);
            for (int64_t gate = 0; gate < 4; ++gate)
                for (int64_t unit = 0; unit < units; ++unit) {
                    const real* column = from + place<real>(gate, unit);
                    for (int64_t k = k0; k < k0 + size; ++k)
                        to[(gate * units + unit) * inputs + k] = column[k * 4 * width];
                }
        }
    }

  private:
    static constexpr int64_t wide = 2 * lanes<real>;

    // Row n of padded W, and what is to be subtracted from it
    const real* source(int64_t n, const real** mean) const {
        const int64_t gate = n / lanes<real> % 4, unit = n / (4 * lanes<real>) * lanes<real> + n % lanes<real>;
        *mean = centred && unit < units ? means + gate / per_part * inputs : zeros.data;
        return unit < units ? w + (gate * units + unit) * inputs : zeros.data;
    }

    // of a part of the gates, from its first one; padding is 0
    void subtract_mean(real* row, int64_t first) const {
        constexpr int64_t L = lanes<real>;
        Vector<real> total{};
        for (int64_t u = 0; u < width; u += L)
            for (int64_t gate = first; gate < first + per_part; ++gate) total += load(row + 4 * u + gate * L);
        const real mean = sum<real>(total) / real(per_part * units);
        for (int64_t u = 0; u < width; u += L)
            for (int64_t gate = first; gate < first + per_part; ++gate)
                store<real>(row + 4 * u + gate * L, load(row + 4 * u + gate * L) - mean);
    }

    const real* w;
    const int64_t units, inputs, per_part;
    const bool centred;
    const int64_t width;
    Buffer<real> zeros, means, forward, backward;
};
