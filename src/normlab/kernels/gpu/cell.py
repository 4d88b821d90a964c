"""One step of the cell in Triton: the equations of recurrence.py, and their derivatives.

A program computes one example, whose rows are in its registers: the four gates as a [4, WIDTH] tile, c and h as
[1, WIDTH]. WIDTH is the next power of two from the number of units, and lanes beyond the units stay 0.
"""

# mypy: disallow-untyped-defs=False

import triton
import triton.language as tl

_FORGET = tl.constexpr(0)
_INPUT = tl.constexpr(1)
_OUTPUT = tl.constexpr(2)
_CANDIDATE = tl.constexpr(3)


# t is not specialised: otherwise 1 and multiples of 16 would each compile another kernel
@triton.jit(do_not_specialize=["t"])
def forward_step(
    gates,  # N_x(W_x x) + b, [B, T, 4H]
    product,  # W_h h, [B, 4H] of this step; with KEEP [T, B, 4H] of all
    c,  # before each step and after the last, [T + 1, B, H]; without KEEP one, [B, H], that is overwritten
    h,  # the same, always [T + 1, B, H]
    real,  # uint8 [B, T]
    gain_h,  # [4H]
    gain_c,  # [H]
    bias_c,  # [H]
    t,
    examples,
    steps,
    units,
    NORM_H: tl.constexpr,
    NORM_C: tl.constexpr,
    PARTS: tl.constexpr,
    EPS: tl.constexpr,
    KEEP: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """c ← σ(f) c + σ(i) tanh(g), h ← σ(o) tanh(N_c(c)); padded examples keep their c and h."""
    b = tl.program_id(0).to(tl.int64)
    before = t * examples + b
    after = before + examples
    unit, lanes = _units(units, WIDTH)
    row = before if KEEP else b
    f, i, o, g, _, _ = _open(
        gates + (b * steps + t) * 4 * units,
        product + row * 4 * units,
        gain_h,
        units,
        NORM=NORM_H,
        PARTS=PARTS,
        EPS=EPS,
        WIDTH=WIDTH,
    )
    c_before = tl.load(c + row * units + unit, lanes, 0.0)
    c_after = f * c_before + i * g
    standard, _ = _standardise(c_after, lanes, units, NORM=NORM_C, PARTS=1, EPS=EPS)
    shown = standard * tl.load(gain_c + unit, lanes, 0.0) + tl.load(bias_c + unit, lanes, 0.0)
    h_before = tl.load(h + before * units + unit, lanes, 0.0)
    here = tl.load(real + b * steps + t) != 0
    tl.debug_barrier()  # all threads have read what is overwritten next
    tl.store(c + (after if KEEP else b) * units + unit, tl.where(here, c_after, c_before), lanes)
    tl.store(h + after * units + unit, tl.where(here, o * _tanh(shown), h_before), lanes)


@triton.jit(do_not_specialize=["t"])
def backward_step(
    gates,
    product,
    c,
    real,
    gain_h,
    gain_c,
    bias_c,
    dy,  # of the loss by h after each step, as it goes out, [B, T, H]
    dh,  # by h after this step, through later ones, [B, H]; left with what goes past this step to the h before
    dc,  # by c after this step, [B, H]; left with that of the c before
    dgates,
    dproduct,
    dgain_h,  # sums over the steps done, of each example: [B, 4H]
    dgain_c,  # [B, H]
    dbias_c,  # [B, H]
    t,
    examples,
    steps,
    units,
    NORM_H: tl.constexpr,
    NORM_C: tl.constexpr,
    PARTS: tl.constexpr,
    EPS: tl.constexpr,
    AFFINE: tl.constexpr,  # whether gains and biases want gradients
    WIDTH: tl.constexpr,
):
    """The gradients of what `forward_step` read, of all T saved steps; the caller adds W_hᵀ dproduct to `dh`."""
    b = tl.program_id(0).to(tl.int64)
    before = t * examples + b
    after = before + examples
    unit, lanes = _units(units, WIDTH)
    gate = tl.arange(0, 4)[:, None]
    every = gate * units + unit
    f, i, o, g, standard_h, inverse_h = _open(
        gates + (b * steps + t) * 4 * units,
        product + before * 4 * units,
        gain_h,
        units,
        NORM=NORM_H,
        PARTS=PARTS,
        EPS=EPS,
        WIDTH=WIDTH,
    )
    here = tl.load(real + b * steps + t) != 0

    # h = σ(o) tanh(N_c(c))
    standard_c, inverse_c = _standardise(
        tl.load(c + after * units + unit, lanes, 0.0), lanes, units, NORM=NORM_C, PARTS=1, EPS=EPS
    )
    gain = tl.load(gain_c + unit, lanes, 0.0)
    y = _tanh(standard_c * gain + tl.load(bias_c + unit, lanes, 0.0))
    dh_after = tl.load(dy + (b * steps + t) * units + unit, lanes, 0.0) + tl.load(dh + b * units + unit, lanes, 0.0)
    dshown = dh_after * o * (1 - y * y)
    dc_after = tl.load(dc + b * units + unit, lanes, 0.0)
    through = _through(dshown * gain, standard_c, inverse_c, lanes, units, NORM=NORM_C, PARTS=1)

    # c = σ(f) c + σ(i) tanh(g)
    total = dc_after + through
    c_before = tl.load(c + before * units + unit, lanes, 0.0)
    dpre = tl.where(gate == _FORGET, total * c_before * f * (1 - f), 0.0)
    dpre = tl.where(gate == _INPUT, total * g * i * (1 - i), dpre)
    dpre = tl.where(gate == _OUTPUT, dh_after * y * o * (1 - o), dpre)
    dpre = tl.where(gate == _CANDIDATE, total * i * (1 - g * g), dpre)
    dpre = tl.where(here, dpre, 0.0)

    # the gates' inputs
    dstandard = dpre * tl.load(gain_h + every, lanes, 0.0)
    da = _through(dstandard, standard_h, inverse_h, lanes, units, NORM=NORM_H, PARTS=PARTS)
    tl.debug_barrier()  # all threads have read what is overwritten next
    tl.store(dgates + (b * steps + t) * 4 * units + every, dpre, lanes)
    tl.store(dproduct + before * 4 * units + every, da, lanes)
    tl.store(dh + b * units + unit, tl.where(here, 0.0, dh_after), lanes)
    tl.store(dc + b * units + unit, tl.where(here, total * f, dc_after), lanes)
    if AFFINE:
        _add(dgain_h + b * 4 * units + every, dpre * standard_h, lanes)
        _add(dgain_c + b * units + unit, tl.where(here, dshown * standard_c, 0.0), lanes)
        _add(dbias_c + b * units + unit, tl.where(here, dshown, 0.0), lanes)


@triton.jit
def _units(units, WIDTH: tl.constexpr):
    """[1, WIDTH]: each lane's unit, and whether it exists."""
    unit = tl.arange(0, WIDTH)[None, :]
    return unit, unit < units


@triton.jit
def _open(
    gates, product, gain_h, units, NORM: tl.constexpr, PARTS: tl.constexpr, EPS: tl.constexpr, WIDTH: tl.constexpr
):
    """σ(f), σ(i), σ(o) and tanh(g) of (f, i, o, g) = gain · â + gates, and of â = N(a) itself with its 1/√(…)."""
    unit, lanes = _units(units, WIDTH)
    gate = tl.arange(0, 4)[:, None]
    every = gate * units + unit
    a = tl.load(product + every, lanes, 0.0)
    standard, inverse = _standardise(a, lanes, units, NORM=NORM, PARTS=PARTS, EPS=EPS)
    pre = tl.load(gates + every, lanes, 0.0) + tl.load(gain_h + every, lanes, 0.0) * standard
    f = tl.sigmoid(_pick(pre, gate, _FORGET))
    i = tl.sigmoid(_pick(pre, gate, _INPUT))
    o = tl.sigmoid(_pick(pre, gate, _OUTPUT))
    return f, i, o, _tanh(_pick(pre, gate, _CANDIDATE)), standard, inverse


@triton.jit
def _pick(tile, gate, WANTED: tl.constexpr):
    """A gate's row, [1, WIDTH]; each thread has all four gates, so the sum needs no exchange between threads."""
    return tl.sum(tl.where(gate == WANTED, tile, 0.0), 0, keep_dims=True)


@triton.jit
def _standardise(x, lanes, units, NORM: tl.constexpr, PARTS: tl.constexpr, EPS: tl.constexpr):
    """x̂ = (x - mean) r with r = 1/√(mean((x - mean)²) + eps), without mean for `rms`; and r."""
    if NORM == "layer":
        x = tl.where(lanes, x - _mean(x, units, PARTS), 0.0)
    inverse = 1 / tl.sqrt(_mean(x * x, units, PARTS) + EPS)  # rsqrt would only be approximate
    if NORM != "none":
        x = x * inverse
    return x, inverse


@triton.jit
def _through(d, standard, inverse, lanes, units, NORM: tl.constexpr, PARTS: tl.constexpr):
    """dx = r (d - mean(d) - x̂ mean(d x̂)), without mean(d) for `rms`, from d = dx̂."""
    if NORM != "none":
        slope = _mean(d * standard, units, PARTS)
        if NORM == "layer":
            d = d - _mean(d, units, PARTS)
        d = tl.where(lanes, inverse * (d - standard * slope), 0.0)
    return d


@triton.jit
def _mean(x, units, PARTS: tl.constexpr):
    """The mean of each row, [rows, 1]; with PARTS = 1, of all rows, [1, 1]."""
    mean = tl.sum(x, 1, keep_dims=True) / units
    if PARTS == 1:
        mean = tl.sum(mean, 0, keep_dims=True) / x.shape[0]
    return mean


@triton.jit
def _tanh(x):
    """tanh; where 1 - 2 / (1 + e^2x) would cancel, Lambert's continued fraction x / (1 + x² / (3 + x² / (5 + …)))."""
    square = x * x
    fraction = square * 0 + 15
    for k in tl.static_range(7):
        fraction = (13 - 2 * k) + square / fraction
    size = tl.abs(x)
    far = 1 - 2 / (1 + tl.exp(2 * size))
    return tl.where(size < 0.5, x / fraction, tl.where(x < 0, -far, far))


@triton.jit
def _add(sums, values, lanes):
    total = tl.load(sums, lanes, 0.0) + values
    tl.debug_barrier()
    tl.store(sums, total, lanes)
