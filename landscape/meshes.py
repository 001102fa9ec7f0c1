"""Surfaces for other programs: meshes as ParaView, VTK, PyVista and meshio read them."""

import math
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Float, Int

from common.files.storage import storage_errors
from landscape.figures import plane_values
from landscape.grids import Surface

QUAD = 9  # VTK's number of a quadrilateral


def heights(
    surface: Surface, *, name: str = "loss", ceiling: float = 10.0, log: bool = False
) -> Float[np.ndarray, "n m"]:
    """Returns the values of a plane cut off at `ceiling`, then log(z + 0.1) if asked.

    Source: Li et al. (2018), released code, h52vtp.py.

    Raises:
        ValueError: If the surface is no plane, has no such values, or is not done.
    """
    values = plane_values(surface, name)
    if np.isnan(values).any():
        raise ValueError(f"{name}: {np.isnan(values).sum()} of {values.size} points are not done")
    cut = np.minimum(values, ceiling)
    if log and cut.min() <= -0.1:
        raise ValueError(f"{name}: log(z + 0.1) of values down to {cut.min():.4g}; set log=False")
    return np.log(cut + 0.1) if log else cut


def write_vtp(
    path: Path, surface: Surface, *, name: str = "loss", ceiling: float = 10.0, log: bool = False
) -> None:
    """Writes a plane as a mesh of quadrilaterals, one a cell (VTK XML PolyData).

    Points lie at (a, b, height); "zvalue" is the height of every point, and of every cell the mean
    of its four corners. Arguments as in `heights`. ParaView, VTK and PyVista read it; for meshio,
    which does not, there is `write_vtu`.

    Raises:
        ValueError: As `heights`.
        DataError: If the file cannot be written.
    """
    points, quads = _mesh(surface, heights(surface, name=name, ceiling=ceiling, log=log))
    counts = f'NumberOfVerts="0" NumberOfLines="0" NumberOfStrips="0" NumberOfPolys="{len(quads)}"'
    _write(path, "PolyData", counts, points, quads, f"<Polys>{_corners(quads)}</Polys>")


def write_vtu(
    path: Path, surface: Surface, *, name: str = "loss", ceiling: float = 10.0, log: bool = False
) -> None:
    """Writes the mesh of `write_vtp` as a VTK XML UnstructuredGrid, which meshio reads too.

    Raises:
        ValueError: As `heights`.
        DataError: If the file cannot be written.
    """
    points, quads = _mesh(surface, heights(surface, name=name, ceiling=ceiling, log=log))
    types = _array("types", np.full(len(quads), QUAD))
    cells = f"<Cells>{_corners(quads)}{types}</Cells>"
    _write(path, "UnstructuredGrid", f'NumberOfCells="{len(quads)}"', points, quads, cells)


def _mesh(
    surface: Surface, z: Float[np.ndarray, "n m"]
) -> tuple[Float[np.ndarray, "points 3"], Int[np.ndarray, "quads 4"]]:
    """Returns the points of a plane, and the corners of its cells, counterclockwise."""
    x, y = np.meshgrid(*surface.axes, indexing="ij")
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    number = np.arange(z.size).reshape(z.shape)
    corners = [number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]]
    return points, np.stack(corners, axis=-1).reshape(-1, 4)


def _write(
    path: Path, kind: str, counts: str, points: np.ndarray, quads: np.ndarray, cells: str
) -> None:
    """Writes a VTK XML file of this kind; `counts` and `cells` are what kinds differ in."""
    means = points[quads, 2].mean(axis=1)
    parts = [
        '<?xml version="1.0"?>',
        f'<VTKFile type="{kind}" version="0.1" byte_order="LittleEndian">',
        f"<{kind}>",
        f'<Piece NumberOfPoints="{len(points)}" {counts}>',
        f'<PointData Scalars="zvalue">{_array("zvalue", points[:, 2])}</PointData>',
        f'<CellData Scalars="zvalue">{_array("zvalue", means)}</CellData>',
        f"<Points>{_array('Points', points)}</Points>",
        cells,
        "</Piece>",
        f"</{kind}>",
        "</VTKFile>",
    ]
    with storage_errors(path):
        path.write_text("\n".join(parts) + "\n")


def _corners(quads: np.ndarray) -> str:
    """Returns which points are the corners of every cell."""
    offsets = 4 * np.arange(1, len(quads) + 1)
    return _array("connectivity", quads) + _array("offsets", offsets)


def _array(name: str, values: np.ndarray) -> str:
    """Returns a DataArray element; floats read back as they are."""
    kind = "Float64" if values.dtype.kind == "f" else "Int64"
    components = math.prod(values.shape[1:]) if name == "Points" else 1
    rows = values.reshape(len(values), -1)
    text = "\n".join(" ".join(map(str, row)) for row in rows.tolist())
    return (
        f'<DataArray type="{kind}" Name={quoteattr(name)} NumberOfComponents="{components}" '
        f'format="ascii">\n{text}\n</DataArray>'
    )
