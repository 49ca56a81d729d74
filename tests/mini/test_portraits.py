# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Portraits: what moves, what is seen, which words decide; on a head of balls and, where its data lie, a real one."""

from dataclasses import replace

import numpy as np
import pytest
from ball_head import MOUTH, make_ball_head

from diffusers_jova.mini import people, portraits
from diffusers_jova.mini.hair import STYLES, hairline, root_points, scatter_roots
from diffusers_jova.mini.heads import FILE
from diffusers_jova.mini.ingredients import cache_folder
from diffusers_jova.mini.light import directions, seen_from
from diffusers_jova.mini.paint import beard_area, brow_area, inside_clothes
from diffusers_jova.mini.people import Person
from diffusers_jova.mini.portraits import Portrait, Pose, close_gaps
from diffusers_jova.mini.raster import rasterize, vertex_normals


SIZE = 48
FEWER = 8  # times fewer strands and directions of light than in a corpus


@pytest.fixture(scope="module")
def ball_head():
    return make_ball_head()


@pytest.fixture
def draws_balls(monkeypatch, ball_head):
    """Portraits of the head of balls, quick ones; its people have no shape of their own."""
    monkeypatch.setattr(portraits, "head_model", lambda: ball_head)
    monkeypatch.setattr(Person, "weights", lambda person: {"nose/feature-05": 0.5})
    monkeypatch.setattr(portraits, "NUM_DIRECTIONS", portraits.NUM_DIRECTIONS // FEWER)
    few = {name: replace(style, number=style.number // FEWER) for name, style in STYLES.items()}
    monkeypatch.setattr(portraits, "STYLES", few)


@pytest.fixture
def plain(draws_balls):
    return Portrait(person(), SIZE)


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(int) - other).max(axis=2)


def person(seed: int = 3, **words) -> Person:
    plain = {"hair_style": "cropped", "glasses": False, "background": "wall", "wall": "blue", "beard": "no beard"}
    return Person.from_seed(seed, **(plain | words))


# --- people ---


def test_seeds_are_different_people_and_words_can_be_fixed():
    assert Person.from_seed(3) == Person.from_seed(3) != Person.from_seed(4)
    assert Person.from_seed(3, hair="red", person="man").hair == "red"
    assert all(Person.from_seed(seed, person="woman").beard == "no beard" for seed in range(20))
    for wrong in ({"hair": "mauve"}, {"shoes": "red"}):
        with pytest.raises(ValueError, match="choose one of"):
            Person.from_seed(3, **wrong)


def test_every_word_of_the_captions_is_drawn_by_some_seed():
    drawn = [Person.from_seed(seed) for seed in range(400)]
    for name, words in people.WORDS.items():
        assert {getattr(person, name) for person in drawn} == set(words)


# --- portraits ---


def test_a_portrait_is_the_same_each_time_and_shows_the_wall(plain):
    image = plain.draw()
    assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
    assert np.array_equal(image, Portrait(person(), SIZE).draw())
    red, green, blue = image[:4, :4].reshape(-1, 3).mean(0)
    assert blue > 1.3 * green > red  # of the wall


def test_the_jaw_moves_the_mouth_and_little_else(plain):
    moved = difference(plain.draw(Pose({"jawOpen": 0.5})), plain.draw()) > 12
    rows, columns = np.nonzero(moved)
    mouth = (portraits.EYES_AT - MOUTH * portraits.SCALE) * SIZE
    assert moved.sum() > 20 and abs(rows.mean() - mouth) < 0.12 * SIZE
    assert columns.min() > 0.2 * SIZE and columns.max() < 0.8 * SIZE and rows.min() > portraits.EYES_AT * SIZE


def test_lips_touch_at_rest(plain, ball_head):
    rest = ball_head.moved(plain.rest, {"jawOpen": plain.jaw_at_rest})
    middle = (plain.masks[:, 0] > 0.5) & (np.abs(plain.template[:, 0]) < 0.06)
    is_lower = plain.template[:, 1] < MOUTH
    gap = rest[middle & ~is_lower, 1].min() - rest[middle & is_lower, 1].max()
    assert plain.jaw_at_rest < 0 and gap == pytest.approx(0, abs=1e-3)


def test_the_head_turns_and_the_shoulders_stay(plain):
    still, turned = (plain.draw(Pose(yaw=yaw)) for yaw in (-0.25, 0.25))
    moved = difference(still, turned)
    assert moved[: SIZE // 2].max() > 40 and np.median(moved[-3:]) < 4


def test_the_gaze_moves_the_irises_only(plain):
    rows, _ = np.nonzero(difference(plain.draw(Pose(gaze=(0.3, 0))), plain.draw(Pose(gaze=(-0.3, 0)))) > 8)
    assert len(rows) and np.abs(rows - portraits.EYES_AT * SIZE).max() < 0.06 * SIZE


def test_hair_and_clothes_have_the_colours_of_their_words(draws_balls):
    bright = Portrait(person(hair="blond", shirt="white"), SIZE).draw().astype(int).sum(2)
    dark = Portrait(person(hair="black", shirt="black"), SIZE).draw().astype(int).sum(2)
    for region in (slice(0, SIZE // 4), slice(-3, None)):
        assert (bright - dark > 60)[region].mean() > 0.1


@pytest.mark.parametrize("style", STYLES)
def test_hair_is_as_long_as_its_style(draws_balls, style):
    heights = Portrait(person(hair_style=style), 16).strands.offsets[:, 1]
    assert (heights.min() < -1) == (style in ("long", "wavy", "chin-length"))


def test_the_wall_does_not_show_through_hair(draws_balls, monkeypatch):
    monkeypatch.setattr(portraits, "STYLES", {"long": replace(STYLES["long"], number=STYLES["long"].number // 3)})
    portrait = Portrait(
        person(hair_style="long", wall="white", hair="black"), SIZE
    )  # a third of the pixels' width, too
    dark = portrait.draw().max(axis=2) < 90
    crown = dark[: int((portraits.EYES_AT - 0.9 * portraits.SCALE) * SIZE)]
    for row in crown[crown.sum(1) > 4]:
        assert row[np.flatnonzero(row)[0] : np.flatnonzero(row)[-1] + 1].mean() > 0.85


def test_glasses_and_beards_are_where_they_belong(draws_balls):
    man = {"person": "man", "hair": "black"}
    bare = Portrait(person(**man), SIZE).draw()
    both = difference(bare, Portrait(person(**man, glasses=True, beard="beard"), SIZE).draw()) > 15
    eyes, mouth = (int((portraits.EYES_AT - y * portraits.SCALE) * SIZE) for y in (0, MOUTH))
    assert both[eyes - 5 : eyes + 5].sum() > 10 and both[mouth:].sum() > 20 and both[: eyes - 6].sum() < 10


def test_areas_of_the_face_are_on_both_sides_alike():
    places = np.random.default_rng(0).uniform(-1.5, 1, (500, 3))
    for area in (beard_area, lambda p: brow_area(p, 0.5), lambda p: inside_clothes(p, "sweater"), hairline):
        assert np.allclose(area(places), area(places * [-1, 1, 1]))
    assert brow_area(np.array([0.3, 0.235, 0.1]), 0.5) > 0.5 > brow_area(np.array([0.3, 0.0, 0.1]), 0.5)


def test_background_between_strands_is_closed_and_faces_are_not():
    strands = np.full((19, 19), -1)
    strands[2:7, 2:7] = 5
    assert close_gaps(strands)[12, 12] == -1
    strands[4, 4] = -1
    assert close_gaps(strands)[4, 4] == 5
    strands[4, 4] = -2
    assert close_gaps(strands)[4, 4] == -2


def test_roots_are_spread_by_area_and_density():
    vertices = np.float32([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 0, 0], [7, 0, 0], [5, 2, 0]])
    triangles = np.array([[0, 1, 2], [3, 4, 5]])
    roots = scatter_roots(vertices, triangles, np.array([1.0, 0.5]), 4000, np.random.default_rng(0))
    assert np.mean(roots[0] == 1) == pytest.approx(2 / 3, abs=0.03)  # four times the area, half as dense
    x, y, _ = root_points(vertices, triangles, *roots).T
    assert x.min() >= 0 and y.min() >= 0 and x.max() <= 7


# --- drawing and light ---


def test_a_triangle_covers_as_many_pixels_as_its_area_and_the_nearer_one_is_seen():
    points = np.float32([[2, 2, 0], [2, 22, 0], [22, 2, 0], [2, 2, 1], [2, 22, -3], [22, 2, -3]])
    surface = rasterize(points, np.array([[0, 1, 2], [3, 4, 5]]), 24)
    assert len(surface.pixels) == pytest.approx(200, abs=10) == len(set(surface.pixels))
    depths = surface.interpolate(np.array([[0, 1, 2], [3, 4, 5]]), points[:, 2])
    assert np.allclose(depths, surface.depths) and np.all(surface.depths >= 0)
    assert set(surface.triangles[surface.depths == 0]) == {0} and set(surface.triangles[surface.depths > 0]) == {1}
    assert len(rasterize(points, np.array([[0, 2, 1]]), 24).pixels) == 0  # its back


def test_values_are_linear_on_a_triangle():
    points = np.float32([[1, 1, 0], [1, 15, 0], [15, 1, 0]])
    triangles = np.array([[0, 1, 2]])
    surface = rasterize(points, triangles, 16)
    columns, rows = surface.interpolate(triangles, points[:, :2]).T
    assert np.allclose(rows, surface.pixels // 16 + 0.5, atol=1e-4)
    assert np.allclose(columns, surface.pixels % 16 + 0.5, atol=1e-4)


def test_normals_of_a_ball_point_outwards(ball_head):
    chosen = ball_head.vertices_of("helper-l-eye")
    normals = vertex_normals(ball_head.vertices, ball_head.triangles)[chosen]
    out = ball_head.vertices[chosen] - ball_head.vertices[chosen].mean(0)
    lengths = np.linalg.norm(normals, axis=1)  # 0 at the seam, where a ball has vertices without a triangle
    assert (normals * out).sum(1).min() >= 0 and np.allclose(lengths[lengths > 0], 1, atol=1e-4)


def test_what_is_behind_something_is_in_shadow():
    plate = np.float32([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    points = np.float32([[0, 0, -0.5], [0, 0, 0.5], [1.8, 0, -0.5]])
    hair = np.float32([[1.8, y, z] for y in np.linspace(-0.2, 0.2, 40) for z in (0.0,)])
    light = np.float32([0, 0, 1])
    assert seen_from(light, plate, triangles, np.zeros((0, 3), np.float32), points, 64).tolist() == [0, 1, 1]
    wide = np.concatenate([hair + [dx, 0, 0] for dx in np.linspace(-0.2, 0.2, 40)]).astype(np.float32)
    assert seen_from(light, plate, triangles, wide, points, 64).tolist() == [0, 1, 0]
    assert seen_from(np.float32([0.7, 0, 0.714]), plate, triangles, hair[:0], points[:1] - [0, 0, 1], 64) > 0.7
    assert np.allclose(np.linalg.norm(directions(28), axis=1), 1, atol=1e-5) and directions(28)[:, 2].min() > -0.2


# --- the real head ---


@pytest.mark.long
@pytest.mark.skipif(not (cache_folder() / FILE).is_file(), reason="the data of the heads are not in the cache")
def test_dlib_finds_the_faces_of_real_heads():
    pytest.importorskip("dlib", reason="needs dlib-bin (pip install 'diffusers-jova[faces]')")
    from diffusers_jova.evaluation.lips import lip_gaps
    from diffusers_jova.faces import DlibFaceDetector, find_landmarks_file

    detector = DlibFaceDetector(find_landmarks_file())
    for seed in range(6):
        portrait = Portrait(Person.from_seed(seed))
        closed, wide = lip_gaps(np.stack([portrait.draw(), portrait.draw(Pose({"jawOpen": 0.4}))]), detector)
        assert wide > closed + 0.1
