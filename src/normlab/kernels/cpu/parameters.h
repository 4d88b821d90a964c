// Biases and gains, and the sums of their gradients, as rows in the order in which the loops read them.
#pragma once
#include <algorithm>

#include "problem.h"

// One step's; an absent gain is 1, an absent bias 0.
template <class real> struct Rows {
    const real *bias, *gain_x, *gain_h, *gain_c, *bias_c;
};

// Parameters, or gradients of parameters, as padded rows: one row, or one a step.
template <class real> struct ParameterRows {
    ParameterRows(const Problem& p, real gain)
        : units(p.units), width(padded<real>(p.units)), steps(p.per_step ? p.steps : 1), bias(steps * 4 * width),
          gain_x(steps * 4 * width), gain_h(steps * 4 * width), gain_c(steps * width), bias_c(steps * width) {
        bias.zero(), bias_c.zero();
        for (Buffer<real>* b : {&gain_x, &gain_h, &gain_c}) std::fill_n(b->data, b->size, gain);
    }

    Rows<real> at(int64_t t) const {
        const int64_t s = steps > 1 ? t : 0;
        return {bias + s * 4 * width, gain_x + s * 4 * width, gain_h + s * 4 * width, gain_c + s * width,
                bias_c + s * width};
    }

    void read(const Tensors<real>& in) {
        put_gates(in.bias, bias), put_gates(in.gain_x, gain_x), put_gates(in.gain_h, gain_h);
        put(in.gain_c, gain_c), put(in.bias_c, bias_c);
    }

    void write(const Gradients<real>& out) const {
        take_gates(out.bias, bias), take_gates(out.gain_x, gain_x), take_gates(out.gain_h, gain_h);
        take(out.gain_c, gain_c), take(out.bias_c, bias_c);
    }

    void add(const ParameterRows& other) {
        const Buffer<real>*mine[] = {&bias, &gain_x, &gain_h, &gain_c, &bias_c},
                          *theirs[] = {&other.bias, &other.gain_x, &other.gain_h, &other.gain_c, &other.bias_c};
        for (int n = 0; n < 5; ++n)
            for (int64_t j = 0; j < mine[n]->size; ++j) mine[n]->data[j] += theirs[n]->data[j];
    }

  private:
    // padding of a given gain or bias is 0, so that nothing beyond the real units ever counts
    void clear(Buffer<real>& to) const {
        if (units < width) to.zero();
    }
    void put(const real* from, Buffer<real>& to) {
        if (!from) return;
        clear(to);
        copy(to.data, width, from, units, steps, units);
    }
    void put_gates(const real* from, Buffer<real>& to) {
        if (!from) return;
        clear(to);
        each_vector([&](int64_t at, int64_t padded_at, int64_t size) {
            std::memcpy(to + padded_at, from + at, sizeof(real) * size);
        });
    }
    void take(real* to, const Buffer<real>& from) const {
        if (to) copy(to, units, from.data, width, steps, units);
    }
    void take_gates(real* to, const Buffer<real>& from) const {
        if (!to) return;
        each_vector([&](int64_t at, int64_t padded_at, int64_t size) {
            std::memcpy(to + at, from + padded_at, sizeof(real) * size);
        });
    }
    // Where a gate's next vector of units stands in [steps, 4, units] and in padded rows, and how many are real
    template <class Move> void each_vector(Move move) const {
        for (int64_t row = 0; row < steps * 4; ++row)
            for (int64_t u = 0; u < units; u += lanes<real>)
                move(row * units + u, row / 4 * 4 * width + place<real>(row % 4, u), std::min(lanes<real>, units - u));
    }

    const int64_t units, width, steps;
    Buffer<real> bias, gain_x, gain_h, gain_c, bias_c;
};
