// Tensors as the kernels' arguments, and what their differentiable operations share.
#pragma once
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include "norm_problem.h"

namespace {

using at::Tensor;
using Optional = std::optional<Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t grain = 16384;  // values for which another thread is worth its start

Rows rows_of(const Tensor& x, int64_t parts, bool channels_first) {
    const int64_t channels = x.size(channels_first ? 1 : -1);
    const int64_t rows = channels_first ? x.size(0) : x.numel() / std::max<int64_t>(channels, 1);
    const int64_t inner = channels_first ? x.numel() / std::max<int64_t>(rows * channels, 1) : 1;
    const int64_t chunks = std::min<int64_t>(at::get_num_threads(), x.numel() / grain);
    return {rows, parts, channels / parts, inner, std::max<int64_t>(1, std::min(rows, chunks))};
}

template <class Work> void each_chunk(const Rows& r, Work work) {
    if (r.chunks == 1) return work(0);
    at::parallel_for(0, r.chunks, 1, [&](int64_t from, int64_t to) {
        for (int64_t chunk = from; chunk < to; ++chunk) work(chunk);
    });
}

template <class real> const real* data(const Tensor& t) { return t.defined() ? t.const_data_ptr<real>() : nullptr; }
template <class real> real* changed(const Tensor& t) { return t.defined() ? t.mutable_data_ptr<real>() : nullptr; }

Tensor whole(const Optional& t) { return t.has_value() && t->defined() ? t->contiguous() : Tensor(); }

// What `Function::apply` wants in place of an undefined tensor
Optional given(const Tensor& t) { return t.defined() ? Optional(t) : Optional(); }
Tensor defined(const Optional& t) { return t.value_or(Tensor()); }

// Which gradients are needed, for inputs of which some are absent and then have no edge of the graph
std::vector<bool> needed(AutogradContext* ctx, const std::vector<bool>& present) {
    std::vector<bool> out;
    size_t edge = 0;
    for (const bool there : present) out.push_back(there && ctx->needs_input_grad(edge++));
    return out;
}

// A gradient per channel, which each chunk adds up for itself; they are added in their order.
struct Sums {
    Sums(bool wanted, const Tensor& x, const Rows& r) : chunks(r.chunks), channels(r.channels()) {
        if (!wanted) return;
        result = at::empty({channels}, x.options());
        rows = chunks == 1 ? result : at::empty({chunks, channels}, x.options());
    }

    template <class real> real* begin() {
        if (rows.defined()) std::memset(rows.mutable_data_ptr(), 0, sizeof(real) * chunks * channels);
        return changed<real>(rows);
    }

    template <class real> void end() {
        if (!rows.defined() || chunks == 1) return;
        const real* from = data<real>(rows);
        real* to = changed<real>(result);
        std::memcpy(to, from, sizeof(real) * channels);
        for (int64_t k = 1; k < chunks; ++k)
            for (int64_t c = 0; c < channels; ++c) to[c] += from[k * channels + c];
    }

    const int64_t chunks, channels;
    Tensor result, rows;
};

template <class Body> void by_type(const Tensor& x, Body body) {
    x.scalar_type() == at::kDouble ? body(double{}) : body(float{});
}

bool recorded(std::initializer_list<const Tensor*> tensors) {
    if (!at::GradMode::is_enabled()) return false;
    for (const Tensor* t : tensors)
        if (t->defined() && t->requires_grad()) return true;
    return false;
}

// A channel's values beside x, whose channels are its last axis or the one after the first
Tensor beside(const Tensor& values, const Tensor& x, bool channels_first) {
    std::vector<int64_t> shape(channels_first ? x.dim() - 1 : 1, 1);
    shape[0] = values.numel();
    return values.view(shape);
}

Tensor over_channels(const Tensor& values, bool channels_first) {
    const int64_t axis = channels_first ? 1 : values.dim() - 1;
    return values.transpose(0, axis).flatten(1).sum(1);
}

// Without this, values beside x would be read past their ends.
void check(const Tensor& x, bool channels_first, int64_t parts, std::initializer_list<const Tensor*> per_channel,
           std::initializer_list<const Tensor*> single) {
    TORCH_CHECK(x.dim() >= (channels_first ? 2 : 1), "x has no channels: its shape is ", x.sizes());
    const int64_t channels = x.size(channels_first ? 1 : -1);
    for (const Tensor* t : per_channel)
        TORCH_CHECK(!t->defined() || (t->dim() == 1 && t->numel() == channels), "x has ", channels, " channels at shape ",
                    x.sizes(), ", but its norm has values a channel of shape ", t->sizes());
    TORCH_CHECK(parts >= 1 && channels % parts == 0, channels, " channels can't be split into ", parts, " equal parts");
    for (const Tensor* t : single) TORCH_CHECK(!t->defined() || t->numel() == 1, "not one value: ", t->sizes());
}

}  // namespace
