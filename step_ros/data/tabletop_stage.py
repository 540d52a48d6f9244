"""One scene with everything that stays the same in it: layout, look, cameras and renderer."""

from __future__ import annotations

from step_ros.data.tabletop_camera import CAMERA_NAMES, Camera, named_camera
from step_ros.data.tabletop_look import Look
from step_ros.data.tabletop_render import Renderer
from step_ros.data.tabletop_scene import Layout
from step_ros.data.tabletop_splits import random_for


class Stage:
    """One scene, ready to be drawn.

    Attributes:
        seed: Number of the scene within its split.
        layout: What stays where it is.
        look: Colours, textures and light.
        renderer: Draws moments of it.
    """

    def __init__(self, *, seed: int, split: str, view_jitter: bool = True) -> None:
        """Sets the scene.

        Args:
            seed: Number of the scene within its split.
            split: One of the splits.
            view_jitter: Whether the seed jitters the named cameras.
        """
        self.seed = seed
        self.layout = Layout.draw(random_for(split, seed, 'layout'))
        self.look = Look.draw(split, random_for(split, seed, 'look'))
        self.renderer = Renderer(self.layout, self.look, random_for(split, seed, 'shapes'))
        self._cameras = {
            name: named_camera(name, random_for(split, seed, 'camera', name), jitter=view_jitter)
            for name in CAMERA_NAMES
        }

    @property
    def textures(self) -> tuple[int, int, int]:
        """Identifiers of the textures of table, walls and floor."""
        return self.look.table_texture, self.look.wall_texture, self.look.floor_texture

    def camera(self, camera: str | Camera) -> Camera:
        """Finds a camera.

        Args:
            camera: One of `CAMERA_NAMES`, or a camera, which is returned as it is.

        Returns:
            The camera.

        Raises:
            ValueError: If there is no such view.
        """
        if isinstance(camera, Camera):
            return camera
        try:
            return self._cameras[camera]
        except KeyError:
            raise ValueError(f'unknown camera {camera!r}, known are {CAMERA_NAMES}') from None

    def noise_key(self, time_s: float) -> int:
        """Number that decides the sensor noise at a time.

        Args:
            time_s: Seconds.

        Returns:
            The same number for the same microsecond.
        """
        return self.seed * 1_000_003 + round(time_s * 1e6)
