"""Every pair of letters and ground that can be shown is readable."""

import pytest
from ecco_terminal.palette import (
    BARS,
    BLACK,
    NAMED,
    WHITE,
    Palette,
    contrast,
    nearest_256,
    rgb_256,
    system_of,
    theme_of,
)  # fmt: skip


def rgb(name):
    if name.startswith("#"):
        return tuple(int(name[i : i + 2], 16) for i in (1, 3, 5))
    return rgb_256(int(name[6:-1])) if name.startswith("color(") else NAMED[name]


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("system", ["truecolor", "256", "16"])
def test_contrast_of_every_ink(system, theme):
    palette = Palette(system, theme)
    inks = [palette.score(i / 100, signed=True) for i in range(-100, 101)]
    inks += [palette.score(i / 100, signed=False) for i in range(101)]
    inks += [palette.paper, palette.muted, palette.mark, palette.warning]
    for ink in inks:
        assert bool(ink.fg) == bool(ink.bg), "a ground always comes with its letters"
        if ink.fg:
            assert contrast(rgb(ink.fg), rgb(ink.bg)) >= 4.5, ink


def test_bars_show_on_dark_and_light_terminals():
    for colour in (*BARS.values(), *(rgb_256(nearest_256(c)) for c in BARS.values())):
        assert min(contrast(colour, BLACK), contrast(colour, WHITE)) >= 3


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("system", ["truecolor", "256"])
def test_stronger_stands_out_more(system, theme):
    palette = Palette(system, theme)
    paper = rgb(palette.paper.bg)
    for signed, sides in ((True, (-1, 1)), (False, (1,))):
        for side in sides:
            steps = [contrast(rgb(palette.score(side * i / 50, signed=signed).bg), paper) for i in range(51)]
            assert steps == sorted(steps)
            assert steps[0] < 1.1
            assert steps[-1] > 3.5


def test_contrast_and_256_colours_are_the_known_ones():
    assert contrast(BLACK, WHITE) == pytest.approx(21)
    assert contrast((119, 119, 119), WHITE) == pytest.approx(4.48, abs=0.01)
    assert rgb_256(16) == BLACK
    assert rgb_256(231) == WHITE
    assert rgb_256(208) == (255, 135, 0)
    assert rgb_256(244) == (128, 128, 128)
    assert all(rgb_256(nearest_256(rgb_256(n))) == rgb_256(n) for n in range(16, 256))


@pytest.mark.parametrize(
    ("environment", "system"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "truecolor"),
        ({"TERM": "xterm-256color"}, "256"),
        ({"TERM": "linux"}, "16"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "none"),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, "256"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, "plain"),
        ({}, "256"),
    ],
)
def test_the_environment_says_what_can_be_shown(environment, system):
    assert system_of(environment) == system


def test_the_environment_may_say_that_the_ground_is_light():
    assert theme_of({"COLORFGBG": "0;15"}) == "light"
    assert theme_of({"COLORFGBG": "15;default;0"}) == theme_of({}) == "dark"
