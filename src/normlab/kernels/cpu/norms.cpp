// The norms' kernels as differentiable operations of PyTorch; rows.py says what they compute.
#include <torch/library.h>

#include "norm_batch_operation.h"
#include "norm_positions.h"
#include "norm_rows.h"
#include "norm_tensors.h"
#include "norm_values.h"

namespace {

// What is standardised: blocks of channels of each row with its positions, or of each position alone.
struct Blocks {
    int64_t parts;
    bool channels_first, centred, alone;

    Rows rows(const Tensor& x) const { return rows_of(x, parts, channels_first); }
    at::DimVector axes() const { return alone ? at::DimVector{2} : at::DimVector{2, 3}; }  // of [rows, parts, width, inner]
    std::vector<int64_t> found(const Rows& r) const { return {r.rows, r.parts, 2, alone ? r.inner : 1}; }
};

struct Standardised {
    Tensor y, found;
};

template <bool keep>
Standardised standardise_now(const Tensor& x, const Tensor& gain, const Tensor& bias, const Blocks& blocks, double eps) {
    const Rows r = blocks.rows(x);
    Standardised out{at::empty(x.sizes(), x.options()), keep ? at::empty(blocks.found(r), x.options()) : Tensor()};
    by_type(x, [&](auto type) {
        using real = decltype(type);
        const Affine<real> affine{data<real>(gain), data<real>(bias)};
        const auto run = [&](auto forward, auto* found) {
            each_chunk(r, [&](int64_t c) { forward(r, data<real>(x), affine, eps, changed<real>(out.y), found, c); });
        };
        auto* found = reinterpret_cast<Found<real>*>(changed<real>(out.found));
        if (blocks.alone) run(positions_forward<real>, changed<real>(out.found));
        else run(blocks.centred ? rows_forward<real, true> : rows_forward<real, false>, found);
    });
    return out;
}

// The gradients of x, gain and bias in operations that can be differentiated again
variable_list standardise_again(const Tensor& any, const Tensor& gain, const Tensor& dy, const Blocks& blocks, double eps) {
    const Rows r = blocks.rows(any);
    const std::vector<int64_t> shape{r.rows, r.parts, r.width, r.inner};
    const auto mean = [&](const Tensor& t) { return t.mean(blocks.axes(), true); };
    const Tensor x = any.reshape(shape), less = blocks.centred ? x - mean(x) : x;
    const Tensor scale = at::rsqrt(mean(less.square()) + eps), standard = less * scale;
    const Tensor g = (gain.defined() ? dy * beside(gain, any, blocks.channels_first) : dy).reshape(shape);
    const Tensor flat = g - standard * mean(g * standard);
    const Tensor dx = ((blocks.centred ? flat - mean(g) : flat) * scale).view(any.sizes());
    return {dx, over_channels(dy * standard.view(any.sizes()), blocks.channels_first), over_channels(dy, blocks.channels_first)};
}

struct Standardise : torch::autograd::Function<Standardise> {
    static Tensor forward(AutogradContext* ctx, const Tensor& x, const Optional& some_gain, const Optional& some_bias,
                          const Blocks& blocks, double eps) {
        at::AutoDispatchBelowADInplaceOrView guard;
        const Tensor gain = defined(some_gain), bias = defined(some_bias);
        auto out = standardise_now<true>(x, gain, bias, blocks, eps);
        ctx->save_for_backward({x, gain, out.found});
        ctx->saved_data["options"] =
            std::vector<int64_t>{blocks.parts, blocks.channels_first, blocks.centred, blocks.alone, bias.defined()};
        ctx->saved_data["eps"] = eps;
        return out.y;
    }

    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        const auto saved = ctx->get_saved_variables();
        const auto options = ctx->saved_data["options"].toIntVector();
        const Tensor &x = saved[0], &gain = saved[1], &found = saved[2];
        const Blocks blocks{options[0], options[1] != 0, options[2] != 0, options[3] != 0};
        const auto wanted = needed(ctx, {true, gain.defined(), options[4] != 0});
        variable_list out(5);
        if (at::GradMode::is_enabled()) {
            const auto again = standardise_again(x, gain, gradients[0], blocks, ctx->saved_data["eps"].toDouble());
            for (int i = 0; i < 3; ++i)
                if (wanted[i]) out[i] = again[i];
            return out;
        }
        const Rows r = blocks.rows(x);
        const Tensor dy = gradients[0].contiguous();
        Sums dgain(wanted[1], x, r), dbias(wanted[2], x, r);
        if (wanted[0]) out[0] = at::empty(x.sizes(), x.options());
        by_type(x, [&](auto type) {
            using real = decltype(type);
            const real *from = data<real>(x), *up = data<real>(dy), *weights = data<real>(gain), *f = data<real>(found);
            const auto* rows = reinterpret_cast<const Found<real>*>(f);
            const AffineGradients<real> sums{dgain.begin<real>(), dbias.begin<real>()};
            const auto run = [&](auto work) { each_chunk(r, [&](int64_t c) { work.run(c); }); };
            real* dx = changed<real>(out[0]);
            if (blocks.alone) run(PositionsBackward<real>{r, from, up, weights, f, dx, sums});
            else if (blocks.centred) run(RowsBackward<real, true>{r, from, up, weights, rows, dx, sums});
            else run(RowsBackward<real, false>{r, from, up, weights, rows, dx, sums});
            dgain.end<real>(), dbias.end<real>();
        });
        out[1] = dgain.result, out[2] = dbias.result;
        return out;
    }
};

template <bool channels_first, bool centred, bool alone = false>
Tensor standardise(const Tensor& any, const Optional& some_gain, const Optional& some_bias, int64_t parts, double eps) {
    const Tensor x = any.contiguous(), gain = whole(some_gain), bias = whole(some_bias);
    check(x, channels_first, parts, {&gain, &bias}, {});
    const Blocks blocks{parts, channels_first, centred, alone};
    if (recorded({&x, &gain, &bias})) return Standardise::apply(x, given(gain), given(bias), blocks, eps);
    return standardise_now<false>(x, gain, bias, blocks, eps).y;
}

struct Squashing {
    bool channels_first, error_function;
};

template <class real> Inside<real> inside_of(const Tensor& alpha, const Tensor& shift) {
    return {*data<real>(alpha), shift.defined() ? *data<real>(shift) : real(0)};
}

struct Squashed {
    Tensor y, kept;
};

Squashed squash_now(const Tensor& x, const Tensor& alpha, const Tensor& shift, const Tensor& gain, const Tensor& bias,
                    const Squashing& options, bool keep) {
    const Rows r = rows_of(x, 1, options.channels_first);
    const Squashed out{at::empty(x.sizes(), x.options()), keep ? at::empty(x.sizes(), x.options()) : Tensor()};
    by_type(x, [&](auto type) {
        using real = decltype(type);
        const Affine<real> affine{data<real>(gain), data<real>(bias)};
        const Inside<real> in = inside_of<real>(alpha, shift);
        const auto run = [&](auto forward) {
            each_chunk(r, [&](int64_t c) {
                forward(r, data<real>(x), in, affine, changed<real>(out.y), changed<real>(out.kept), c);
            });
        };
        if (options.error_function) run(keep ? values_forward<real, Erf, true> : values_forward<real, Erf, false>);
        else run(keep ? values_forward<real, Tanh, true> : values_forward<real, Tanh, false>);
    });
    return out;
}

// The gradients of x, alpha, shift, gain and bias in operations that can be differentiated again
variable_list squash_again(const Tensor& x, const Tensor& alpha, const Tensor& shift, const Tensor& gain,
                           const Tensor& dy, bool channels_first, bool error_function) {
    const Tensor z = shift.defined() ? x * alpha + shift : x * alpha;
    const Tensor y = error_function ? z.erf() : z.tanh();
    const Tensor slope = error_function ? (-z.square()).exp() * M_2_SQRTPI : 1 - y.square();
    const Tensor dz = (gain.defined() ? dy * beside(gain, x, channels_first) : dy) * slope;
    const auto like = [](const Tensor& t, const Tensor& value) { return t.defined() ? value.sum().view_as(t) : Tensor(); };
    return {dz * alpha, like(alpha, dz * x), like(shift, dz), over_channels(dy * y, channels_first), over_channels(dy, channels_first)};
}

struct Squash : torch::autograd::Function<Squash> {
    static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& alpha, const Optional& some_shift,
                          const Optional& some_gain, const Optional& some_bias, bool channels_first, bool error_function) {
        at::AutoDispatchBelowADInplaceOrView guard;
        const Tensor shift = defined(some_shift), gain = defined(some_gain), bias = defined(some_bias);
        const auto out = squash_now(x, alpha, shift, gain, bias, {channels_first, error_function}, true);
        ctx->save_for_backward({x, alpha, shift, gain, out.kept});
        ctx->saved_data["options"] = std::vector<int64_t>{channels_first, error_function, bias.defined()};
        return out.y;
    }

    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        const auto saved = ctx->get_saved_variables();
        const auto options = ctx->saved_data["options"].toIntVector();
        const Tensor &x = saved[0], &alpha = saved[1], &shift = saved[2], &gain = saved[3];
        const bool channels_first = options[0], error_function = options[1];
        const Rows r = rows_of(x, 1, channels_first);
        const auto wanted = needed(ctx, {true, true, shift.defined(), gain.defined(), options[2] != 0});
        variable_list out(7);
        if (at::GradMode::is_enabled()) {
            const auto again = squash_again(x, alpha, shift, gain, gradients[0], channels_first, error_function);
            for (int i = 0; i < 5; ++i)
                if (wanted[i]) out[i] = again[i];
            return out;
        }
        const Tensor dy = gradients[0].contiguous();
        Sums dgain(wanted[3], x, r), dbias(wanted[4], x, r);
        if (wanted[1]) out[1] = at::empty(alpha.sizes(), x.options());
        if (wanted[2]) out[2] = at::empty(shift.sizes(), x.options());
        if (wanted[0]) out[0] = at::empty(x.sizes(), x.options());
        by_type(x, [&](auto type) {
            using real = decltype(type);
            const AffineGradients<real> sums{dgain.begin<real>(), dbias.begin<real>()};
            const auto in = inside_of<real>(alpha, shift);
            std::vector<double> inside(2 * r.chunks);
            const auto run = [&](auto work) { each_chunk(r, [&](int64_t c) { work.run(c); }); };
            const real *from = data<real>(x), *kept = data<real>(saved[4]), *up = data<real>(dy), *weights = data<real>(gain);
            real* dx = changed<real>(out[0]);
            if (error_function) run(ValuesBackward<real, Erf>{r, from, kept, up, weights, in, dx, sums, inside.data()});
            else run(ValuesBackward<real, Tanh>{r, from, kept, up, weights, in, dx, sums, inside.data()});
            dgain.end<real>(), dbias.end<real>();
            for (int i = 0; i < 2; ++i) {
                double total = 0;
                for (int64_t c = 0; c < r.chunks; ++c) total += inside[2 * c + i];
                if (wanted[1 + i]) *changed<real>(out[1 + i]) = real(total);
            }
        });
        out[3] = dgain.result, out[4] = dbias.result;
        return out;
    }
};

template <bool channels_first, bool error_function>
Tensor squash(const Tensor& any, const Tensor& some_alpha, const Optional& some_shift, const Optional& some_gain,
              const Optional& some_bias) {
    const Tensor x = any.contiguous(), alpha = some_alpha.contiguous(), shift = whole(some_shift);
    const Tensor gain = whole(some_gain), bias = whole(some_bias);
    check(x, channels_first, 1, {&gain, &bias}, {&alpha, &shift});
    if (recorded({&x, &alpha, &shift, &gain, &bias}))
        return Squash::apply(x, alpha, given(shift), given(gain), given(bias), channels_first, error_function);
    return squash_now(x, alpha, shift, gain, bias, {channels_first, error_function}, false).y;
}

template <class Each> void operations(Each each) {
    each("rescale_rows", standardise<false, false>), each("rescale_images", standardise<true, false>);
    each("standardise_rows", standardise<false, true>), each("standardise_positions", standardise<true, true, true>);
    each("tanh_rows", squash<false, false>), each("tanh_images", squash<true, false>);
    each("erf_rows", squash<false, true>), each("erf_images", squash<true, true>);
}

}  // namespace

TORCH_LIBRARY(normlab, library) {
    operations([&](const std::string& name, auto) {
        const bool squashes = name[0] == 't' || name[0] == 'e';
        const std::string schema = name + (squashes ? "(Tensor x, Tensor alpha, Tensor? shift, Tensor? gain, Tensor? bias)"
                                                    : "(Tensor x, Tensor? gain, Tensor? bias, int parts, float eps)");
        library.def((schema + " -> Tensor").c_str());
    });
    library.def("standardise_batch(Tensor x, Tensor mask, Tensor? gain, Tensor? bias, Tensor(a!) mean, "
                "Tensor(b!) variance, float? momentum, float eps) -> Tensor");
}

TORCH_LIBRARY_IMPL(normlab, AutogradCPU, library) {
    operations([&](const char* name, auto operation) { library.impl(name, operation); });
    library.impl("standardise_batch", standardise_batch);
}

TORCH_LIBRARY_IMPL(normlab, CPU, library) {
    operations([&](const char* name, auto operation) { library.impl(name, operation); });
    library.impl("standardise_batch", standardise_batch);
}
