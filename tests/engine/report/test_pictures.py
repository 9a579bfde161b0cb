"""What the pictures say, as far as it can be read from the figure."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import rgb_to_hsv, to_rgb
from matplotlib.figure import Figure

from duetto.report import charts, slab
from duetto.report.charts import EnergyCurve, draw_energy, draw_force_errors, draw_step_times
from duetto.report.slab import atom_colours, draw_slab
from duetto.report.style import HF, LF


@pytest.fixture
def figures(monkeypatch):
    """The figures behind the pictures that are drawn."""
    drawn = []

    def keep(draw, *, width, height):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        drawn.append(figure)
        return b""

    for module in (charts, slab):
        monkeypatch.setattr(module, "draw_png", keep)
    return drawn


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    for ax in figure.axes:
        found += [text.get_text() for text in ax.texts]
        found += [ax.get_title(loc="left"), ax.get_title(), ax.get_xlabel(), ax.get_ylabel()]
    for legend in figure.legends:
        found += [text.get_text() for text in legend.get_texts()]
    if figure._supylabel:
        found.append(figure._supylabel.get_text())
    return " | ".join(found)


def curve(scale, drift):
    time = np.linspace(0.0, 1.0, 50)
    return EnergyCurve("Mixture", HF, time, scale * np.sin(40 * time) + drift * time, drift)


def test_drift_and_unit_are_written(figures):
    draw_energy([curve(5e-3, -1.2e-4), curve(5e-3, 2e-4)])
    said = texts(figures[0])
    assert "µeV/atom" in said
    assert "−1.2 × 10$^{−4}$ meV/atom/ps" in said
    line = figures[0].axes[0].lines[1].get_ydata()
    assert line[-1] == pytest.approx(5.0 * np.sin(40.0) - 0.12, abs=1e-6)


def test_large_deviations_are_drawn_in_mev(figures):
    draw_energy([curve(2.0, 0.5)])
    said = texts(figures[0])
    assert "change of the total energy (meV/atom)" in said
    assert "drift +0.5 meV/atom/ps" in said


def test_bars_are_as_long_as_the_steps_and_say_so(figures):
    draw_step_times({"full_hf": 100.0, "mixture": 25.0, "full_lf": 10.0}, 4.0, 5.0)
    (ax,) = figures[0].axes
    assert [bar.get_width() for bar in ax.patches] == [100.0, 25.0, 10.0]
    said = texts(figures[0])
    assert "25 ms   4.0× faster" in said
    assert "ideal: 5.0×, 80 % of it reached" in said
    assert ax.lines[0].get_xdata()[0] == 20.0  # where the ideal is


def test_force_errors_by_region(figures):
    draw_force_errors(
        np.array([0.0, 2.0, 4.0]), np.array([1.0, 5.0, 2.0]), np.array([0.0, 0.5, 1.0]), 430.0
    )
    (ax,) = figures[0].axes
    by_label = {line.get_label(): line for line in ax.lines}
    assert by_label["simple"].get_xdata() == [1.0]
    assert by_label["both"].get_xdata() == [5.0]
    assert by_label["complex"].get_xdata() == [2.0]
    assert "force error (meV/Å), of 430 meV/Å r.m.s." in texts(figures[0])


def test_atoms_are_coloured_by_weight_and_adsorbates_by_element():
    colours = atom_colours(["Pt", "Pt", "Pt", "O"], np.array([1.0, 0.0, 0.5, 1.0]))
    assert colours[0] == pytest.approx(to_rgb(HF))
    assert colours[1] == pytest.approx(to_rgb(LF))
    assert colours[2] == pytest.approx((colours[0] + colours[1]) / 2)
    assert colours[3] == pytest.approx(to_rgb(slab.ADSORBATES["O"]))


def test_the_experts_colours_differ_without_red_green_vision():
    """Blue against orange: opposite hues, told apart by the blue-yellow sense alone."""
    hf, lf = np.array(to_rgb(HF)), np.array(to_rgb(LF))
    assert abs(rgb_to_hsv(hf)[0] - rgb_to_hsv(lf)[0]) == pytest.approx(0.5, abs=0.05)
    assert abs((hf[0] + hf[1]) / 2 - hf[2] - (lf[0] + lf[1]) / 2 + lf[2]) > 0.5


def test_the_legend_counts_the_atoms(figures):
    positions = np.random.default_rng(0).uniform(0.0, 6.0, (6, 3))
    weights = np.array([1.0, 0.0, 0.0, 0.3, 1.0, 1.0])
    draw_slab(positions, ["Pt", "Pt", "Pt", "Pt", "C", "O"], weights)
    said = texts(figures[0])
    for entry in (
        "Pt, HF expert: 1",
        "Pt, both (blend): 1",
        "Pt, LF expert: 2",
        "C, HF expert: 1",
        "O, HF expert: 1",
        "height z (Å)",
    ):
        assert entry in said


def test_drawing_leaves_the_callers_matplotlib_alone():
    before = dict(matplotlib.rcParams)
    png = draw_step_times({"full_hf": 3.0, "mixture": 2.0, "full_lf": 1.0}, 1.5, 2.0)
    assert png.startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before
