// One step of one example: the equations of recurrence.py, and their derivatives.
#pragma once
#include "parameters.h"

enum Gate : int64_t { forget, input, output, candidate };

// 1/√(mean(a²) + eps) for each gate of W_x x and of W_h h, and of c its mean and the same
template <class real> struct Statistics {
    real x[4], h[4], mean_c, c;
};
constexpr int64_t row_statistics = 10;  // numbers in it

template <class real> struct Cell {
    static constexpr int64_t L = lanes<real>;
    using V = Vector<real>;

    explicit Cell(const Problem& p)
        : p(p), units(p.units), width(padded<real>(p.units)), real_lanes(width), scratch(9 * width) {
        for (int64_t u = 0; u < width; ++u) real_lanes[u] = u < units;
    }

    const Problem& p;
    const int64_t units, width;

    // 1/√(mean(a²) + eps) of each gate's block
    void inverse_rms(const real* a, real* inverse) const {
        V squares[4] = {};
        for (int64_t u = 0; u < width; u += L)
            for (int64_t k = 0; k < 4; ++k) {
                const V v = load(a + 4 * u + k * L);
                squares[k] += v * v;
            }
        means(squares, inverse);
        for (int64_t k = 0; k < 4; ++k) inverse[k] = 1 / std::sqrt(inverse[k] + real(p.eps));
    }

    // For each gate the mean over the part that its norm sees, from sums over the gates
    void means(const V* sums, real* means) const {
        if (p.parts == 1) {
            const real all = sum<real>((sums[0] + sums[1]) + (sums[2] + sums[3])) / real(4 * units);
            for (int64_t k = 0; k < 4; ++k) means[k] = all;
        } else {
            for (int64_t k = 0; k < 4; ++k) means[k] = sum<real>(sums[k]) / real(units);
        }
    }

    // The four gates of units u before their nonlinearities, with â = a r of both products
    struct Gates {
        V x[4], h[4], pre[4];
    };

    template <bool merged>
    Gates gates(int64_t u, const real* ax, const real* ah, const Rows<real>& r, const Statistics<real>& s) const {
        Gates g;
        for (int64_t k = 0; k < 4; ++k) {
            const int64_t at = 4 * u + k * L;
            g.pre[k] = load(r.bias + at);
            if constexpr (merged) {
                g.pre[k] += load(ah + at);
            } else {
                g.x[k] = load(ax + at) * s.x[k], g.h[k] = load(ah + at) * s.h[k];
                g.pre[k] += g.x[k] * load(r.gain_x + at) + g.h[k] * load(r.gain_h + at);
            }
        }
        return g;
    }

    V centred(const real* c, int64_t u, real mean) const { return (load(c + u) - mean) * load(real_lanes + u); }

    // c ← σ(f) c + σ(i) tanh(g), h ← σ(o) tanh(N_c(c)). Without norms, ah comes out as the gates themselves.
    template <bool merged>
    void forward(const real* ax, real* ah, const Rows<real>& r, const real* c_before, real* c, real* h,
                 Statistics<real>& s) {
        if constexpr (!merged) {
            for (int64_t k = 0; k < 4; ++k) s.x[k] = s.h[k] = 1;
            if (p.norm_x != none) inverse_rms(ax, s.x);
            if (p.norm_h != none) inverse_rms(ah, s.h);
        }
        real* opened = scratch;
        V total{};
        for (int64_t u = 0; u < width; u += L) {
            const Gates gate = gates<merged>(u, ax, ah, r, s);
            const V f = sigmoid<real>(gate.pre[forget]), i = sigmoid<real>(gate.pre[input]),
                    o = sigmoid<real>(gate.pre[output]), g = tanh<real>(gate.pre[candidate]);
            const V next = f * load(c_before + u) + i * g;
            store<real>(c + u, next);
            store<real>(opened + u, o);
            total += next;
            if constexpr (merged) {
                store<real>(ah + 4 * u, f), store<real>(ah + 4 * u + L, i);
                store<real>(ah + 4 * u + 2 * L, o), store<real>(ah + 4 * u + 3 * L, g);
            }
        }
        s.mean_c = p.norm_c == layer ? sum<real>(total) / real(units) : real(0);
        s.c = 1;
        if (p.norm_c != none) {
            V squares{};
            for (int64_t u = 0; u < width; u += L) {
                const V v = centred(c, u, s.mean_c);
                squares += v * v;
            }
            s.c = 1 / std::sqrt(sum<real>(squares) / real(units) + real(p.eps));
        }
        for (int64_t u = 0; u < width; u += L) {
            const V shown = centred(c, u, s.mean_c) * s.c * load(r.gain_c + u) + load(r.bias_c + u);
            store<real>(h + u, load(opened + u) * tanh<real>(shown));
        }
    }

    // dh, dc: of this step's h and c in, dc of the c before out. Sums go to `d`, rows like `r`'s.
    template <bool merged>
    void backward(const real* ax, const real* ah, const Rows<real>& r, const real* c_before, const real* c,
                  const Statistics<real>& s, const real* dh, real* dc, real* dax, real* dah, const Rows<real>& d) {
        real *pre = merged ? dah : scratch.data, *opened = scratch + 4 * width, *dshown = scratch + 8 * width;
        const V one = V{} + real(1);
        V total{}, along{};
        for (int64_t u = 0; u < width; u += L) {  // through h = σ(o) tanh(N_c(c))
            const real* open = merged ? ah + 4 * u : opened + 4 * u;
            if constexpr (!merged) {
                const Gates gate = gates<merged>(u, ax, ah, r, s);
                for (int64_t k = 0; k < 3; ++k) store<real>(opened + 4 * u + k * L, sigmoid<real>(gate.pre[k]));
                store<real>(opened + 4 * u + candidate * L, tanh<real>(gate.pre[candidate]));
            }
            const V o = load(open + output * L), grad = load(dh + u), gain = load(r.gain_c + u);
            const V standard = centred(c, u, s.mean_c) * s.c, y = tanh<real>(standard * gain + load(r.bias_c + u));
            const V ds = grad * o * (one - y * y), w = ds * gain;
            store<real>(pre + 4 * u + output * L, grad * y * o * (one - o));
            store<real>(dshown + u, w);
            if (p.norm_c == none && !p.per_step) continue;
            add(d.bias_c + u, ds);
            add(d.gain_c + u, ds * standard);
            total += w;
            along += w * standard;
        }
        const real mean = p.norm_c == layer ? sum<real>(total) / real(units) : real(0);
        const real slope = p.norm_c != none ? sum<real>(along) / real(units) : real(0);
        V dots_x[4] = {}, dots_h[4] = {};
        for (int64_t u = 0; u < width; u += L) {  // through c = σ(f) c + σ(i) tanh(g)
            const real* open = merged ? ah + 4 * u : opened + 4 * u;
            const V f = load(open), i = load(open + input * L), g = load(open + candidate * L);
            const V through = load(dshown + u) - mean - centred(c, u, s.mean_c) * s.c * slope;
            const V grad = load(dc + u) + through * s.c * load(real_lanes + u);
            store<real>(dc + u, grad * f);
            const V dpre[4] = {grad * load(c_before + u) * f * (one - f), grad * g * i * (one - i),
                               load(pre + 4 * u + output * L), grad * i * (one - g * g)};
            for (int64_t k = 0; k < 4; ++k) {
                const int64_t at = 4 * u + k * L;
                store<real>(pre + at, dpre[k]);
                add(d.bias + at, dpre[k]);
                if constexpr (!merged) {
                    const V x = dpre[k] * load(ax + at) * s.x[k], h = dpre[k] * load(ah + at) * s.h[k];
                    add(d.gain_x + at, x);
                    add(d.gain_h + at, h);
                    dots_x[k] += x * load(r.gain_x + at);
                    dots_h[k] += h * load(r.gain_h + at);
                }
            }
        }
        if constexpr (!merged) {
            through_rms(pre, ax, r.gain_x, s.x, dots_x, p.norm_x, dax);
            through_rms(pre, ah, r.gain_h, s.h, dots_h, p.norm_h, dah);
        }
    }

  private:
    // da = r (u - â mean(u â)), with u = gain · dpre and â = a r
    void through_rms(const real* pre, const real* a, const real* gain, const real* inverse, const V* dots, int64_t norm,
                     real* da) const {
        real slopes[4] = {};
        if (norm != none) means(dots, slopes);
        for (int64_t u = 0; u < width; u += L)
            for (int64_t k = 0; k < 4; ++k) {
                const int64_t at = 4 * u + k * L;
                store<real>(da + at, inverse[k] * (load(pre + at) * load(gain + at) -
                                                   load(a + at) * (inverse[k] * slopes[k])));
            }
    }

    static void add(const real* to, V v) { store<real>(const_cast<real*>(to), load(to) + v); }

    Buffer<real> real_lanes, scratch;
};
