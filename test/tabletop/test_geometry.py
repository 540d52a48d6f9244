# SPDX-License-Identifier: Apache-2.0
"""The tabletop's shapes and cameras: solids, grasps, clipping, cameras at any pose."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from step_ros.tabletop.appearance import Look
from step_ros.tabletop.geometry import NEAR_M, clip_near
from step_ros.tabletop.props import fixed_solids, hand_capsules, movable_solids
from step_ros.tabletop.scene import GRASPS, MOVABLES, HandPose, Layout, Pose
from step_ros.tabletop.simulator import CAMERA_NAMES, SURFACES, Camera, Tabletop

SMALL = (48, 36)


def test_solids_face_outward():
    rng = np.random.default_rng(0)
    layout, look = Layout.draw(rng), Look.draw('train', rng)
    for solid in [*fixed_solids(layout, look, rng), *movable_solids(look, rng)]:
        if solid.frame == 'tray' or solid.surface == 'gear':
            continue
        middle = solid.vertices_v3.mean(axis=0)
        for face, normal in zip(solid.faces, solid.normals_f3, strict=True):
            assert math.isclose(float(np.linalg.norm(normal)), 1.0, rel_tol=1e-6)
            # A bottle's lip faces down although it is outside.
            if abs(normal[2]) < 0.9:
                outward = solid.vertices_v3[list(face)].mean(axis=0) - middle
                assert float(outward @ normal) > 0.0


def test_held_thing_is_rigid_and_grasped_where_it_rests():
    rng = np.random.default_rng(1)
    place = (0.2, 0.1, 0.0, 0.4)
    for name in MOVABLES:
        rotation_33 = Pose.held(name, HandPose(*rng.uniform(-0.5, 0.5, 7))).rotation_33
        np.testing.assert_allclose(rotation_33 @ rotation_33.T, np.eye(3), atol=1e-9)
        grasped, resting = Pose.held(name, GRASPS[name].hand_at(place)), Pose.resting(place)
        np.testing.assert_allclose(grasped.xyz, resting.xyz, atol=1e-9)
        np.testing.assert_allclose(grasped.rotation_33, resting.rotation_33, atol=1e-9)


def test_closed_hand_reaches_less_far_than_an_open_hand():
    wide, fist = (hand_capsules(HandPose(0.0, 0.0, 0.2, opening=o)) for o in (1.0, 0.0))
    palm = HandPose(0.0, 0.0, 0.2).palm_3
    reach = [np.linalg.norm(c.second_n3 - palm, axis=1)[7:].max() for c in (wide, fist)]
    assert reach[0] > 1.4 * reach[1]


def test_polygons_are_clipped_at_the_near_plane():
    triangle = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 0.0, -1.0]])
    clipped = clip_near(triangle)
    assert len(clipped) == 3
    assert clipped[:, 2].min() >= NEAR_M - 1e-12
    assert len(clip_near(triangle - [0.0, 0.0, 2.0])) == 0
    assert len(clip_near(triangle - [0.0, 0.0, -2.0])) == 3


SHARED = Tabletop(seed=11)
COORDINATE = st.floats(-2.5, 2.5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    eye=st.tuples(COORDINATE, COORDINATE, st.floats(-0.7, 2.0)),
    target=st.tuples(COORDINATE, COORDINATE, COORDINATE),
    fov=st.floats(5.0, 150.0),
    at=st.floats(0.0, 40.0),
)
def test_camera_at_any_pose_renders_an_image(eye, target, fov, at):
    if math.dist(eye, target) < 1e-3:
        target = (target[0], target[1], target[2] + 0.5)
    camera = Camera.look_at(eye, target, fov)
    np.testing.assert_allclose(camera.rotation_33 @ camera.rotation_33.T, np.eye(3), atol=1e-9)
    assert float(np.linalg.det(camera.rotation_33)) > 0.99
    image, supervision = SHARED.render_supervised(at, camera=camera, size=SMALL)
    assert image.shape == (SMALL[1], SMALL[0], 3)
    assert supervision.ids_hw.max() < len(SURFACES)


@pytest.mark.parametrize('camera', [*CAMERA_NAMES])
def test_camera_inside_the_scene_renders_an_image(camera):
    table = Tabletop(seed=0)
    state = table.state_at(5.0)
    eye = (state.hand.x, state.hand.y + 0.01, state.hand.z + 0.02)
    inside = Camera.look_at(eye, table.camera(camera).eye, 80.0)
    assert table.render(5.0, camera=inside, size=(64, 48)).shape == (48, 64, 3)


def test_invalid_cameras_are_refused():
    with pytest.raises(ValueError, match='two finite points'):
        Camera.look_at((0.0, 0.0, 1.0), (0.0, 0.0, 1.0))
    with pytest.raises(ValueError, match='field of view of 180'):
        Camera.look_at((0.0, 0.0, 1.0), (0.0, 0.0, 0.0), 180.0)
