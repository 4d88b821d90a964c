// Vectors of as many numbers as a register of this CPU holds, in the notation that GCC and Clang share.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
constexpr int vector_bytes = 64, most_rows = 14;  // 32 registers: 28 sums, 2 vectors of weights, 1 of inputs
#elif defined(__AVX__)
constexpr int vector_bytes = 32, most_rows = 6;  // 16 registers: 12 sums
#else
constexpr int vector_bytes = 16, most_rows = 6;  // SSE, NEON
#endif

// 1/k! for k = 0 … terms, a table because Clang would call a function for each
template <class real, int terms> constexpr std::array<real, terms + 1> inverse_factorials() {
    std::array<real, terms + 1> table{};
    table[0] = 1;
    for (int k = 1; k <= terms; ++k) table[k] = table[k - 1] / k;
    return table;
}

template <class real> struct Lanes;
template <> struct Lanes<float> {
    typedef float type __attribute__((vector_size(vector_bytes)));
    typedef int32_t bits __attribute__((vector_size(vector_bytes)));
    static constexpr float magic = 12582912.f, largest = 87.f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    static constexpr int mantissa = 23, terms = 7;
    static constexpr auto inverse_factorial = inverse_factorials<float, terms>();
};
template <> struct Lanes<double> {
    typedef double type __attribute__((vector_size(vector_bytes)));
    typedef int64_t bits __attribute__((vector_size(vector_bytes)));
    static constexpr double magic = 6755399441055744., largest = 708., ln2_high = 6.93147180369123816490e-01,
                            ln2_low = 1.90821492927058770002e-10;
    static constexpr int mantissa = 52, terms = 13;
    static constexpr auto inverse_factorial = inverse_factorials<double, terms>();
};
template <class real> using Vector = typename Lanes<real>::type;
template <class real> constexpr int64_t lanes = vector_bytes / sizeof(real);

template <class real> inline int64_t padded(int64_t size) { return (size + lanes<real> - 1) / lanes<real> * lanes<real>; }

template <class real> inline Vector<real> load(const real* from) {
    Vector<real> v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class real> inline void store(real* to, Vector<real> v) { std::memcpy(to, &v, sizeof v); }

// The halves are added until one number is left.
template <class real, int bytes> inline real sum_of_bytes(const real* from) {
    if constexpr (bytes == sizeof(real)) {
        real last;
        std::memcpy(&last, from, sizeof last);
        return last;
    } else {
        typedef real half __attribute__((vector_size(bytes / 2)));
        half low, high;
        std::memcpy(&low, from, sizeof low);
        std::memcpy(&high, from + sizeof low / sizeof(real), sizeof high);
        low += high;
        return sum_of_bytes<real, bytes / 2>(reinterpret_cast<const real*>(&low));
    }
}

template <class real> inline real sum(Vector<real> v) { return sum_of_bytes<real, vector_bytes>(reinterpret_cast<const real*>(&v)); }

// √ of each, which the compiler makes one instruction
template <class real> inline Vector<real> root(Vector<real> v) {
    real parts[lanes<real>];
    std::memcpy(parts, &v, sizeof v);
    for (int i = 0; i < lanes<real>; ++i) parts[i] = std::sqrt(parts[i]);
    return load(parts);
}

// x = n ln 2 + r, |r| <= ln(2)/2: gives 2^n, and e^r - 1 by its Taylor series to r^7 (float) or r^13 (double),
// whose remainder is below half a unit of the last place.
template <class real> [[gnu::always_inline]] inline Vector<real> exp_parts(Vector<real> x, Vector<real>& power) {
    using L = Lanes<real>;
    const Vector<real> top = Vector<real>{} + L::largest;
    x = x > top ? top : x;
    x = x < -top ? -top : x;
    const Vector<real> shifted = x * real(1.4426950408889634) + L::magic;  // n stands in the low bits
    const Vector<real> n = shifted - L::magic;
    const Vector<real> r = (x - n * L::ln2_high) - n * L::ln2_low;
    typename L::bits bits, one;
    const Vector<real> unit = Vector<real>{} + real(1);
    std::memcpy(&bits, &shifted, sizeof bits);
    std::memcpy(&one, &unit, sizeof one);
    bits = (bits << L::mantissa) + one;
    std::memcpy(&power, &bits, sizeof power);
    Vector<real> series = Vector<real>{} + L::inverse_factorial[L::terms];
#pragma GCC unroll 16
    for (int k = L::terms - 1; k > 0; --k) series = series * r + L::inverse_factorial[k];
    return series * r;
}

template <class real> inline Vector<real> sigmoid(Vector<real> x) {
    Vector<real> power;
    const Vector<real> rest = exp_parts<real>(-x, power);
    return real(1) / (real(1) + power + power * rest);
}

// (e^2x - 1) / (e^2x + 1), where e^2x - 1 keeps its digits near 0
template <class real> inline Vector<real> tanh(Vector<real> x) {
    Vector<real> power;
    const Vector<real> rest = exp_parts<real>(x * real(2), power);
    const Vector<real> less_one = power * rest + (power - real(1));
    return less_one / (less_one + real(2));
}

template <class real> inline Vector<real> exponential(Vector<real> x) {
    Vector<real> power;
    const Vector<real> rest = exp_parts<real>(x, power);
    return power + power * rest;
}
