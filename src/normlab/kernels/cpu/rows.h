// Norms that look at one example: each thread runs the whole time loop over its own rows, without a barrier.
#pragma once
#include <algorithm>
#include <vector>

#include "cell.h"
#include "weights.h"

constexpr int64_t block_rows = 28;   // rows that go through time together: their gates stay in cache
constexpr int64_t chunk_rows = 256;  // rows × steps whose gate gradients are gathered for one product

// What the backward pass needs of a block of rows that starts at row r0, step by step.
template <class real> struct Saved {
    Saved(const Problem& p, real* memory)
        : width(padded<real>(p.units)), steps(p.steps), ah(memory), c(ah + p.examples * steps * 4 * width),
          s(reinterpret_cast<Statistics<real>*>(c + p.examples * steps * width)),
          ax(reinterpret_cast<real*>(s) + padded<real>(p.examples * steps * row_statistics)) {}

    static int64_t size(const Problem& p) {
        const int64_t rows = p.examples * p.steps, width = padded<real>(p.units);
        return rows * (p.keep_x ? 9 : 5) * width + padded<real>(rows * row_statistics);
    }

    int64_t row(int64_t r0, int64_t rows, int64_t t) const { return r0 * steps + t * rows; }

    const int64_t width, steps;
    real *ah, *c;
    Statistics<real>* s;
    real* ax;
};

inline bool is_real(const uint8_t* mask, int64_t steps, int64_t b, int64_t t) { return !mask || mask[b * steps + t]; }

inline bool any_real(const uint8_t* mask, int64_t steps, int64_t from, int64_t rows, int64_t t) {
    for (int64_t b = from; b < from + rows; ++b)
        if (is_real(mask, steps, b, t)) return true;
    return false;
}

inline int64_t blocks_of(const Share& own) { return (own.size + block_rows - 1) / block_rows; }

template <class real, bool merged> struct RowsForward {
    const Problem& p;
    const Tensors<real>& in;
    Weights<real>&wx, &wh;
    const ParameterRows<real>& parameters;

    void run(const Share& own) {
        const int64_t blocks = blocks_of(own);
        for (int64_t k = 0; k < blocks; ++k) {
            const Share b(own.size, k, blocks);
            block(own.from + b.from, b.size);
        }
    }

    void block(int64_t r0, int64_t rows) {
        const int64_t T = p.steps, H = p.units, width = padded<real>(H), gates = 4 * width;
        Cell<real> cell(p);
        const Saved<real> saved(p, in.saved);
        const bool keep = in.saved, keep_x = keep && p.keep_x;
        Buffer<real> h(rows * width), c(rows * width), new_c(rows * width), ax(rows * gates), ah(rows * gates);
        std::vector<Statistics<real>> stats(rows);
        h.zero(), c.zero();
        if (in.h0) copy(h.data, width, in.h0 + r0 * H, H, rows, H);
        if (in.c0) copy(c.data, width, in.c0 + r0 * H, H, rows, H);
        real* c_before = c;
        for (int64_t t = 0; t < T; ++t) {
            const int64_t at = saved.row(r0, rows, t);
            real *a_x = keep_x ? saved.ax + at * gates : ax.data, *a_h = keep ? saved.ah + at * gates : ah.data;
            real* c_now = keep ? saved.c + at * width : c_before == c.data ? new_c.data : c.data;
            Statistics<real>* s = keep ? saved.s + at : stats.data();
            const Rows<real> r = parameters.at(t);
            const bool some = any_real(in.mask, T, r0, rows, t);
            if (some) {
                product<real>(merged ? a_h : a_x, gates, in.x + (r0 * T + t) * p.inputs, T * p.inputs, 1,
                              wx.forward_panels(), rows, gates, p.inputs, false);
                product<real>(a_h, gates, h, width, 1, wh.forward_panels(), rows, gates, H, merged);
            }
            for (int64_t b = 0; b < rows; ++b) {
                if (is_real(in.mask, T, r0 + b, t))
                    cell.template forward<merged>(a_x + b * gates, a_h + b * gates, r, c_before + b * width,
                                                  c_now + b * width, h + b * width, s[b]);
                else
                    std::memcpy(c_now + b * width, c_before + b * width, sizeof(real) * width);
            }
            copy(in.y + (r0 * T + t) * H, T * H, h.data, width, rows, H);
            c_before = c_now;
        }
        copy(in.c_last + r0 * H, H, c_before, width, rows, H);
    }
};

// Some steps of a block of rows whose gate gradients, inputs and states wait for one product each.
template <class real> struct Chunk {
    Chunk(int64_t size, int64_t units, int64_t inputs, int64_t gates, bool merged, bool with_dx)
        : h(size * units), x(size * inputs), dah(size * gates), own_dax(merged ? 0 : size * gates),
          dx(with_dx ? size * padded<real>(inputs) : 0), dax(merged ? dah.data : own_dax.data) {}

    void add(int64_t rows, int64_t t) { filled += rows, times.push_back(t); }

    Buffer<real> h, x, dah, own_dax, dx;
    real* const dax;             // the same as dah where W_x x and W_h h are only added
    int64_t filled = 0;          // rows × steps
    std::vector<int64_t> times;  // steps, in order
};

template <class real, bool merged> struct RowsBackward {
    const Problem& p;
    const Tensors<real>& in;
    const Gradients<real>& out;
    Weights<real>&wx, &wh;
    const ParameterRows<real>& parameters;
    const int64_t width, gates;
    ParameterRows<real> sums;
    Buffer<real> dwx, dwh;  // of Wᵀ: [inputs, 4 width], [units, 4 width]
    bool begun = false;     // whether they hold anything

    RowsBackward(const Problem& p, const Tensors<real>& in, const Gradients<real>& out, Weights<real>& wx,
                 Weights<real>& wh, const ParameterRows<real>& parameters)
        : p(p), in(in), out(out), wx(wx), wh(wh), parameters(parameters), width(padded<real>(p.units)),
          gates(4 * width), sums(p, 0), dwx(p.inputs * gates), dwh(p.units * gates) {}

    void run(const Share& own) {
        const int64_t blocks = blocks_of(own);
        for (int64_t k = 0; k < blocks; ++k) {
            const Share b(own.size, k, blocks);
            block(own.from + b.from, b.size);
        }
        if (!begun) dwx.zero(), dwh.zero();  // nothing but padding
    }

    void block(int64_t r0, int64_t rows) {
        const int64_t T = p.steps, H = p.units, I = p.inputs;
        const int64_t length = std::max<int64_t>(1, chunk_rows / rows);
        Cell<real> cell(p);
        const Saved<real> saved(p, in.saved);
        Buffer<real> dh(rows * width), dc(rows * width), c0(rows * width), ax(rows * gates);
        Chunk<real> chunk(length * rows, H, I, gates, merged, out.x);
        dh.zero(), dc.zero(), c0.zero();
        if (in.c0) copy(c0.data, width, in.c0 + r0 * H, H, rows, H);
        if (out.c_last) copy(dc.data, width, out.c_last + r0 * H, H, rows, H);
        for (int64_t t = T - 1; t >= 0; --t) {
            const int64_t at = saved.row(r0, rows, t);
            add(dh, out.y + (r0 * T + t) * H, rows);
            if (!any_real(in.mask, T, r0, rows, t)) {
                if (out.x)
                    for (int64_t b = 0; b < rows; ++b)
                        std::memset(out.x + ((r0 + b) * T + t) * I, 0, sizeof(real) * I);
                continue;
            }
            const real* x_t = in.x + (r0 * T + t) * I;
            copy(chunk.x + chunk.filled * I, I, x_t, T * I, rows, I);
            previous(chunk.h + chunk.filled * H, r0, rows, t);
            const real* a_x = p.keep_x ? saved.ax + at * gates : ax.data;
            if (!p.keep_x && !merged)
                product<real>(ax, gates, x_t, T * I, 1, wx.forward_panels(), rows, gates, I, false);
            real *dah_t = chunk.dah + chunk.filled * gates, *dax_t = chunk.dax + chunk.filled * gates;
            const real* c_before = t ? saved.c + saved.row(r0, rows, t - 1) * width : c0.data;
            const Rows<real> r = parameters.at(t), d = sums.at(t);
            for (int64_t b = 0; b < rows; ++b) {
                real *dah_b = dah_t + b * gates, *dax_b = dax_t + b * gates;
                if (is_real(in.mask, T, r0 + b, t)) {
                    cell.template backward<merged>(a_x + b * gates, saved.ah + (at + b) * gates, r, c_before + b * width,
                                  saved.c + (at + b) * width, saved.s[at + b], dh + b * width, dc + b * width, dax_b,
                                  dah_b, d);
                    std::memset(dh + b * width, 0, sizeof(real) * width);
                } else {  // the state was held: dh and dc go through
                    std::memset(dah_b, 0, sizeof(real) * gates);
                    std::memset(dax_b, 0, sizeof(real) * gates);
                }
            }
            product<real>(dh, width, dah_t, gates, 1, wh.backward_panels(), rows, width, gates, true);
            chunk.add(rows, t);
            if (chunk.filled == length * rows) close(chunk, r0, rows);
        }
        if (chunk.filled) close(chunk, r0, rows);
        if (out.h0) copy(out.h0 + r0 * H, H, dh.data, width, rows, H);
        if (out.c0) copy(out.c0 + r0 * H, H, dc.data, width, rows, H);
    }

    // The chunk's products: its share of the weights' gradients, and dx
    void close(Chunk<real>& chunk, int64_t r0, int64_t rows) {
        const int64_t H = p.units, I = p.inputs, T = p.steps, wide = 2 * lanes<real>, row = padded<real>(I);
        product<real>(dwh, gates, chunk.h, 1, H, {chunk.dah, gates, wide}, H, gates, chunk.filled, begun);
        product<real>(dwx, gates, chunk.x, 1, I, {chunk.dax, gates, wide}, I, gates, chunk.filled, begun);
        begun = true;
        if (out.x) {
            product<real>(chunk.dx, row, chunk.dax, gates, 1, wx.backward_panels(), chunk.filled, row, gates, false);
            for (int64_t s = 0; s < chunk.filled / rows; ++s)
                copy(out.x + (r0 * T + chunk.times[s]) * I, T * I, chunk.dx + s * rows * row, row, rows, I);
        }
        chunk.filled = 0, chunk.times.clear();
    }

    void add(const RowsBackward& other) {
        sums.add(other.sums);
        for (int64_t j = 0; j < dwx.size; ++j) dwx[j] += other.dwx[j];
        for (int64_t j = 0; j < dwh.size; ++j) dwh[j] += other.dwh[j];
    }

    // h before step t, [rows, units]
    void previous(real* to, int64_t r0, int64_t rows, int64_t t) const {
        const int64_t T = p.steps, H = p.units;
        if (t) return copy(to, H, in.y + (r0 * T + t - 1) * H, T * H, rows, H);
        if (in.h0) return copy(to, H, in.h0 + r0 * H, H, rows, H);
        std::memset(to, 0, sizeof(real) * rows * H);
    }

    void add(real* dh, const real* dy, int64_t rows) const {
        for (int64_t b = 0; b < rows; ++b)
            for (int64_t u = 0; u < p.units; ++u) dh[b * width + u] += dy[b * p.steps * p.units + u];
    }
};

template <class real, bool merged> void rows_forward(const Problem& p, const Tensors<real>& in) {
    Weights<real> wx(in.weight_x, p.units, p.inputs, p.parts, p.norm_x == layer);
    Weights<real> wh(in.weight_h, p.units, p.units, p.parts, p.norm_h == layer);
    ParameterRows<real> parameters(p, 1);
    parameters.read(in);
#pragma omp parallel num_threads(p.threads)
    {
#pragma omp for
        for (int64_t thread = 0; thread < p.threads; ++thread)
            wx.pack_forward(thread, p.threads), wh.pack_forward(thread, p.threads);
#pragma omp for
        for (int64_t thread = 0; thread < p.threads; ++thread)
            RowsForward<real, merged>{p, in, wx, wh, parameters}.run(Share(p.examples, thread, p.threads));
    }
}

template <class real, bool merged> void rows_backward(const Problem& p, const Tensors<real>& in, const Gradients<real>& out) {
    Weights<real> wx(in.weight_x, p.units, p.inputs, p.parts, p.norm_x == layer);
    Weights<real> wh(in.weight_h, p.units, p.units, p.parts, p.norm_h == layer);
    ParameterRows<real> parameters(p, 1);
    parameters.read(in);
    std::vector<std::unique_ptr<RowsBackward<real, merged>>> shares(p.threads);
#pragma omp parallel num_threads(p.threads)
    {
#pragma omp for
        for (int64_t thread = 0; thread < p.threads; ++thread) {
            if (!p.keep_x && !merged) wx.pack_forward(thread, p.threads);
            if (out.x) wx.pack_backward(thread, p.threads);
            wh.pack_backward(thread, p.threads);
        }
#pragma omp for
        for (int64_t thread = 0; thread < p.threads; ++thread) {
            shares[thread].reset(new RowsBackward<real, merged>(p, in, out, wx, wh, parameters));
            shares[thread]->run(Share(p.examples, thread, p.threads));
        }
    }
    for (int64_t thread = 1; thread < p.threads; ++thread) shares[0]->add(*shares[thread]);  // always in this order
    shares[0]->sums.write(out);
#pragma omp parallel for num_threads(p.threads)
    for (int64_t thread = 0; thread < p.threads; ++thread) {
        wx.unpack_gradient(out.weight_x, shares[0]->dwx, thread, p.threads);
        wh.unpack_gradient(out.weight_h, shares[0]->dwh, thread, p.threads);
    }
}
