"""Shaded spheres in parallel projection, nearer ones in front."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_LIGHT = np.array([-0.42, 0.50, 0.757])
"""From above, the left and the viewer."""

_HALFWAY = (_LIGHT + np.array([0.0, 0.0, 1.0])) / np.sqrt(2.0 + 2.0 * _LIGHT[2])
"""Between the directions of light and viewer: where a highlight is."""

_OVERSAMPLING = 2


def view_rotation(azimuth: float, elevation: float) -> Array:
    """Rotation (3, 3) from the structure's axes to right, up and towards the viewer.

    At azimuth 0 and elevation 0 the viewer looks along +y with z upwards; at elevation 90 from
    above, with y upwards. Degrees.
    """
    a, e = np.radians(azimuth), np.radians(elevation)
    right = np.array([np.cos(a), np.sin(a), 0.0])
    towards = np.array([np.sin(a) * np.cos(e), -np.cos(a) * np.cos(e), np.sin(e)])
    return np.array([right, np.cross(towards, right), towards])


def render_spheres(
    centres: Array,
    radii: Array,
    colours: Array,
    bounds: tuple[float, float, float, float],
    *,
    pixels_per_unit: float,
    fading: float = 0.35,
) -> Array:
    """Draw spheres with their true intersections (a depth buffer), lit from the upper left.

    Args:
        centres: (A, 3) right, up, towards the viewer.
        radii: (A,) in the same unit.
        colours: (A, 3) red, green, blue in [0, 1].
        bounds: left, right, bottom, top of the picture.
        pixels_per_unit: resolution.
        fading: how far the farthest sphere fades into white, 0 to 1.

    Returns:
        (height, width, 4) red, green, blue, opacity in [0, 1]; the first row is the top.
    """
    left, right, bottom, top = bounds
    scale = pixels_per_unit * _OVERSAMPLING
    width = _OVERSAMPLING * max(1, round((right - left) * pixels_per_unit))
    height = _OVERSAMPLING * max(1, round((top - bottom) * pixels_per_unit))
    nearest = np.full((height, width), -np.inf)
    picture = np.zeros((height, width, 4))
    depths = centres[:, 2]
    distant = fading * (depths.max() - depths) / max(float(np.ptp(depths)), 1e-9)
    for atom in np.argsort(-depths):  # most of the farther ones are hidden, and cost little
        centre, reach = centres[atom], radii[atom] * scale
        column, row = (centre[0] - left) * scale, (top - centre[1]) * scale
        columns = np.arange(max(0, int(column - reach)), min(width, int(column + reach) + 2))
        rows = np.arange(max(0, int(row - reach)), min(height, int(row + reach) + 2))
        if not (len(columns) and len(rows)):
            continue
        x = ((columns + 0.5 - column) / reach)[None, :]
        y = ((row - rows - 0.5) / reach)[:, None]
        inside = 1.0 - x**2 - y**2
        depth = centre[2] + radii[atom] * np.sqrt(np.maximum(inside, 0.0))
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        visible = (inside > 0.0) & (depth > nearest[window])
        if not visible.any():
            continue
        nearest[window][visible] = depth[visible]
        shaded = _shade(
            np.broadcast_to(x, inside.shape)[visible],
            np.broadcast_to(y, inside.shape)[visible],
            np.sqrt(inside[visible]),
            colours[atom],
        )
        picture[window][visible, :3] = shaded + distant[atom] * (1.0 - shaded)
        picture[window][visible, 3] = 1.0
    return _downsampled(picture)


def _shade(x: Array, y: Array, z: Array, colour: Array) -> Array:
    """Colours of points (x, y, z) of a unit sphere: ambient, diffuse, a highlight, a dark rim."""
    diffuse = np.maximum(x * _LIGHT[0] + y * _LIGHT[1] + z * _LIGHT[2], 0.0)
    highlight = np.maximum(x * _HALFWAY[0] + y * _HALFWAY[1] + z * _HALFWAY[2], 0.0) ** 40
    rim = 0.62 + 0.38 * np.minimum(z / 0.45, 1.0)
    lit = colour * ((0.52 + 0.55 * diffuse) * rim)[:, None]
    return np.clip(lit + 0.38 * highlight[:, None], 0.0, 1.0)


def _downsampled(picture: Array) -> Array:
    """Mean over blocks of pixels, colours weighted by opacity."""
    n = _OVERSAMPLING
    height, width, _ = picture.shape
    opaque = picture * np.append(picture[..., 3:].repeat(3, -1), np.ones_like(picture[..., 3:]), -1)
    mean = opaque.reshape(height // n, n, width // n, n, 4).mean(axis=(1, 3))
    opacity = mean[..., 3:]
    colour = np.divide(mean[..., :3], opacity, where=opacity > 0, out=np.zeros_like(mean[..., :3]))
    return np.concatenate([colour, opacity], axis=-1)
