"""Spheres in the right place, the nearer in front."""

import numpy as np
import pytest

from duetto.report.spheres import render_spheres, view_rotation

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def render(centres, radii, colours, **options):
    return render_spheres(
        np.array(centres, dtype=float),
        np.array(radii, dtype=float),
        np.array(colours),
        (-2.0, 2.0, -1.0, 1.0),
        pixels_per_unit=20.0,
        **options,
    )


def test_a_sphere_is_a_disc_of_its_colour():
    picture = render([[1.0, 0.0, 0.0]], [0.5], [RED])
    assert picture.shape == (40, 80, 4)
    covered = picture[..., 3].sum() / 20.0**2
    assert covered == pytest.approx(np.pi * 0.25, rel=0.01)
    rows, columns = np.nonzero(picture[..., 3])
    assert columns.mean() == pytest.approx(59.5, abs=0.5)
    assert rows.mean() == pytest.approx(19.5, abs=0.5)
    disc = picture[picture[..., 3] == 1.0]
    assert (disc[:, 0] > disc[:, 2]).all()
    assert picture.min() >= 0.0
    assert picture.max() <= 1.0


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_sphere_hides_the_farther_whatever_their_order(order):
    centres = np.array([[0.0, 0.0, 1.0], [0.3, 0.0, -1.0]])[list(order)]
    colours = np.array([RED, BLUE])[list(order)]
    picture = render(centres, [0.6, 0.6], colours)
    middle, right = picture[20, 40], picture[20, 57]
    assert middle[0] > middle[2]
    assert right[2] > right[0]


def test_spheres_that_cut_each_other_meet_half_way():
    picture = render([[-0.3, 0.0, 0.0], [0.3, 0.0, 0.0]], [0.8, 0.8], [RED, BLUE], fading=0.0)
    assert picture[20, 38, 0] > picture[20, 38, 2]
    assert picture[20, 41, 0] < picture[20, 41, 2]


def test_light_comes_from_the_upper_left():
    picture = render([[0.0, 0.0, 0.0]], [0.9], [RED])
    upper_left, lower_right = picture[12, 32, :3].sum(), picture[28, 48, :3].sum()
    assert upper_left > lower_right


def test_far_spheres_fade():
    near_and_far = [[-1.0, 0.0, 5.0], [1.0, 0.0, -5.0]]
    picture = render(near_and_far, [0.5, 0.5], [BLUE, BLUE], fading=0.5)
    assert picture[20, 20, 0] < 0.2
    assert picture[20, 60, 0] > picture[20, 20, 0] + 0.3


def test_spheres_outside_the_picture_are_left_out():
    assert render([[9.0, 0.0, 0.0]], [0.5], [RED]).sum() == 0.0


def test_views():
    x, y, z = np.eye(3)
    side, above = view_rotation(0.0, 0.0), view_rotation(0.0, 90.0)
    assert side @ x == pytest.approx([1, 0, 0])
    assert side @ z == pytest.approx([0, 1, 0])
    assert side @ y == pytest.approx([0, 0, -1])  # away from the viewer
    assert above @ y == pytest.approx([0, 1, 0])
    assert above @ z == pytest.approx([0, 0, 1])
    for rotation in (side, above, view_rotation(24.0, 22.0)):
        assert rotation @ rotation.T == pytest.approx(np.eye(3))
        assert np.linalg.det(rotation) == pytest.approx(1.0)
