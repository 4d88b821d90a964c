"""One colour per norm everywhere, safe for the colour-blind (Okabe and Ito 2008; Tol 2021); light and dark themes.

Charts are drawn in the colours of the light theme. On the page each becomes a CSS variable of the same name, whose
value the theme chooses.
"""

from __future__ import annotations

NORMS: dict[str, tuple[str, str]] = {  # norm → on light, on dark
    "batch": ("#c14a00", "#ff8a4c"), "layer": ("#0067a5", "#58b4f5"), "none": ("#6a6a6a", "#a9adb3"),
    "rms": ("#00795a", "#2ec79c"), "group": ("#a3477f", "#e88fc6"), "instance": ("#00798c", "#4fd0e2"),
    "dyt": ("#8a6d00", "#e3c440"), "derf": ("#4f6b00", "#b3d14a"), "layer_channel": ("#3d3a9c", "#a29ff5"),
    "detached_layer": ("#8c3140", "#f08a99"), "batch_renorm": ("#e0301e", "#ff7b6b"),
    "frozen_batch": ("#5e2c0c", "#c98a5c"), "regularized_batch": ("#a01d1d", "#ff9a8f"),
    "switchable": ("#a86e00", "#f7b548"), "evo_b": ("#d1477a", "#ff9dbd"), "evo_s": ("#6b1f52", "#cf6fae"),
    "frn": ("#99684a", "#dcb598"), "grn": ("#7a45b8", "#c49bff"), "ada": ("#0f9488", "#7fe0d6"),
    "scale": ("#2f7de0", "#8fbcff"), "unit": ("#6673d6", "#b5bdff"), "seed": ("#00463c", "#5fae9f"),
    "simple_rms": ("#2f8f3f", "#85dd8d"), "hard_tanh": ("#57530a", "#c3bd62"),
}  # fmt: skip
INKS: dict[str, tuple[str, str]] = {
    "ink": ("#1b1f26", "#e8eaee"),
    "muted": ("#565e69", "#a7aeb9"),
    "grid": ("#dfe2e7", "#343a44"),
    "band": ("#eceff3", "#282e37"),
}
OTHER = INKS["ink"][0]


def colour_of(norm: str) -> str:
    """The colour of a norm in the light theme; ink for anything else, and for the user's own norms."""
    return NORMS[norm][0] if norm in NORMS else OTHER


def variables(dark: bool) -> str:
    """The CSS variables of a theme."""
    named = {f"norm-{norm}".replace("_", "-"): pair for norm, pair in NORMS.items()} | INKS
    return " ".join(f"--{name}: {pair[dark]};" for name, pair in named.items())


def themed(svg: str) -> str:
    """An SVG's colours as variables."""
    named = {pair[0]: f"norm-{norm}".replace("_", "-") for norm, pair in NORMS.items()}
    named |= {pair[0]: name for name, pair in INKS.items()}
    for colour, name in named.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg
