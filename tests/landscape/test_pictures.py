"""Pictures, meshes and pages of surfaces: what is in them, and which way round."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from common.figures import page
from common.files.json_files import parse
from landscape import figures
from landscape.grids import Surface, axis, transposed
from landscape.meshes import heights, write_vtp, write_vtu
from landscape.viewer import write_page

X, Y = axis(-1, 1, 7), axis(-2, 2, 5)
LOSS = X[:, None] ** 2 + 3 * Y[None] ** 2  # up to 13
PLANE = Surface((X, Y), {"loss": LOSS, "accuracy": 100 - LOSS})
LINES = {
    title: Surface((X,), {"loss": scale * X**2, "accuracy": 100 - 10 * scale * X**2})
    for title, scale in (("train", 1.0), ("test", 2.0))
}


def test_contours_lie_where_the_loss_has_their_level(tmp_path: Path) -> None:
    fine = axis(-1, 1, 201), axis(-2, 2, 401)
    surface = Surface(fine, {"loss": fine[0][:, None] ** 2 + 3 * fine[1][None] ** 2})
    with page(tmp_path / "contours.png", (4, 4)) as figure:
        drawn = figures.contours(figure.add_subplot(), surface)
        paths, levels = drawn.get_paths(), np.asarray(drawn.levels)[:3]

    assert levels.tolist() == pytest.approx([0.1, 0.6, 1.1])
    for level, found in zip(levels, paths, strict=False):
        x, y = np.asarray(found.vertices).T
        assert len(x) > 20
        np.testing.assert_allclose(x**2 + 3 * y**2, level, rtol=5e-3)  # straight in each cell
    assert (tmp_path / "contours.png").stat().st_size > 1000


def test_levels_of_any_loss_lie_within_it_and_rise_ever_faster() -> None:
    for scale, shift in ((1.0, 0.0), (1e-4, -7.0)):
        levels = figures.levels_of(scale * LOSS + shift)
        assert (np.diff(levels, 2) > 0).all()
        assert shift < levels[0] and levels[-1] < scale * LOSS.max() + shift
    for flat in (np.ones((3, 3)), np.full((3, 3), np.nan)):
        with pytest.raises(ValueError, match="the surface is flat"):
            figures.levels_of(flat)


def test_every_picture_is_drawn_also_over_points_without_a_value(tmp_path: Path) -> None:
    holes = LOSS.copy()
    holes[0, 0], holes[6, 4] = np.nan, np.inf
    surface = PLANE._replace(values={"loss": holes})
    with page(tmp_path / "all.png", (9, 6)) as figure:
        left, right, third, fourth = (figure.add_subplot(2, 2, i) for i in range(1, 5))
        figures.contours(left, surface, levels=[1, 5])
        figures.path(left, np.array([[1.0, 1.5], [0.5, 0.5], [0.0, 0.0]]), drops=(1,))
        filled = figures.filled_contours(right, surface)
        accuracy = figures.line(third, LINES)
        fourth.remove()
        figures.relief(figure, surface, log=True, place=224)
        red = left.lines[1].get_xydata()
        shown = [line.get_linestyle() for line in third.lines]

    assert np.asarray(red).tolist() == [[0.5, 0.5]]
    assert (filled.get_clim()) == (0.1, 10)
    assert shown == ["-", "--"]
    assert accuracy.get_ylim() == (0, 100)
    np.testing.assert_array_equal(accuracy.lines[1].get_ydata(), LINES["test"].values["accuracy"])


def numbers(element: ElementTree.Element, path: str) -> np.ndarray:
    found = element.find(path)
    assert found is not None and found.text
    return np.array(found.text.split(), float)


@pytest.mark.parametrize("log", [False, True])
def test_a_mesh_has_a_quad_a_cell_and_the_heights_of_the_surface(tmp_path: Path, log: bool) -> None:
    write_vtp(tmp_path / "plane.vtp", PLANE, log=log)

    root = ElementTree.parse(tmp_path / "plane.vtp").getroot()
    assert root.attrib["type"] == "PolyData"
    piece = root.find("PolyData/Piece")
    assert piece is not None
    assert (piece.attrib["NumberOfPoints"], piece.attrib["NumberOfPolys"]) == ("35", "24")
    points = numbers(piece, "Points/DataArray").reshape(-1, 3)
    z = np.minimum(LOSS, 10)
    z = np.log(z + 0.1) if log else z
    for i in range(7):
        for j in range(5):
            assert points[5 * i + j].tolist() == [X[i], Y[j], z[i, j]]
    assert (numbers(piece, "PointData/DataArray") == points[:, 2]).all()
    quads = numbers(piece, "Polys/DataArray[@Name='connectivity']").astype(int).reshape(-1, 4)
    offsets = numbers(piece, "Polys/DataArray[@Name='offsets']")
    assert offsets.tolist() == list(range(4, 97, 4))
    means = numbers(piece, "CellData/DataArray")
    centers = set()
    for quad, mean in zip(quads, means, strict=True):
        corners = points[quad]
        sides = np.diff(corners[[0, 1, 2, 3, 0], :2], axis=0)
        area = np.linalg.det(sides[:2])
        assert area == pytest.approx((X[1] - X[0]) * (Y[1] - Y[0]))  # one cell, counterclockwise
        assert mean == pytest.approx(corners[:, 2].mean())
        centers.add(tuple(np.round(corners[:, :2].mean(0), 9)))
    assert len(centers) == 24


def test_the_mesh_that_meshio_reads_has_the_same_points_and_cells(tmp_path: Path) -> None:
    write_vtp(tmp_path / "plane.vtp", PLANE)
    write_vtu(tmp_path / "plane.vtu", PLANE)

    surface, grid = (
        ElementTree.parse(tmp_path / f"plane.{suffix}").getroot().find(path)
        for suffix, path in (("vtp", "PolyData/Piece"), ("vtu", "UnstructuredGrid/Piece"))
    )
    assert surface is not None and grid is not None
    assert grid.attrib == {"NumberOfPoints": "35", "NumberOfCells": "24"}
    for name in ("Points", "PointData", "CellData"):
        path = f"{name}/DataArray"
        assert (numbers(grid, path) == numbers(surface, path)).all()
    for name in ("connectivity", "offsets"):
        path = f"/DataArray[@Name='{name}']"
        assert (numbers(grid, f"Cells{path}") == numbers(surface, f"Polys{path}")).all()
    assert (numbers(grid, "Cells/DataArray[@Name='types']") == np.full(24, 9)).all()  # VTK_QUAD


def test_a_page_holds_the_surface_and_loads_nothing(tmp_path: Path) -> None:
    holes = PLANE._replace(values={"loss": np.where(LOSS > 12, np.inf, LOSS)})
    write_page(tmp_path / "plane.html", holes, title="Loss of <net>")

    text = (tmp_path / "plane.html").read_text()
    assert "<h1>Loss of &lt;net&gt;</h1>" in text and "@" not in text.replace("@media", "")
    assert not re.search(r"https?:|src=|<link|import\s", text)
    found = re.search(r'<script id="data"[^>]*>(.*?)</script>', text)
    assert found
    data = parse(found.group(1).encode())
    assert data["axes"] == [X.tolist(), Y.tolist()]
    assert data["values"][3] == holes.values["loss"][3].tolist()
    assert data["values"][0][0] is None  # 13 there: infinite
    assert json.loads(found.group(1)) == data


def test_what_cannot_be_drawn_is_told_in_one_line(tmp_path: Path) -> None:
    undone = PLANE._replace(values={"loss": np.where(LOSS > 12, np.nan, LOSS)})
    with pytest.raises(ValueError, match="loss: 12 of 35 points are not done"):
        heights(undone)
    with pytest.raises(ValueError, match="no values 'los': the surface has loss, accuracy"):
        write_page(tmp_path / "x.html", PLANE, title="", name="los")
    with pytest.raises(ValueError, match="a surface of 1 directions: expected a plane"):
        write_vtp(tmp_path / "x.vtp", LINES["train"])
    assert heights(transposed(PLANE)).T.tolist() == heights(PLANE).tolist()
