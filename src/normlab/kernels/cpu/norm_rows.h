// Rows standardised (x - mean) / sqrt(variance + eps), or only divided by sqrt(mean(x²) + eps), then gain and bias.
#pragma once
#include "norm_problem.h"

// Σ of values of `size` numbers, in four sums at once: faster, and more exact than one
template <class real, class Value> [[gnu::always_inline]] inline real sum_of(const real* x, int64_t size, Value value) {
    constexpr int64_t step = lanes<real>;
    Vector<real> s0{}, s1{}, s2{}, s3{};
    int64_t i = 0;
    for (; i + 4 * step <= size; i += 4 * step) {
        s0 += value(load(x + i)), s1 += value(load(x + i + step));
        s2 += value(load(x + i + 2 * step)), s3 += value(load(x + i + 3 * step));
    }
    for (; i + step <= size; i += step) s0 += value(load(x + i));
    real rest = 0;
    if (i < size) {
        Vector<real> last = value(load_some(x + i, size - i));
        real parts[step];
        store(parts, last);
        for (int64_t k = 0; k < size - i; ++k) rest += parts[k];
    }
    return sum<real>((s0 + s1) + (s2 + s3)) + rest;
}

template <class real> struct Found {
    real mean, scale;  // y = (x - mean) · scale
};

template <class real, bool centred> inline Found<real> statistics(const real* x, int64_t size, double eps) {
    real mean = 0;
    if (centred) mean = sum_of(x, size, [](Vector<real> v) { return v; }) / real(size);
    const real squares = sum_of(x, size, [mean](Vector<real> v) {
        const Vector<real> d = centred ? v - mean : v;
        return d * d;
    });
    return {mean, real(1) / std::sqrt(squares / real(size) + real(eps))};
}

template <class real, bool centred>
void rows_forward(const Rows& r, const real* x, Affine<real> affine, double eps, real* y, Found<real>* found,
                  int64_t chunk) {
    const bool gained = affine.gain, biased = affine.bias;
    int64_t part = 0;
    for (int64_t n = r.from(chunk) * r.parts; n < r.from(chunk + 1) * r.parts; ++n, part = part + 1 == r.parts ? 0 : part + 1) {
        const int64_t first = part * r.width;
        const real* from = x + n * r.block();
        real* to = y + n * r.block();
        const Found<real> f = statistics<real, centred>(from, r.block(), eps);
        if (found) found[n] = f;
        const auto standard = [&](Vector<real> v) { return (centred ? v - f.mean : v) * f.scale; };
        if (r.inner == 1) {
            const real *gain = affine.gain + first, *bias = affine.bias + first;
            each_vector<real>(r.width, [&](int64_t i, auto get, auto put) {
                Vector<real> v = standard(get(from + i));
                if (gained) v *= get(gain + i);
                if (biased) v += get(bias + i);
                put(to + i, v);
            });
        } else {
            for (int64_t c = 0; c < r.width; ++c) {
                const real gain = gained ? affine.gain[first + c] : 1, bias = biased ? affine.bias[first + c] : 0;
                each_vector<real>(r.inner, [&](int64_t i, auto get, auto put) {
                    put(to + c * r.inner + i, standard(get(from + c * r.inner + i)) * gain + bias);
                });
            }
        }
    }
}

// dx = scale · (g - mean(g) - x̂ · mean(g · x̂)) with g = dy · gain, where only centred rows have the mean of g.
template <class real, bool centred> struct RowsBackward {
    const Rows& r;
    const real *x, *dy;
    const real* gain;
    const Found<real>* found;
    real* dx;  // null if nobody needs it
    AffineGradients<real> sums;

    void run(int64_t chunk) const {
        const int64_t from = r.from(chunk) * r.parts, to = r.from(chunk + 1) * r.parts;
        RowSums<real> of_gain(sums.gain, chunk, r.channels()), of_bias(sums.bias, chunk, r.channels());
        real *dgain = of_gain.now(), *dbias = of_bias.now();
        int64_t part = 0;
        for (int64_t n = from; n < to; ++n, part = part + 1 == r.parts ? 0 : part + 1) {
            const int64_t first = part * r.width;
            const Totals t = r.inner == 1 ? last(n, gain ? gain + first : nullptr, dgain ? dgain + first : nullptr,
                                                 dbias ? dbias + first : nullptr)
                                          : planes(n, first, dgain, dbias);
            if (dx) write(n, first, t);
            if ((n + 1) % (RowSums<real>::block * r.parts) == 0) of_gain.close(), of_bias.close();
        }
        of_gain.close(), of_bias.close();
    }

  private:
    struct Totals {
        real g, gx;  // Σ g, Σ g · x̂
    };

    Vector<real> standard(const Found<real>& f, Vector<real> v) const { return (centred ? v - f.mean : v) * f.scale; }

    // channels last: [width]
    Totals last(int64_t n, const real* gain, real* dgain, real* dbias) const {
        const Found<real> f = found[n];
        const real *from = x + n * r.width, *up = dy + n * r.width;
        Vector<real> g{}, gx{};
        each_vector<real>(r.width, [&](int64_t i, auto get, auto put) {
            // a row's end is filled up with 0 in dy, so that what stands there counts nothing
            const Vector<real> d = get(up + i), xhat = standard(f, get(from + i)), product = d * xhat;
            if (dgain) put(dgain + i, get(dgain + i) + product);
            if (dbias) put(dbias + i, get(dbias + i) + d);
            if (gain) {
                const Vector<real> w = get(gain + i);
                if (centred) g += d * w;
                gx += product * w;
            } else {
                if (centred) g += d;
                gx += product;
            }
        });
        return {sum<real>(g), sum<real>(gx)};
    }

    // channels first: [width, inner]
    Totals planes(int64_t n, int64_t first, real* dgain, real* dbias) const {
        const Found<real> f = found[n];
        const real *from = x + n * r.block(), *up = dy + n * r.block();
        Totals t{};
        for (int64_t c = 0; c < r.width; ++c) {
            Vector<real> g{}, gx{};
            each_vector<real>(r.inner, [&](int64_t i, auto get, auto) {
                const Vector<real> d = get(up + c * r.inner + i);
                g += d, gx += d * standard(f, get(from + c * r.inner + i));
            });
            const real one = sum<real>(g), two = sum<real>(gx), weight = gain ? gain[first + c] : 1;
            if (dgain) dgain[first + c] += two;
            if (dbias) dbias[first + c] += one;
            t.g += one * weight, t.gx += two * weight;
        }
        return t;
    }

    void write(int64_t n, int64_t first, Totals t) const {
        const Found<real> f = found[n];
        const real size = real(r.block()), mean = t.g / size, slope = t.gx / size;
        const real *from = x + n * r.block(), *up = dy + n * r.block();
        real* to = dx + n * r.block();
        const auto value = [&](Vector<real> g, Vector<real> v) {
            const Vector<real> less = g - standard(f, v) * slope;
            return (centred ? less - mean : less) * f.scale;
        };
        if (r.inner == 1) {
            const real* weights = gain ? gain + first : nullptr;
            each_vector<real>(r.width, [&](int64_t i, auto get, auto put) {
                Vector<real> g = get(up + i);
                if (weights) g *= get(weights + i);
                put(to + i, value(g, get(from + i)));
            });
        } else {
            for (int64_t c = 0; c < r.width; ++c) {
                const real weight = gain ? gain[first + c] : 1;
                each_vector<real>(r.inner, [&](int64_t i, auto get, auto put) {
                    put(to + c * r.inner + i, value(get(up + c * r.inner + i) * weight, get(from + c * r.inner + i)));
                });
            }
        }
    }
};
