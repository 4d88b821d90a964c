// Batch norm of real rows as a differentiable operation.
#pragma once
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/where.h>

#include "norm_batch.h"
#include "norm_tensors.h"

namespace {

struct BatchStatistics {
    Tensor found;   // [2, C]: mean, and 1 / √(variance + eps)
    int64_t count;  // rows that they are of; 0: they are constants
};

Rows whole_rows(const Tensor& x) { return rows_of(x, 1, false); }

// The running statistics, [C] each, which may be parts of other tensors
template <class real> struct Running {
    Running(const Tensor& mean, const Tensor& variance)
        : mean(mean.accessor<real, 1>()), variance(variance.accessor<real, 1>()) {}

    void use(Tensor& found, double eps) const {
        real* to = changed<real>(found);
        const int64_t channels = mean.size(0);
        for (int64_t c = 0; c < channels; ++c)
            to[c] = mean[c], to[channels + c] = real(1 / std::sqrt(double(variance[c]) + eps));
    }

    void move(const Gathered& g, double momentum) {
        for (int64_t c = 0; c < mean.size(0); ++c) {
            mean[c] += real(momentum * (g.mean[c] - mean[c]));
            variance[c] += real(momentum * (g.m2[c] / double(g.count - 1) - variance[c]));
        }
    }

    at::TensorAccessor<real, 1> mean, variance;
};

template <class real> Gathered gather_all(const Tensor& x, const Tensor& mask) {
    const Rows r = whole_rows(x);
    std::vector<Gathered> parts(r.chunks, Gathered(r.channels()));
    each_chunk(r, [&](int64_t c) { parts[c] = gather(r, data<real>(x), data<bool>(mask), c); });
    for (int64_t k = 1; k < r.chunks; ++k)
        parts[0].add(parts[k].count, [&](size_t c, double& mean, double& m2) { mean = parts[k].mean[c], m2 = parts[k].m2[c]; });
    return std::move(parts[0]);
}

// Those of the real rows, which then move the running ones; without a momentum, or of fewer than two rows, these.
BatchStatistics batch_statistics(const Tensor& x, const Tensor& mask, const Tensor& mean, const Tensor& variance,
                                 std::optional<double> momentum, double eps) {
    BatchStatistics out{at::empty({2, x.size(-1)}, x.options()), 0};
    by_type(x, [&](auto type) {
        using real = decltype(type);
        Running<real> running(mean, variance);
        if (!momentum) return running.use(out.found, eps);
        const Gathered g = gather_all<real>(x, mask);
        if (g.count < 2) return running.use(out.found, eps);
        out.count = g.count;
        real* to = changed<real>(out.found);
        const size_t channels = g.mean.size();
        for (size_t c = 0; c < channels; ++c)
            to[c] = real(g.mean[c]), to[channels + c] = real(1 / std::sqrt(g.m2[c] / double(g.count) + eps));
        if (*momentum == 0) return;
        running.move(g, *momentum);
        for (const Tensor* changed : {&mean, &variance}) changed->unsafeGetTensorImpl()->bump_version();
    });
    return out;
}

template <class real> std::vector<real> slopes(const Tensor& found, const Tensor& gain) {
    const int64_t channels = found.size(1);
    const real *scale = data<real>(found) + channels, *weights = data<real>(gain);
    std::vector<real> out(scale, scale + channels);
    if (weights)
        for (int64_t c = 0; c < channels; ++c) out[c] *= weights[c];
    return out;
}

Tensor batch_now(const Tensor& x, const Tensor& mask, const Tensor& gain, const Tensor& bias, const Tensor& found) {
    const Rows r = whole_rows(x);
    const Tensor y = at::empty(x.sizes(), x.options());
    by_type(x, [&](auto type) {
        using real = decltype(type);
        const auto slope = slopes<real>(found, gain);
        const real *from = data<real>(x), *mean = data<real>(found), *scale = slope.data(), *shift = data<real>(bias);
        const std::vector<real> none(shift ? 0 : r.channels());
        if (!shift) shift = none.data();
        each_chunk(r, [&](int64_t c) {
            write_rows(r, data<bool>(mask), changed<real>(y), c, [=](int64_t at, int64_t i, auto get) {
                return (get(from + at) - get(mean + i)) * get(scale + i) + get(shift + i);
            });
        });
    });
    return y;
}

struct BatchGradients {
    Tensor x, gain, bias;
};

BatchGradients batch_gradients(const Tensor& x, const Tensor& mask, const Tensor& gain, const Tensor& dy,
                               const BatchStatistics& s, const std::vector<bool>& wanted) {
    const Rows r = whole_rows(x);
    const int64_t channels = r.channels();
    const auto room = [&](bool needed, at::IntArrayRef sizes) { return needed ? at::empty(sizes, x.options()) : Tensor(); };
    const BatchGradients out{room(wanted[0], x.sizes()), room(wanted[1], {channels}), room(wanted[2], {channels})};
    by_type(x, [&](auto type) {
        using real = decltype(type);
        const real *from = data<real>(x), *up = data<real>(dy), *mean = data<real>(s.found), *scale = mean + channels;
        const bool* real_rows = data<bool>(mask);
        std::vector<double> sums(2 * r.chunks * channels);
        double *dys = sums.data(), *products = dys + r.chunks * channels;
        if (s.count || wanted[1] || wanted[2])
            each_chunk(r, [&](int64_t k) {
                sum_gradients(r, from, up, real_rows, mean, dys + k * channels, products + k * channels, k);
            });
        for (int64_t k = 1; k < r.chunks; ++k)
            for (int64_t c = 0; c < channels; ++c)
                dys[c] += dys[k * channels + c], products[c] += products[k * channels + c];
        for (int64_t c = 0; c < channels; ++c) {
            if (wanted[1]) changed<real>(out.gain)[c] = real(products[c] * scale[c]);
            if (wanted[2]) changed<real>(out.bias)[c] = real(dys[c]);
        }
        if (!wanted[0]) return;
        const auto slope = slopes<real>(s.found, gain);
        std::vector<real> flat(channels), tilt(channels);  // what an equal dy in all rows, or one along x, loses
        for (int64_t c = 0; s.count && c < channels; ++c) {
            flat[c] = real(dys[c] / double(s.count));
            tilt[c] = real(products[c] / double(s.count) * scale[c] * scale[c]);
        }
        const real *by = slope.data(), *less = flat.data(), *along = tilt.data();
        const auto with = [&](auto value) {
            each_chunk(r, [&](int64_t k) { write_rows(r, real_rows, changed<real>(out.x), k, value); });
        };
        if (s.count)
            with([=](int64_t at, int64_t i, auto get) {
                const Vector<real> d = get(from + at) - get(mean + i);
                return (get(up + at) - get(less + i) - d * get(along + i)) * get(by + i);
            });
        else with([=](int64_t at, int64_t i, auto get) { return get(up + at) * get(by + i); });
    });
    return out;
}

// The same in operations that can be differentiated again
BatchGradients batch_again(const Tensor& any, const Tensor& any_mask, const Tensor& gain, const Tensor& any_dy,
                           const BatchStatistics& s, double eps) {
    const Tensor mask = any_mask.reshape({-1, 1}), real = mask.to(any.scalar_type());
    const auto kept = [&](const Tensor& t) { return at::where(mask, t.reshape({real.size(0), any.size(-1)}), 0); };
    const Tensor x = kept(any), dy = kept(any_dy), g = gain.defined() ? dy * gain : dy;
    const auto mean = [&](const Tensor& t) { return t.sum({0}) / double(s.count); };
    const Tensor less = (x - (s.count ? mean(x) : s.found[0])) * real;
    const Tensor scale = s.count ? at::rsqrt(mean(less.square()) + eps) : s.found[1], standard = less * scale;
    const Tensor dx = s.count ? g - mean(g) * real - standard * mean(g * standard) : g;
    return {(dx * scale).view(any.sizes()), (dy * standard).sum({0}), dy.sum({0})};
}

struct StandardiseBatch : torch::autograd::Function<StandardiseBatch> {
    static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& mask, const Optional& some_gain,
                          const Optional& some_bias, const Tensor& found, int64_t count, double eps) {
        at::AutoDispatchBelowADInplaceOrView guard;
        const Tensor gain = defined(some_gain), bias = defined(some_bias);
        ctx->save_for_backward({x, mask, gain, found});
        ctx->saved_data["options"] = std::vector<int64_t>{count, bias.defined()};
        ctx->saved_data["eps"] = eps;
        return batch_now(x, mask, gain, bias, found);
    }

    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        const auto saved = ctx->get_saved_variables();
        const auto options = ctx->saved_data["options"].toIntVector();
        const Tensor &x = saved[0], &mask = saved[1], &gain = saved[2], &dy = gradients[0];
        const BatchStatistics s{saved[3], options[0]};
        const auto edges = needed(ctx, {true, true, gain.defined(), options[1] != 0});
        const std::vector<bool> wanted{edges[0], edges[2], edges[3]};
        const auto out = at::GradMode::is_enabled()
                             ? batch_again(x, mask, gain, dy, s, ctx->saved_data["eps"].toDouble())
                             : batch_gradients(x, mask, gain, dy.contiguous(), s, wanted);
        const auto given = [&](int i, const Tensor& t) { return wanted[i] ? t : Tensor(); };
        return {given(0, out.x), Tensor(), given(1, out.gain), given(2, out.bias), Tensor(), Tensor(), Tensor()};
    }
};

Tensor standardise_batch(const Tensor& any, const Tensor& any_mask, const Optional& some_gain,
                         const Optional& some_bias, const Tensor& mean, const Tensor& variance,
                         std::optional<double> momentum, double eps) {
    const Tensor x = any.contiguous(), mask = any_mask.contiguous(), gain = whole(some_gain), bias = whole(some_bias);
    check(x, false, 1, {&gain, &bias, &mean, &variance}, {});
    TORCH_CHECK(mask.sizes() == x.sizes().slice(0, x.dim() - 1), "x of shape ", x.sizes(),
                " needs a mask of its size without channels, not of ", mask.sizes());
    const auto s = batch_statistics(x, mask, mean, variance, momentum, eps);
    if (recorded({&x, &gain, &bias}))
        return StandardiseBatch::apply(x, mask, given(gain), given(bias), s.found, s.count, eps);
    return batch_now(x, mask, gain, bias, s.found);
}

}  // namespace
