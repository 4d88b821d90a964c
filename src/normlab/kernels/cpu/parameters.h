// Biases and gains, and the sums of their gradients, as rows in the order in which the loops read them.
#pragma once
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
        for (Buffer<real>* b : {&bias, &gain_x, &gain_h, &gain_c, &bias_c}) b->zero();
        for (Buffer<real>* b : {&gain_x, &gain_h, &gain_c})
            for (int64_t j = 0; j < b->size; ++j) b->data[j] = gain;
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
    void put(const real* from, Buffer<real>& to) {
        if (!from) return;
        to.zero();
        copy(to.data, width, from, units, steps, units);
    }
    void put_gates(const real* from, Buffer<real>& to) {
        if (!from) return;
        to.zero();
        for (int64_t j = 0; j < steps * 4 * units; ++j) to[place_of(j)] = from[j];
    }
    void take(real* to, const Buffer<real>& from) const {
        if (to) copy(to, units, from.data, width, steps, units);
    }
    void take_gates(real* to, const Buffer<real>& from) const {
        if (to)
            for (int64_t j = 0; j < steps * 4 * units; ++j) to[j] = from[place_of(j)];
    }
    // of entry j of [steps, 4, units]
    int64_t place_of(int64_t j) const {
        return j / (4 * units) * 4 * width + place<real>(j / units % 4, j % units);
    }

    const int64_t units, width, steps;
    Buffer<real> bias, gain_x, gain_h, gain_c, bias_c;
};
