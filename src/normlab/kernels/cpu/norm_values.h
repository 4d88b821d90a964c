// gain · f(alpha · x + shift) + bias, value by value, where f is tanh or erf.
#pragma once
#include "erf.h"
#include "norm_problem.h"

struct Tanh {
    template <class real> static Vector<real> value(Vector<real> z) { return tanh<real>(z); }
    template <class real> static Vector<real> slope(Vector<real>, Vector<real> y) { return real(1) - y * y; }
};

struct Erf {
    template <class real> static Vector<real> value(Vector<real> z) { return erf_of(z); }
    template <class real> static Vector<real> slope(Vector<real> z, Vector<real>) {
        return exponential<real>(-z * z) * real(1.1283791670955126);
    }
};

template <class real> struct Inside {
    real alpha, shift;
};

// `kept` gets the values of f for the backward pass; null: there will be none.
template <class real, class F, bool keep>
void values_forward(const Rows& r, const real* x, Inside<real> in, Affine<real> affine, real* y, real* kept,
                    int64_t chunk) {
    const bool gained = affine.gain, biased = affine.bias;
    for (int64_t n = r.from(chunk); n < r.from(chunk + 1); ++n) {
        if (r.inner == 1) {
            const int64_t at = n * r.row();
            each_vector<real>(r.row(), [&](int64_t i, auto get, auto put) {
                Vector<real> v = F::template value<real>(get(x + at + i) * in.alpha + in.shift);
                if (keep) put(kept + at + i, v);
                if (gained) v *= get(affine.gain + i);
                if (biased) v += get(affine.bias + i);
                put(y + at + i, v);
            });
        } else {
            for (int64_t c = 0; c < r.channels(); ++c) {
                const int64_t at = n * r.row() + c * r.inner;
                const real gain = gained ? affine.gain[c] : 1, bias = biased ? affine.bias[c] : 0;
                each_vector<real>(r.inner, [&](int64_t i, auto get, auto put) {
                    const Vector<real> v = F::template value<real>(get(x + at + i) * in.alpha + in.shift);
                    if (keep) put(kept + at + i, v);
                    put(y + at + i, v * gain + bias);
                });
            }
        }
    }
}

// The sums of a chunk over its values: of d · x and of d, the gradients of alpha and shift, where d is that of z.
template <class real, class F> struct ValuesBackward {
    const Rows& r;
    const real *x, *kept, *dy;
    const real* gain;
    Inside<real> in;
    real* dx;  // null if nobody needs it
    AffineGradients<real> sums;
    double* inside;  // [chunks, 2]

    void run(int64_t chunk) const {
        double alpha = 0, shift = 0;  // of as many numbers as x has
        RowSums<real> of_gain(sums.gain, chunk, r.channels()), of_bias(sums.bias, chunk, r.channels());
        real *dgain = of_gain.now(), *dbias = of_bias.now();
        for (int64_t n = r.from(chunk); n < r.from(chunk + 1); ++n) {
            Vector<real> a{}, s{};
            r.inner == 1 ? last(n, dgain, dbias, a, s) : planes(n, dgain, dbias, a, s);
            alpha += sum<real>(a), shift += sum<real>(s);
            if ((n + 1) % RowSums<real>::block == 0) of_gain.close(), of_bias.close();
        }
        of_gain.close(), of_bias.close();
        inside[2 * chunk] = alpha, inside[2 * chunk + 1] = shift;
    }

  private:
    Vector<real> slope(Vector<real> x, Vector<real> y) const {
        return F::template slope<real>(x * in.alpha + in.shift, y);
    }

    void last(int64_t n, real* dgain, real* dbias, Vector<real>& a, Vector<real>& s) const {
        const int64_t at = n * r.row();
        each_vector<real>(r.row(), [&](int64_t i, auto get, auto put) {
            const Vector<real> v = get(x + at + i), d = get(dy + at + i), y = get(kept + at + i);
            Vector<real> dz = d * slope(v, y);
            if (gain) dz *= get(gain + i);
            if (dgain) put(dgain + i, get(dgain + i) + d * y);
            if (dbias) put(dbias + i, get(dbias + i) + d);
            a += dz * v, s += dz;
            if (dx) put(dx + at + i, dz * in.alpha);
        });
    }

    void planes(int64_t n, real* dgain, real* dbias, Vector<real>& a, Vector<real>& s) const {
        for (int64_t c = 0; c < r.channels(); ++c) {
            const int64_t at = n * r.row() + c * r.inner;
            const real weight = gain ? gain[c] : 1;
            Vector<real> g{}, b{};
            each_vector<real>(r.inner, [&](int64_t i, auto get, auto put) {
                const Vector<real> v = get(x + at + i), d = get(dy + at + i), y = get(kept + at + i);
                const Vector<real> dz = d * slope(v, y) * weight;
                g += d * y, b += d, a += dz * v, s += dz;
                if (dx) put(dx + at + i, dz * in.alpha);
            });
            if (dgain) dgain[c] += sum<real>(g);
            if (dbias) dbias[c] += sum<real>(b);
        }
    }
};
