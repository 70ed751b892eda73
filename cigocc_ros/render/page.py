"""Voxel maps as a page for a browser: turn, zoom, point, switch classes on and off."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY, coarsen_labels
from cigocc_ros.render.sheet import VoxelPanel
from cigocc_ros.render.voxel_mesh import drawn_voxels, voxel_quads

if TYPE_CHECKING:
    import plotly.graph_objects

IMAGE_WIDTH_PX = 900
LARGEST_GRID = (128, 128, 16)
_FACING = 0.5
_BACKGROUND, _GROUND = '#eef2f6', '#c9d2da'
_DARKEST = 0.45  # share of the colour that is left in corners
_CAMERA = {
    'eye': {'x': -1.35, 'y': 0.0, 'z': 0.95},
    'center': {'x': -0.05, 'y': 0.0, 'z': -0.15},
    'up': {'x': 0.0, 'y': 0.0, 'z': 1.0},
}
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ margin: 0; height: 100vh; display: flex; flex-direction: column; background: {paper};
  font: 15px system-ui, sans-serif; color: #1d2733; }}
header {{ display: flex; gap: 16px; align-items: center; padding: 8px 16px; }}
header img {{ height: 18vh; max-width: 62vw; object-fit: contain; border-radius: 4px; }}
h1 {{ font-size: 18px; margin: 0 0 4px; }} p {{ margin: 0; color: #5a6773; }}
main {{ flex: 1; min-height: 0; }}
</style></head><body><header>{image}<div><h1>{title}</h1><p>{details}</p>
<p>Drag to turn, wheel to zoom, right button to move. A click in the legend hides a class, a double
click shows it alone.</p></div></header><main>{figure}</main></body></html>
"""


def write_page(
    path: Path, title: str, panels: list[VoxelPanel], image: NDArray[np.uint8] | None = None
) -> None:
    """Write one HTML file that needs nothing else, not even a network.

    The panels are views that buttons switch between, merged to voxels of no less than LARGEST_GRID
    so that browsers turn them fluently; image: (h, w, 3) uint8 rgb, shown above. Raises
    DataFileError where writing fails.
    """
    figure = _figure([_merged(panel) for panel in panels])
    content = _PAGE.format(
        title=html.escape(title),
        details=html.escape(' | '.join(f'{p.title}: {_count(p):,} voxels' for p in panels)),
        image='' if image is None else f'<img alt="camera image" src="{_inlined(image)}">',
        figure=figure.to_html(full_html=False, include_plotlyjs=True, default_height='100%'),
        paper=_BACKGROUND,
    )
    write_atomically(path, content)


def _merged(panel: VoxelPanel) -> VoxelPanel:
    """Return the panel with voxels merged where its grid is finer than LARGEST_GRID."""
    pairs = list(zip(panel.labels.shape, LARGEST_GRID, strict=True))
    if all(fine <= most for fine, most in pairs) or any(fine % most for fine, most in pairs):
        return panel
    x, y, z = (fine // most for fine, most in pairs)
    labels = coarsen_labels(panel.labels, (x, y, z))
    return replace(panel, labels=labels, grid=panel.grid.with_shape(LARGEST_GRID))


def _figure(panels: list[VoxelPanel]) -> plotly.graph_objects.Figure:
    """Return the meshes of all panels, those of the first visible, with buttons to switch."""
    import plotly.graph_objects as go

    groups = [_meshes(panel) for panel in panels]
    figure = go.Figure([mesh for group in groups for mesh in group])
    sizes = [len(group) for group in groups]
    owner = np.repeat(np.arange(len(panels)), sizes)
    for mesh, index in zip(figure.data, owner.tolist(), strict=True):
        mesh.visible = index == 0
    buttons = [
        {'label': panel.title, 'method': 'restyle', 'args': ['visible', (owner == i).tolist()]}
        for i, panel in enumerate(panels)
    ]
    menu = {'type': 'buttons', 'direction': 'right', 'buttons': buttons, 'x': 0, 'y': 1}
    figure.update_layout(
        scene=_scene(panels[0]),
        margin={'l': 0, 'r': 0, 't': 0, 'b': 0},
        paper_bgcolor=_BACKGROUND,
        legend={'itemsizing': 'constant', 'y': 0.92},
        updatemenus=[menu | {'xanchor': 'left', 'yanchor': 'top'}] if len(panels) > 1 else [],
        uirevision='keep',  # the view stays where it is when another panel is chosen
    )
    return figure


def _scene(panel: VoxelPanel) -> dict[str, Any]:
    """Return axes in metres over the whole grid, to scale."""
    axes = {}
    for name, low, high in zip('xyz', panel.grid.origin_m, panel.grid.max_m, strict=True):
        axes[f'{name}axis'] = {
            'range': [low, high],
            'title': f'{name} (m)',
            'showbackground': name == 'z',
            'backgroundcolor': _GROUND,
            'showspikes': False,
        }
    return axes | {'aspectmode': 'data', 'camera': _CAMERA}


def _meshes(panel: VoxelPanel) -> list[Any]:
    """Return a mesh for each label in the panel, the commonest first."""
    counts = np.bincount(panel.labels[drawn_voxels(panel.labels)], minlength=1)
    order = [i for i in np.argsort(-counts, kind='stable').tolist() if counts[i]]
    if panel.legend:
        names = dict(enumerate((entry.name for entry in panel.legend), start=1))
    else:
        names = dict(enumerate(CLASS_NAMES))
    index_rgb = np.zeros((256, 3), np.uint8)
    index_rgb[:, 0] = np.arange(256)  # quads carry their label as a colour
    quads = voxel_quads(panel.labels, panel.grid, index_rgb)
    labels = np.rint(quads.rgb[:, 0] * 255).astype(int)
    labels[quads.normals[:, 2] < -_FACING] = EMPTY  # nobody looks from below
    return [
        _mesh(quads, labels == label, f'{names[label]} {counts[label]:,}', panel.palette[label])
        for label in order
    ]


def _mesh(quads: Any, chosen: NDArray[np.bool_], name: str, rgb: NDArray[np.uint8]) -> Any:
    """Return the chosen quads as one mesh: four corners each, their light as intensity."""
    import plotly.graph_objects as go

    low, a, b = quads.corner[chosen], quads.edge_a[chosen], quads.edge_b[chosen]
    corners = np.stack([low, low + a, low + a + b, low + b], axis=1).reshape(-1, 3)
    light = quads.corner_light[chosen]
    light = np.stack([light[:, 0, 0], light[:, 1, 0], light[:, 1, 1], light[:, 0, 1]], axis=1)
    # a sun from behind and the left keeps the sides of a voxel apart
    light = light * (0.72 + 0.28 * np.abs(quads.normals[chosen] @ [0.45, 0.25, 0.86]))[:, None]
    first = np.arange(0, len(corners), 4, dtype=np.int32)
    triangles = np.concatenate([np.stack([first, first + 1, first + 2]),
                                np.stack([first, first + 2, first + 3])], axis=1)  # fmt: skip
    dark, bright = (f'rgb({",".join(str(int(s * c)) for c in rgb)})' for s in (_DARKEST, 1))
    return go.Mesh3d(
        **dict(zip('xyz', corners.astype(np.float32).T, strict=True)),
        **dict(zip('ijk', triangles, strict=True)),
        intensity=light.astype(np.float32).ravel(),
        cmin=0.35,
        cmax=1.0,
        colorscale=[[0, dark], [1, bright]],
        showscale=False,
        color=bright,
        name=name,
        showlegend=True,
        lighting={'ambient': 1.0, 'diffuse': 0.0, 'specular': 0.0},
        hovertemplate='x %{x:.1f}, y %{y:.1f}, z %{z:.1f} m<extra>' + name.split()[0] + '</extra>',
    )


def _count(panel: VoxelPanel) -> int:
    return int(drawn_voxels(panel.labels).sum())


def _inlined(image: NDArray[np.uint8]) -> str:
    """Return an image as a data URL."""
    from PIL import Image

    opened = Image.fromarray(image)
    opened.thumbnail((IMAGE_WIDTH_PX, IMAGE_WIDTH_PX))
    buffer = io.BytesIO()
    opened.save(buffer, 'JPEG', quality=85)
    return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()
