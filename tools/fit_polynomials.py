"""Fit the polynomials of csrc/math_body.h and print their coefficients, constant term first.

Each polynomial P minimises the weighted squares of its error over three times as many Chebyshev nodes as it has
coefficients, which comes within a small factor of the minimax error. The weight turns the error of P into the
relative error of the function that is built from it; its maximum is printed beside the degree, before the rounding
of the coefficients. Run: ``python tools/fit_polynomials.py`` (needs mpmath). Its last lines are the table of
csrc/tanh_avx512.h.
"""

import mpmath as mp
import numpy as np

mp.mp.dps = 60


def fit(target, low, high, degree, weight):
    """Return the coefficients and the largest weighted error of the polynomial that fits `target` on [low, high]."""
    low, high = mp.mpf(low), mp.mpf(high)
    centre, radius = (low + high) / 2, (high - low) / 2
    n_nodes = 3 * (degree + 1)
    nodes = [centre + radius * mp.cos(mp.pi * (2 * i + 1) / (2 * n_nodes)) for i in range(n_nodes)]
    matrix = mp.matrix([[weight(x) * x**j for j in range(degree + 1)] for x in nodes])
    values = mp.matrix([weight(x) * target(x) for x in nodes])
    coefficients = list(mp.lu_solve(matrix, values))
    grid = (centre + radius * mp.cos(mp.pi * mp.mpf(i) / 500) for i in range(501))
    error = max(abs(weight(x) * (mp.polyval(coefficients[::-1], x) - target(x))) for x in grid)
    return coefficients, error


def away_from_zero(function, limit):
    """Return `function` with its value at 0, where the formula is 0/0, replaced by its limit."""
    return lambda x: mp.mpf(limit) if abs(x) < mp.mpf(10) ** -20 else function(x)


def mills(a):
    """Return Q(a) exp(a^2/2) (a + 4), with Q the upper tail of the normal distribution."""
    return mp.erfc(a / mp.sqrt(2)) / 2 * mp.exp(a * a / 2) * (a + 4)


# exp(r) = 1 + r + r^2 P(r), weighted for expm1(r), which shares it
exp_target = away_from_zero(lambda r: (mp.expm1(r) - r) / r**2, 0.5)
exp_weight = away_from_zero(lambda r: r**2 / mp.expm1(r), 0)
# log((1 + s) / (1 - s)) = s (2 + q P(q)), q = s^2
log_target = away_from_zero(lambda q: (2 * mp.atanh(mp.sqrt(q)) / mp.sqrt(q) - 2) / q, mp.mpf(2) / 3)
log_weight = away_from_zero(lambda q: q * mp.sqrt(q) / (2 * mp.atanh(mp.sqrt(q))), 0)
# tanh(a) = a (1 + q P(q)), q = a^2
tanh_target = away_from_zero(lambda q: (mp.tanh(mp.sqrt(q)) / mp.sqrt(q) - 1) / q, -mp.mpf(1) / 3)
tanh_weight = away_from_zero(lambda q: q * mp.sqrt(q) / mp.tanh(mp.sqrt(q)), 0)


# Q(a) exp(a^2/2) (a + 4) = P(t), t = (a - 4) / (a + 4)
def tail_target(t):
    return mills(4 * (1 + t) / (1 - t))


def tail_weight(t):
    return 1 / tail_target(t)


log_high = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2
tanh_high = mp.mpf("0.5625") ** 2

# name, target, weight, low, high, degrees for (float32, float64); the normal tail ends where float rounds it to zero
FITS = [
    ("exp", exp_target, exp_weight, ("-0.35", "-0.35"), ("0.35", "0.35"), (5, 9)),
    ("log", log_target, log_weight, (0, 0), (log_high, log_high), (2, 6)),
    ("tanh", tanh_target, tanh_weight, (0, 0), (tanh_high, tanh_high), (4, 10)),
    ("normal tail", tail_target, tail_weight, (-1, -1), (mp.mpf(11) / 19, mp.mpf(36) / 44), (10, 22)),
]


def tanh_table(degree=5):
    """Return the coefficients (degree + 1, 32) of tanh(c + r) for the points c = t - 2 of csrc/tanh_avx512.h.

    Column 8 (e - 1) + m is that of t = 2^e (1 + m/8), for r up to half way to the neighbours of t; from c = 10 on it
    is 1.
    """
    table = np.zeros((degree + 1, 32), np.float32)
    for e, m in ((e, m) for e in (1, 2, 3) for m in range(8)):
        c, width = mp.mpf(2) ** e * (1 + mp.mpf(m) / 8) - 2, mp.mpf(2) ** e / 8
        below = 0 if c == 0 else width / 2 if m == 0 else width
        top = mp.tanh(c)
        column = table[:, 8 * (e - 1) + m]
        column[0] = float(top)
        if c < 10:
            target = away_from_zero(lambda r, c=c, top=top: (mp.tanh(c + r) - top) / r, 1 - top**2)
            weight = away_from_zero(lambda r, c=c: r / mp.tanh(c + r), 1 if c == 0 else 0)
            column[1:] = fit(target, -below / 2, width / 2, degree - 1, weight)[0]
    return table


if __name__ == "__main__":
    for name, target, weight, lows, highs, degrees in FITS:
        for dtype, low, high, degree in zip((np.float32, np.float64), lows, highs, degrees, strict=True):
            coefficients, error = fit(target, low, high, degree, weight)
            print(f"{name}, {dtype.__name__}, degree {degree}, largest relative error {mp.nstr(error, 2)}")
            for c in coefficients:
                print("   ", dtype(c))
    for row in tanh_table():
        print(
            "    {"
            + ", ".join(f"{c:.9g}f" if "." in f"{c:.9g}" or "e" in f"{c:.9g}" else f"{c:.1f}f" for c in row)
            + "},"
        )
