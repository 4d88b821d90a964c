// The C functions that Python calls; recurrence.py says what they compute.
#include "batch_backward.h"

namespace {

bool couples_examples(const Problem& p) { return p.norm_x == batch || p.norm_h == batch || p.norm_c == batch; }

// W_x x and W_h h are only added
bool merged(const Problem& p) { return p.norm_x == none && p.norm_h == none && !p.per_step; }

template <class real> int64_t saved_size(const Problem& p) {
    return couples_examples(p) ? Shape<real>(p).saved(p) : Saved<real>::size(p);
}

template <class real> int64_t statistics_size(const Problem& p) {
    return couples_examples(p) ? Shape<real>(p).statistics() : 0;
}

template <class real> void forward(const Problem& p, const Tensors<real>& in) {
    if (couples_examples(p)) return batch_forward(p, in);
    merged(p) ? rows_forward<real, true>(p, in) : rows_forward<real, false>(p, in);
}

template <class real> void backward(const Problem& p, const Tensors<real>& in, const Gradients<real>& out) {
    if (couples_examples(p)) return batch_backward(p, in, out);
    merged(p) ? rows_backward<real, true>(p, in, out) : rows_backward<real, false>(p, in, out);
}

}  // namespace

#define EXPORT(bits, real)                                                                                            \
    extern "C" int64_t lanes_##bits() { return lanes<real>; }                                                         \
    extern "C" int64_t saved_size_##bits(const Problem* p) { return saved_size<real>(*p); }                           \
    extern "C" int64_t statistics_size_##bits(const Problem* p) { return statistics_size<real>(*p); }               \
    extern "C" void forward_##bits(const Problem* p, const Tensors<real>* in) { forward(*p, *in); }                   \
    extern "C" void backward_##bits(const Problem* p, const Tensors<real>* in, const Gradients<real>* out) {          \
        backward(*p, *in, *out);                                                                                      \
    }

EXPORT(32, float)
EXPORT(64, double)
