# SPDX-License-Identifier: Apache-2.0
"""A canvas for text and bars on an image; its unit of length grows with the image."""

import unicodedata
from typing import Literal

import cv2
import numpy as np

Colour = tuple[int, int, int]

WHITE: Colour = (245, 246, 248)
GREY: Colour = (168, 174, 184)
TRACK: Colour = (52, 57, 66)
BACKGROUND: Colour = (24, 26, 31)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Height of a capital letter at font scale 1.
_CAPITAL = 21.0
# Text that does not fit is written smaller, down to this share of its size, and then cut short.
_SMALLEST = 0.82
_CUT = '..'


def plain_text(text: str) -> str:
    """Return text that OpenCV can write: accents are dropped, other characters become `?`."""
    apart = unicodedata.normalize('NFKD', text)
    bare = ''.join(letter for letter in apart if not unicodedata.combining(letter))
    return bare.encode('ascii', 'replace').decode()


class Canvas:
    """Draws on an image.

    All lengths are in units, one pixel each at scale 1.

    Args:
        image_hw3: The image to draw on, in place, uint8 RGB.
        scale: Pixels of a unit.
    """

    def __init__(self, image_hw3: np.ndarray, *, scale: float) -> None:
        self._image_hw3 = image_hw3
        self._scale = scale

    @property
    def width(self) -> float:
        """Width of the image in units."""
        return float(self._image_hw3.shape[1] / self._scale)

    def bar(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """Fill a rectangle; a rectangle narrower than a pixel is left out."""
        left, top = self._pixels(x), self._pixels(y)
        right, bottom = self._pixels(x + width), self._pixels(y + height)
        if right > left and bottom > top:
            corner = (right - 1, bottom - 1)
            cv2.rectangle(self._image_hw3, (left, top), corner, colour, cv2.FILLED)

    def text(
        self,
        text: str,
        x: float,
        y: float,
        *,
        height: float,
        colour: Colour = WHITE,
        width: float = float('inf'),
        align: Literal['left', 'right', 'centre'] = 'left',
    ) -> float:
        """Write a line of text.

        Args:
            text: The text.
            x: Position of the left end, the right end or the middle, by `align`.
            y: Position of the base line.
            height: Height of a capital letter.
            colour: Colour of the text.
            width: The most width; longer text is written smaller or cut short.
            align: The part of the text that lies at `x`.

        Returns:
            Width of the written text.
        """
        text = plain_text(text)
        font = height * self._scale / _CAPITAL
        room = width * self._scale
        if self._text_width(text, font) > room:
            font = max(font * _SMALLEST, font * room / max(1, self._text_width(text, font)))
            if self._text_width(text, font) > room:
                text = self._cut(text, font, room)
        if not text:
            return 0.0
        taken = self._text_width(text, font)
        shift = {'left': 0.0, 'right': taken, 'centre': taken / 2}[align]
        at = (round(x * self._scale - shift), self._pixels(y))
        cv2.putText(
            self._image_hw3, text, at, _FONT, font, colour, self._thickness(font), cv2.LINE_AA
        )
        return taken / self._scale

    def _cut(self, text: str, font: float, room: float) -> str:
        while text and self._text_width(text.rstrip() + _CUT, font) > room:
            text = text[:-1]
        return text.rstrip() + _CUT if text else ''

    def _text_width(self, text: str, font: float) -> int:
        return int(cv2.getTextSize(text, _FONT, font, self._thickness(font))[0][0])

    def _thickness(self, font: float) -> int:
        return max(1, round(1.8 * font))

    def _pixels(self, length: float) -> int:
        return round(length * self._scale)
