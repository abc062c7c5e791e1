"""Colors that readers with any color vision can tell apart, on light and dark grounds."""

from itertools import combinations

import numpy as np
import pytest

from widemax.charts.colors import diverging, rgb
from widemax.charts.style import COLORS, DARK_COLORS, DASHES, MARKERS

# Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# IEEE TVCG 2009, table 1, severity 1.
VISIONS = {
    "usual": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def linear_light(color):
    share_3 = np.array(rgb(color)) / 255
    return np.where(share_3 <= 0.04045, share_3 / 12.92, ((share_3 + 0.055) / 1.055) ** 2.4)


def cielab(light_3):
    """CIE 1976 L*a*b* of linear sRGB, white point D65."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(light_3, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def nearest(colors, vision):
    seen = [cielab(np.array(VISIONS[vision]) @ linear_light(color)) for color in colors]
    return min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2))


def contrast(color, ground):
    """WCAG 2.2's ratio of luminances."""
    light, dark = sorted(
        (linear_light(one) @ [0.2126, 0.7152, 0.0722] for one in (color, ground)), reverse=True
    )
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("colors", [COLORS, DARK_COLORS], ids=["light", "dark"])
def test_ten_colors_can_be_told_apart(colors, vision):
    assert len(colors) == 10
    assert nearest(colors, vision) > 15


def test_matplotlibs_ten_cannot():
    colors = (
        *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"),
        *("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
    )
    assert nearest(colors, "usual") > 15
    assert nearest(colors, "protan") < 8


def test_colors_stand_out_from_the_ground():
    assert min(contrast(color, "#1b1e24") for color in DARK_COLORS) > 3
    assert min(contrast(color, "#ffffff") for color in COLORS[:4]) > 3


def test_curves_differ_without_color():
    marks = {(place % len(DASHES), place % len(MARKERS)) for place in range(10)}
    assert len(marks) == 10


def test_numbers_become_the_colors_of_the_anchors():
    assert diverging([-1, 0, 1]).tolist() == [
        list(rgb("#2d004b")),
        list(rgb("#f7f7f7")),
        list(rgb("#7f3b08")),
    ]
    assert diverging(np.zeros((2, 3))).shape == (2, 3, 3)
    assert diverging([-5.0]).tolist() == diverging([-1.0]).tolist()
