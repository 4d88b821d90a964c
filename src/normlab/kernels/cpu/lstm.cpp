// The C functions that Python calls; recurrence.py says what they compute.
#include "batch.h"

namespace {

bool couples_examples(const Problem& p) { return p.norm_x == batch || p.norm_h == batch || p.norm_c == batch; }

template <class real> int64_t saved_size(const Problem& p) {
    return couples_examples(p) ? Shape<real>(p).saved(p) : Saved<real>::size(p);
}

template <class real> int64_t statistics_size(const Problem& p) {
    return couples_examples(p) ? Shape<real>(p).statistics() : 0;
}

template <class real> void forward(const Problem& p, const Tensors<real>& in) {
    couples_examples(p) ? batch_forward(p, in) : rows_forward(p, in);
}

template <class real> void backward(const Problem& p, const Tensors<real>& in, const Gradients<real>& out) {
    couples_examples(p) ? batch_backward(p, in, out) : rows_backward(p, in, out);
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
