// The backward pass of batch.h: the same plan, steps from last to first.
#pragma once
#include "batch.h"

template <class real> struct BatchBackward : BatchLoop<real> {
    using Loop = BatchLoop<real>;
    using Loop::in, Loop::L, Loop::p, Loop::shape;
    using typename Loop::V;

    const Gradients<real>& out;
    const Rows<real> r;  // parameters, and sums of their gradients
    const Rows<real> d;
    const int64_t length;  // steps whose gate gradients are gathered for one product; two at least, see `run`
    Buffer<real> dh, dc, c0, ax, h, x, dah, dax, dwx, dwh;

    BatchBackward(const Problem& p, const Tensors<real>& in, const Gradients<real>& out, Weights<real>& wx,
                  Weights<real>& wh, const Rows<real>& r, const Rows<real>& d)
        : Loop(p, in, wx, wh, r), out(out), r(r), d(d), length(std::max<int64_t>(2, chunk_rows / p.examples)),
          dh(p.examples * shape.cell_row), dc(dh.size), c0(dh.size), ax(p.examples * shape.gate_row),
          h(length * p.examples * p.units), x(length * p.examples * p.inputs),
          dah(length * p.examples * shape.gate_row), dax(dah.size), dwx(p.inputs * shape.gates),
          dwh(p.units * shape.gates) {
        for (Buffer<real>* b : {&dh, &dc, &c0, &dwx, &dwh}) b->zero();
        if (in.c0) copy(c0.data, shape.cell_row, in.c0, p.units, p.examples, p.units);
        if (out.c_last) copy(dc.data, shape.cell_row, out.c_last, p.units, p.examples, p.units);
    }

    // A thread that is one step ahead writes to another slot of dah and dax than the one others still read.
    void run(const Team& team) {
        const int64_t B = p.examples, T = p.steps, H = p.units, I = p.inputs;
        const int64_t state = B * shape.cell_row, all = B * shape.gate_row;
        const Share own = Loop::units(team), examples(B, team.rank, team.size);
        Members members(p);
        Buffer<real> scratch(B * 5 * L), dx(std::max<int64_t>(1, examples.size) * padded<real>(I));
        int64_t slot = 0;
        for (int64_t t = T - 1; t >= 0; --t) {
            real *dah_t = dah + slot * all, *dax_t = dax + slot * all;
            const real* a_x = p.keep_x ? Loop::saved_ax + t * all : ax.data;
            if (!p.keep_x) Loop::gates_x(ax, t, own);
            gather(slot, t, examples);
            members.at(t, in.mask);
            for (int64_t u = own.from; u < own.from + own.size; u += L) {
                add_output(t, u);
                if (in.mask)
                    for (int64_t b = 0; b < B; ++b)
                        if (!is_real(in.mask, T, b, t)) clear(dah_t, dax_t, b, u);
                for (int64_t k = 0; k < shape.chunks; ++k)
                    step(t, k, u, members, a_x, Loop::saved_ah + t * all, t ? Loop::saved_c + (t - 1) * state : c0.data,
                         Loop::saved_c + t * state, dah_t, dax_t, scratch);
            }
            barrier();
            if (own.size > 0) {
                Panels<real> b = Loop::wh.backward_panels();
                b.data += own.from / (2 * L) * b.panel;
                product<real>(dh + own.from, shape.cell_row, dah_t, shape.gate_row, 1, b, B, own.size, shape.gates, true);
            }
            if (out.x && examples.size > 0) {
                product<real>(dx, padded<real>(I), dax_t + examples.from * shape.gate_row, shape.gate_row, 1,
                              Loop::wx.backward_panels(), examples.size, padded<real>(I), shape.gates, false);
                copy(out.x + (examples.from * T + t) * I, T * I, dx.data, padded<real>(I), examples.size, I);
            }
            if (++slot == length || t == 0) {
                weight_gradients(slot * B, own);
                slot = 0;
                barrier();
            }
        }
        if (team.rank > 0) return;
        if (out.h0) copy(out.h0, H, dh.data, shape.cell_row, B, H);
        if (out.c0) copy(out.c0, H, dc.data, shape.cell_row, B, H);
    }

    // h before step t and x of step t, for the weights' gradients
    void gather(int64_t slot, int64_t t, const Share& rows) {
        const int64_t T = p.steps, H = p.units, I = p.inputs;
        real* to = h + (slot * p.examples + rows.from) * H;
        if (t)
            copy(to, H, in.y + (rows.from * T + t - 1) * H, T * H, rows.size, H);
        else if (in.h0)
            copy(to, H, in.h0 + rows.from * H, H, rows.size, H);
        else
            std::memset(to, 0, sizeof(real) * rows.size * H);
        copy(x + (slot * p.examples + rows.from) * I, I, in.x + (rows.from * T + t) * I, T * I, rows.size, I);
    }

    void add_output(int64_t t, int64_t u) {
        const int64_t size = std::min(L, p.units - u);
        for (int64_t b = 0; b < p.examples; ++b)
            for (int64_t i = 0; i < size; ++i)
                dh[b * shape.cell_row + u + i] += out.y[(b * p.steps + t) * p.units + u + i];
    }

    void clear(real* dah, real* dax, int64_t b, int64_t u) const {
        std::memset(dah + b * shape.gate_row + 4 * u, 0, sizeof(real) * 4 * L);
        std::memset(dax + b * shape.gate_row + 4 * u, 0, sizeof(real) * 4 * L);
    }

    void weight_gradients(int64_t depth, const Share& own) {
        if (own.size <= 0) return;
        const int64_t from = 4 * own.from, columns = 4 * own.size;
        product<real>(dwh + from, shape.gates, h, 1, p.units, {dah + from, shape.gate_row, 2 * L}, p.units, columns,
                      depth, true);
        product<real>(dwx + from, shape.gates, x, 1, p.inputs, {dax + from, shape.gate_row, 2 * L}, p.inputs, columns,
                      depth, true);
    }

    static void add(const real* to, V v) { store<real>(const_cast<real*>(to), load(to) + v); }

    void step(int64_t t, int64_t k, int64_t u, const Members& members, const real* ax, const real* ah,
              const real* c_before, const real* c, real* dah, real* dax, real* scratch) {
        const int64_t* rows = members.rows.data() + members.first[k];
        const int64_t n = members.first[k + 1] - members.first[k];
        Standard<real> x[4], hh[4];
        for (int64_t g = 0; g < 4; ++g) {
            const int64_t at = 4 * u + g * L;
            x[g] = Loop::recall(p.norm_x, shape.statistics(in.statistics, 0, t, k), shape.gates, n, at);
            hh[g] = Loop::recall(p.norm_h, shape.statistics(in.statistics, 1, t, k), shape.gates, n, at);
        }
        const Standard<real> s = Loop::recall(p.norm_c, shape.statistics(in.statistics, 2, t, k), shape.width, n, u);
        const V one = V{} + real(1), gain = load(r.gain_c + u);
        V ds_total{}, ds_along{}, w_total{}, w_along{};
        for (int64_t j = 0; j < n; ++j) {  // through h = σ(o) tanh(N_c(c))
            V pre[4];
            for (int64_t g = 0; g < 4; ++g) {
                const int64_t at = rows[j] * shape.gate_row + 4 * u + g * L, own = 4 * u + g * L;
                pre[g] = load(r.bias + own) + x[g](ax + at) * load(r.gain_x + own) + hh[g](ah + at) * load(r.gain_h + own);
            }
            const int64_t at = rows[j] * shape.cell_row + u;
            const V o = sigmoid<real>(pre[output]), standard = s(c + at), grad = load(dh + at);
            const V y = tanh<real>(standard * gain + load(r.bias_c + u)), ds = grad * o * (one - y * y), w = ds * gain;
            ds_total += ds, ds_along += ds * standard, w_total += w, w_along += w * standard;
            real* kept = scratch + rows[j] * 5 * L;
            store<real>(kept, sigmoid<real>(pre[forget])), store<real>(kept + L, sigmoid<real>(pre[input]));
            store<real>(kept + 2 * L, grad * y * o * (one - o)), store<real>(kept + 3 * L, tanh<real>(pre[candidate]));
            store<real>(kept + 4 * L, w);
            store<real>(dh + at, V{});
        }
        add(d.bias_c + u, ds_total), add(d.gain_c + u, ds_along);
        const real share = s.coupled ? 1 / real(n) : real(0);
        V total[4] = {}, along_x[4] = {}, along_h[4] = {};
        for (int64_t j = 0; j < n; ++j) {  // through c = σ(f) c + σ(i) tanh(g)
            const real* kept = scratch + rows[j] * 5 * L;
            const V f = load(kept), i = load(kept + L), g = load(kept + 3 * L), w = load(kept + 4 * L);
            const int64_t at = rows[j] * shape.cell_row + u;
            const V grad = load(dc + at) + s.inverse * (w - w_total * share - s(c + at) * (w_along * share));
            store<real>(dc + at, grad * f);
            const V dpre[4] = {grad * load(c_before + at) * f * (one - f), grad * g * i * (one - i), load(kept + 2 * L),
                               grad * i * (one - g * g)};
            for (int64_t q = 0; q < 4; ++q) {
                const int64_t gate = rows[j] * shape.gate_row + 4 * u + q * L;
                store<real>(dah + gate, dpre[q]);
                total[q] += dpre[q];
                along_x[q] += dpre[q] * x[q](ax + gate);
                along_h[q] += dpre[q] * hh[q](ah + gate);
            }
        }
        for (int64_t q = 0; q < 4; ++q) {  // through N_x and N_h
            const int64_t own = 4 * u + q * L;
            add(d.bias + own, total[q]), add(d.gain_x + own, along_x[q]), add(d.gain_h + own, along_h[q]);
            const real share_x = x[q].coupled ? 1 / real(n) : real(0), share_h = hh[q].coupled ? 1 / real(n) : real(0);
            const V scale_x = x[q].inverse * load(r.gain_x + own), scale_h = hh[q].inverse * load(r.gain_h + own);
            for (int64_t j = 0; j < n; ++j) {
                const int64_t at = rows[j] * shape.gate_row + own;
                const V dpre = load(dah + at);
                store<real>(dax + at, scale_x * (dpre - total[q] * share_x - x[q](ax + at) * (along_x[q] * share_x)));
                store<real>(dah + at, scale_h * (dpre - total[q] * share_h - hh[q](ah + at) * (along_h[q] * share_h)));
            }
        }
    }
};

template <class real> void batch_backward(const Problem& p, const Tensors<real>& in, const Gradients<real>& out) {
    Weights<real> wx(in.weight_x, p.units, p.inputs, p.parts, false);
    Weights<real> wh(in.weight_h, p.units, p.units, p.parts, false);
    ParameterRows<real> parameters(p, 1), sums(p, 0);
    parameters.read(in);
    BatchBackward<real> loop(p, in, out, wx, wh, parameters.at(0), sums.at(0));
#pragma omp parallel num_threads(p.threads)
    {
        const Team team;
        if (!p.keep_x) wx.pack_forward(team.rank, team.size);
        if (out.x) wx.pack_backward(team.rank, team.size);
        wh.pack_backward(team.rank, team.size);
        barrier();
        loop.run(team);
        barrier();
        wx.unpack_gradient(out.weight_x, loop.dwx, team.rank, team.size);
        wh.unpack_gradient(out.weight_h, loop.dwh, team.rank, team.size);
    }
    sums.write(out);
}
