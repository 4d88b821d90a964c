// The error function within a few units of the last place. Its coefficients are minimax fits, made in 50 digits.
#pragma once
#include "vector.h"

template <class real, size_t terms> inline Vector<real> polynomial(const real (&coefficients)[terms], Vector<real> x) {
    Vector<real> y = Vector<real>{} + coefficients[terms - 1];
#pragma GCC unroll 24
    for (int k = int(terms) - 2; k >= 0; --k) y = y * x + coefficients[k];
    return y;
}

template <class real> inline Vector<real> limited(Vector<real> x, real size) {
    const Vector<real> top = Vector<real>{} + size;
    x = x > top ? top : x;
    return x < -top ? -top : x;
}

// x · P(x²) / Q(x²) up to 3.92, where the result rounds to 1
inline Vector<float> erf_of(Vector<float> x) {
    static constexpr float above[] = {1.1283791482f,    0.18946564048f,     0.052646077467f,
                                      0.0037308991184f, 2.8510585306e-4f, 2.0708817096e-6f};
    static constexpr float below[] = {1.f,             0.50124234661f,    0.11373996851f,
                                      0.014899291285f, 0.001155956385f, 3.8317717383e-5f};
    const Vector<float> inner = limited<float>(x, 3.92f), square = inner * inner;
    return limited<float>(inner * polynomial(above, square) / polynomial(below, square), 1.f);
}

// x · P(x²) for |x| < 1, and 1 - exp(-Q(|x|)) up to 6, where Q fits -log(1 - erf)
inline Vector<double> erf_of(Vector<double> x) {
    static constexpr double near[] = {
        1.128379167095512574,    -0.3761263890318374818,   0.1128379167095488441,    -0.02686617064507786494,
        0.005223977624828340887, -8.548326981420864243e-4, 1.205533113280077367e-4,  -1.492559576878784006e-5,
        1.646100842813904555e-6, -1.63503957416498545e-7,  1.466032576003273171e-8, -1.137494523979982904e-9,
        5.960669045748326698e-11};
    static constexpr double far[] = {
        14.11243740214818026,     18.16524897091302564,     6.042206592136284251,     0.08165090967841939852,
        -0.03412841119969716062,  0.01438454937888783657,   -0.005953695084160376065, 0.002374019800497303453,
        -8.936209066522688143e-4, 3.074306872737743807e-4,  -9.174621403473821009e-5, 1.846967371403244109e-5,
        5.283947215964841667e-6,  3.778882810891266234e-6,  9.709218279625360984e-6,  -7.825448178895808229e-6,
        -1.85022021709117952e-5,  -2.219149039359970039e-5, -1.293076819721822334e-5, -3.741984694165565165e-6,
        3.171280458118687595e-8,  2.327632389052458859e-7};
    const Vector<double> size = x < 0. ? -x : x, inner = limited<double>(size, 1.), outer = limited<double>(size, 6.);
    // Q is a polynomial of [1, 6] mapped to [-1, 1]
    const Vector<double> beyond = 1. - exponential<double>(-polynomial(far, outer * 0.4 - 1.4));
    const Vector<double> y = size < 1. ? inner * polynomial(near, inner * inner) : beyond;
    return x < 0. ? -y : y;
}
