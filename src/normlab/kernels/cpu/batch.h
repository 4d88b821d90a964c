// Per-step batch norm couples the examples, so threads share out the hidden units instead: each computes all four
// gates of its units for the whole batch, and statistics stay its own. One barrier a step, because h needs all units.
#pragma once
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "rows.h"

struct Team {
    int64_t rank, size;
#ifdef _OPENMP
    Team() : rank(omp_get_thread_num()), size(omp_get_num_threads()) {}
#else
    Team() : rank(0), size(1) {}
#endif
};

inline void barrier() {
#pragma omp barrier
}

// The real examples of each chunk at one step.
struct Members {
    explicit Members(const Problem& p) : p(p), first((p.examples + p.chunk - 1) / p.chunk + 1), rows(p.examples) {}

    void at(int64_t t, const uint8_t* mask) {
        int64_t n = 0;
        for (int64_t b = 0; b < p.examples; ++b) {
            if (b % p.chunk == 0) first[b / p.chunk] = n;
            if (is_real(mask, p.steps, b, t)) rows[n++] = b;
        }
        first.back() = n;
    }

    const Problem& p;
    std::vector<int64_t> first, rows;
};

// Sizes of padded memory. Rows are one vector longer than they need be: by a power of two apart, the rows of one
// column would fall on the same few lines of the first-level cache.
template <class real> struct Shape {
    explicit Shape(const Problem& p)
        : width(padded<real>(p.units)), gates(4 * width), gate_row(gates + lanes<real>), cell_row(width + lanes<real>),
          chunks((p.examples + p.chunk - 1) / p.chunk), steps(p.steps) {}

    int64_t saved(const Problem& p) const {
        return p.examples * p.steps * ((p.keep_x ? 2 : 1) * gate_row + cell_row);
    }
    int64_t statistics() const { return steps * chunks * 2 * (2 * gates + width); }

    // Mean and, one row further, biased variance of site x (0), h (1) or c (2)
    real* statistics(real* all, int64_t site, int64_t t, int64_t chunk) const {
        const int64_t row = site < 2 ? gates : width;
        return all + site * steps * chunks * 2 * gates + (t * chunks + chunk) * 2 * row;
    }

    const int64_t width, gates, gate_row, cell_row, chunks, steps;
};

// One site's statistics for one vector of channels: x̂ = (a - mean) · inverse.
template <class real> struct Standard {
    Vector<real> mean{}, inverse = Vector<real>{} + real(1);
    bool coupled = false;  // whether the statistics depend on the examples at hand
    Vector<real> operator()(const real* a) const { return (load(a) - mean) * inverse; }
};

// What the threads work on together.
template <class real> struct BatchLoop {
    static constexpr int64_t L = lanes<real>;
    using V = Vector<real>;

    const Problem& p;
    const Tensors<real>& in;
    Weights<real>&wx, &wh;
    const Shape<real> shape;
    const Rows<real> r;
    real *saved_ah, *saved_c, *saved_ax;  // [T, B, row]

    BatchLoop(const Problem& p, const Tensors<real>& in, Weights<real>& wx, Weights<real>& wh, const Rows<real>& r)
        : p(p), in(in), wx(wx), wh(wh), shape(p), r(r), saved_ah(in.saved),
          saved_c(saved_ah + p.examples * p.steps * shape.gate_row),
          saved_ax(saved_c + p.examples * p.steps * shape.cell_row) {}

    // A thread's units, in whole panels of two vectors
    Share units(const Team& team) const {
        Share own((shape.width + 2 * L - 1) / (2 * L), team.rank, team.size);
        own.from *= 2 * L;
        own.size = std::min(own.size * 2 * L, shape.width - own.from);
        return own;
    }

    // a[:, own units] = rows [B, depth] · Wᵀ
    void gates(real* a, const real* rows, int64_t row, const Weights<real>& w, int64_t depth, const Share& own) const {
        if (own.size <= 0) return;
        Panels<real> b = w.forward_panels();
        b.data += 4 * own.from / (2 * L) * b.panel;
        product<real>(a + 4 * own.from, shape.gate_row, rows, row, 1, b, p.examples, 4 * own.size, depth, false);
    }

    void gates_x(real* ax, int64_t t, const Share& own) const {
        gates(ax, in.x + t * p.inputs, p.steps * p.inputs, wx, p.inputs, own);
    }

    // Statistics of column `a` over the n real rows of a chunk; the running ones where there are fewer than two
    Standard<real> measure(int64_t norm, const real* a, int64_t row, const int64_t* rows, int64_t n, real* mean,
                           int64_t width, int64_t site, int64_t t, int64_t at) const {
        if (norm == none) return {};
        V total{}, squares{};
        if (n >= 2) {
            for (int64_t j = 0; j < n; ++j) total += load(a + rows[j] * row);
            total /= real(n);
            for (int64_t j = 0; j < n; ++j) {
                const V v = load(a + rows[j] * row) - total;
                squares += v * v;
            }
            squares /= real(n);
        } else {
            running(site, t, at, total, squares);
        }
        store<real>(mean + at, total);
        store<real>(mean + width + at, squares);
        return recall(norm, mean, width, n, at);
    }

    Standard<real> recall(int64_t norm, const real* mean, int64_t width, int64_t n, int64_t at) const {
        if (norm == none) return {};
        Standard<real> s;
        s.mean = load(mean + at);
        s.inverse = real(1) / root<real>(load(mean + width + at) + real(p.eps));
        s.coupled = n >= 2;
        return s;
    }

    // `in.running` is [mean, var] of x [T, 4H], of h [T, 4H] and of c [T, H], one after the other
    void running(int64_t site, int64_t t, int64_t at, V& mean, V& var) const {
        const int64_t H = p.units, columns = site < 2 ? 4 * H : H;
        const real* means = in.running + site * 2 * p.steps * 4 * H;
        for (int64_t i = 0; i < L; ++i) {
            const int64_t unit = (site < 2 ? at / (4 * L) * L : at) + i, gate = site < 2 ? at / L % 4 : 0;
            const int64_t j = t * columns + gate * H + unit;
            mean[i] = unit < H ? means[j] : real(0);
            var[i] = unit < H ? means[p.steps * columns + j] : real(1);
        }
    }
};

template <class real> struct BatchForward : BatchLoop<real> {
    using Loop = BatchLoop<real>;
    using Loop::in, Loop::L, Loop::p, Loop::r, Loop::shape;
    using typename Loop::V;

    Buffer<real> h, ah, ax, c;  // h twice: the step's own and the one before; the others where nothing is saved

    BatchForward(const Problem& p, const Tensors<real>& in, Weights<real>& wx, Weights<real>& wh, const Rows<real>& r)
        : Loop(p, in, wx, wh, r), h(2 * p.examples * shape.cell_row), ah(p.examples * shape.gate_row),
          ax(p.examples * shape.gate_row), c(2 * p.examples * shape.cell_row) {
        h.zero(), c.zero();
        if (in.h0) copy(h.data, shape.cell_row, in.h0, p.units, p.examples, p.units);
        if (in.c0) copy(c.data, shape.cell_row, in.c0, p.units, p.examples, p.units);
    }

    void run(const Team& team) {
        const int64_t B = p.examples, T = p.steps, H = p.units, state = B * shape.cell_row;
        const Share own = Loop::units(team);
        Members members(p);
        Buffer<real> opened(B * L);
        const real* c_before = c;
        for (int64_t t = 0; t < T; ++t) {
            real *a_h = in.saved ? Loop::saved_ah + t * B * shape.gate_row : ah.data;
            real *a_x = in.saved && p.keep_x ? Loop::saved_ax + t * B * shape.gate_row : ax.data;
            real* c_now = in.saved ? Loop::saved_c + t * state : c + (t + 1) % 2 * state;
            const real* h_before = h + t % 2 * state;
            real* h_now = h + (t + 1) % 2 * state;
            Loop::gates_x(a_x, t, own);
            Loop::gates(a_h, h_before, shape.cell_row, Loop::wh, H, own);
            members.at(t, in.mask);
            for (int64_t u = own.from; u < own.from + own.size; u += L) {
                if (in.mask)
                    for (int64_t at = u; at < state; at += shape.cell_row)  // held where padded
                        store<real>(c_now + at, load(c_before + at)), store<real>(h_now + at, load(h_before + at));
                for (int64_t k = 0; k < shape.chunks; ++k)
                    step(t, k, u, members, a_x, a_h, c_before, c_now, h_now, opened);
                const int64_t size = std::min(L, H - u);
                for (int64_t b = 0; b < B && size > 0; ++b)
                    std::memcpy(in.y + (b * T + t) * H + u, h_now + b * shape.cell_row + u, sizeof(real) * size);
            }
            c_before = c_now;
            barrier();
        }
        if (team.rank == 0) copy(in.c_last, H, c_before, shape.cell_row, B, H);
    }

    void step(int64_t t, int64_t k, int64_t u, const Members& members, const real* ax, const real* ah,
              const real* c_before, real* c, real* h, real* opened) const {
        const int64_t* rows = members.rows.data() + members.first[k];
        const int64_t n = members.first[k + 1] - members.first[k];
        real* statistics[3];
        for (int64_t site = 0; site < 3; ++site) statistics[site] = shape.statistics(in.statistics, site, t, k);
        Standard<real> x[4], hh[4];
        for (int64_t g = 0; g < 4; ++g) {
            const int64_t at = 4 * u + g * L;
            x[g] = Loop::measure(p.norm_x, ax + at, shape.gate_row, rows, n, statistics[0], shape.gates, 0, t, at);
            hh[g] = Loop::measure(p.norm_h, ah + at, shape.gate_row, rows, n, statistics[1], shape.gates, 1, t, at);
        }
        for (int64_t j = 0; j < n; ++j) {
            V pre[4];
            for (int64_t g = 0; g < 4; ++g) {
                const int64_t at = rows[j] * shape.gate_row + 4 * u + g * L, own = 4 * u + g * L;
                pre[g] = load(r.bias + own) + x[g](ax + at) * load(r.gain_x + own) + hh[g](ah + at) * load(r.gain_h + own);
            }
            const int64_t at = rows[j] * shape.cell_row + u;
            store<real>(c + at, sigmoid<real>(pre[forget]) * load(c_before + at) +
                                    sigmoid<real>(pre[input]) * tanh<real>(pre[candidate]));
            store<real>(opened + rows[j] * L, sigmoid<real>(pre[output]));
        }
        const Standard<real> s = Loop::measure(p.norm_c, c + u, shape.cell_row, rows, n, statistics[2], shape.width, 2, t, u);
        for (int64_t j = 0; j < n; ++j) {
            const int64_t at = rows[j] * shape.cell_row + u;
            const V shown = s(c + at) * load(r.gain_c + u) + load(r.bias_c + u);
            store<real>(h + at, load(opened + rows[j] * L) * tanh<real>(shown));
        }
    }
};

template <class real> void batch_forward(const Problem& p, const Tensors<real>& in) {
    Weights<real> wx(in.weight_x, p.units, p.inputs, p.parts, false);
    Weights<real> wh(in.weight_h, p.units, p.units, p.parts, false);
    ParameterRows<real> parameters(p, 1);
    parameters.read(in);
    BatchForward<real> loop(p, in, wx, wh, parameters.at(0));
#pragma omp parallel num_threads(p.threads)
    {
        const Team team;
        wx.pack_forward(team.rank, team.size), wh.pack_forward(team.rank, team.size);
        barrier();
        loop.run(team);
    }
}
