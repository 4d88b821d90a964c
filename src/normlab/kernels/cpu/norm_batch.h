// Batch norm of the real rows of x [rows, channels], contiguous. Padded rows are not read, and are 0 in what is written.
#pragma once
#include <type_traits>

#include "norm_problem.h"

constexpr int64_t rows_of_block = 64;  // summed alone, because one long sum would round more

// Calls work(rows, count) for blocks of the numbers of a chunk's real rows.
template <class Work> void each_block(const Rows& r, const bool* mask, int64_t chunk, Work work) {
    int64_t rows[rows_of_block], count = 0;
    for (int64_t n = r.from(chunk); n < r.from(chunk + 1); ++n) {
        rows[count] = n;
        count += mask[n];
        if (count == rows_of_block) work(rows, count), count = 0;
    }
    if (count) work(rows, count);
}

template <class real> struct Two {
    Vector<real> one, other;
};

// Two sums a channel over a block of rows, of what term(offset in x, channel, load) gives.
// The last vector overlaps the one before instead of being filled up: it sums the same numbers in the same order.
template <class real, class Term>
void sum_columns(const int64_t* rows, int64_t count, int64_t channels, real* one, real* other, Term term) {
    constexpr int64_t step = lanes<real>;
    constexpr int at_once = 4;  // vectors: enough sums that none waits for its last addition
    const auto tile = [&](auto vectors, int64_t c, auto get, auto put) {
        Vector<real> a[vectors]{}, b[vectors]{};
        for (int64_t k = 0; k < count; ++k) {
            const int64_t row = rows[k] * channels;
            for (int i = 0; i < vectors; ++i) {
                const Two<real> t = term(row + c + i * step, c + i * step, get);
                a[i] += t.one, b[i] += t.other;
            }
        }
        for (int i = 0; i < vectors; ++i) put(one + c + i * step, a[i]), put(other + c + i * step, b[i]);
    };
    const auto get = [](const real* p) { return load(p); };
    const auto put = [](real* p, Vector<real> v) { store(p, v); };
    const auto single = std::integral_constant<int, 1>{};
    int64_t c = 0;
    for (; c + at_once * step <= channels; c += at_once * step) tile(std::integral_constant<int, at_once>{}, c, get, put);
    for (; c + step <= channels; c += step) tile(single, c, get, put);
    if (c == channels) return;
    if (channels > step) return tile(single, channels - step, get, put);
    tile(single, 0, [=](const real* p) { return load_some(p, channels); },
         [=](real* p, Vector<real> v) { store_some(p, v, channels); });
}

// How many rows there are, and the mean and Σ (x - mean)² of each channel.
struct Gathered {
    explicit Gathered(int64_t channels) : mean(channels), m2(channels) {}

    // Becomes the union with `more` rows, of which other(channel, mean, m2) tells (Chan et al. 1979).
    template <class Other> void add(int64_t more, Other other) {
        if (more == 0) return;
        const double before = double(count), weight = double(more) / double(count + more);
        for (size_t c = 0; c < mean.size(); ++c) {
            double m = 0, s = 0;
            other(c, m, s);
            const double d = m - mean[c];
            mean[c] += d * weight;
            m2[c] += s + d * d * before * weight;
        }
        count += more;
    }

    int64_t count = 0;
    std::vector<double> mean, m2;
};

// The statistics of a chunk's real rows, which are read once. Deviations are taken from the mean of the rows before
// them: where that is far from theirs, so is the variance large, and what rounding loses is small beside it.
template <class real> Gathered gather(const Rows& r, const real* x, const bool* mask, int64_t chunk) {
    const int64_t channels = r.channels();
    Gathered found(channels);
    std::vector<real> from(channels), sums(channels), squares(channels);
    each_block(r, mask, chunk, [&](const int64_t* rows, int64_t count) {
        const auto add_up = [&] {
            sum_columns(rows, count, channels, sums.data(), squares.data(), [&](int64_t at, int64_t c, auto get) {
                const Vector<real> d = get(x + at) - get(from.data() + c);
                return Two<real>{d, d * d};
            });
        };
        if (found.count == 0) {  // no row is before them: from one of them to their own mean
            std::memcpy(from.data(), x + rows[0] * channels, sizeof(real) * channels);
            add_up();
            for (int64_t c = 0; c < channels; ++c) from[c] += sums[c] / real(count);
        }
        add_up();
        const double share = 1 / double(count);
        found.add(count, [&](size_t c, double& mean, double& m2) {
            const double sum = sums[c], left = squares[c] - sum * sum * share;
            mean = from[c] + sum * share;
            m2 = left < 0 ? 0 : left;
        });
        for (int64_t c = 0; c < channels; ++c) from[c] = real(found.mean[c]);
    });
    return found;
}

// Writes value(offset in x, channel, load) to a chunk's real rows, and 0 to its padded ones.
template <class real, class Value>
void write_rows(const Rows& r, const bool* mask, real* to, int64_t chunk, Value value) {
    const int64_t width = r.channels();
    for (int64_t n = r.from(chunk); n < r.from(chunk + 1); ++n) {
        const int64_t row = n * width;
        if (!mask[n]) std::memset(to + row, 0, sizeof(real) * width);
        else each_vector<real>(width, [&](int64_t i, auto get, auto put) { put(to + row + i, value(row + i, i, get)); });
    }
}

// Σ dy and Σ dy · (x - mean) of each channel over a chunk's real rows
template <class real>
void sum_gradients(const Rows& r, const real* x, const real* dy, const bool* mask, const real* mean, double* dys,
                   double* products, int64_t chunk) {
    const int64_t channels = r.channels();
    std::vector<real> one(channels), other(channels);
    each_block(r, mask, chunk, [&](const int64_t* rows, int64_t count) {
        sum_columns(rows, count, channels, one.data(), other.data(), [&](int64_t at, int64_t c, auto get) {
            const Vector<real> d = get(dy + at);
            return Two<real>{d, d * (get(x + at) - get(mean + c))};
        });
        for (int64_t c = 0; c < channels; ++c) dys[c] += one[c], products[c] += other[c];
    });
}
