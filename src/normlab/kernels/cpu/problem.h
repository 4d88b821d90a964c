// What Python hands over: sizes and raw pointers, in the order of recurrence.py.
#pragma once
#include <memory>
#include <new>

#include "product.h"

enum Norm : int64_t { none, rms, layer, batch };

struct Problem {
    int64_t examples, steps, inputs, units;  // B, T, I, H
    int64_t parts;                           // blocks of gates that a norm sees alone: 1 or 4
    int64_t chunk;                           // examples that pool their statistics (batch)
    int64_t threads;
    int64_t norm_x, norm_h, norm_c;  // Norm
    int64_t per_step;                // 1: bias, gains and bias_c have a row for each step
    int64_t keep_x;                  // 1: W_x x is saved for the backward pass, 0: computed again
    double eps;
};

// [B, T, I], [B, H], [B, H], [4H, I], [4H, H], [4H], [4H], [4H], [H], [H], [B, T]; out: [B, T, H], [B, H].
// Gains and biases of absent norms, mask, h0, c0 and saved may be null.
template <class real> struct Tensors {
    const real *x, *h0, *c0, *weight_x, *weight_h, *bias, *gain_x, *gain_h, *gain_c, *bias_c;
    const uint8_t* mask;
    real *y, *c_last, *saved;
    const real* running;
    real* statistics;
};

// Gradients: of y and c_last in, of the others out. x, h0, c0, gains and bias_c may be null.
template <class real> struct Gradients {
    const real *y, *c_last;
    real *x, *h0, *c0, *weight_x, *weight_h, *bias, *gain_x, *gain_h, *gain_c, *bias_c;
};

// Memory aligned to cache lines; its numbers are arbitrary unless `zero` is called.
template <class real> struct Buffer {
    explicit Buffer(int64_t size)
        : size(size), data(static_cast<real*>(::operator new(sizeof(real) * size + 64, std::align_val_t(64)))) {}
    ~Buffer() { ::operator delete(data, std::align_val_t(64)); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    void zero() { std::memset(data, 0, sizeof(real) * size); }
    operator real*() const { return data; }
    const int64_t size;
    real* const data;
};

// Where gate k of hidden unit u stands in a padded row [units / lanes, 4, lanes]: a vector of units has its four
// gates side by side. Gates: forget, input, output, candidate.
template <class real> inline int64_t place(int64_t k, int64_t u) {
    return (u / lanes<real> * 4 + k) * lanes<real> + u % lanes<real>;
}

// [rows, width] between tensors and padded memory
template <class real>
void copy(real* to, int64_t to_row, const real* from, int64_t from_row, int64_t rows, int64_t width) {
    for (int64_t i = 0; i < rows; ++i) std::memcpy(to + i * to_row, from + i * from_row, sizeof(real) * width);
}
