"""Error curves as an image."""

from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, MARGIN = 900, 560, 70
COLORS = ((31, 96, 180), (200, 70, 30), (40, 140, 70), (130, 80, 170))
GRAY, BLACK = (150, 150, 150), (30, 30, 30)


@dataclass(frozen=True, slots=True)
class Curve:
    """Errors after each epoch, fractions.

    Attributes:
        group: curves of one group share a color.
        faint: drawn thin and light.
    """

    name: str
    errors: tuple[float, ...]
    group: str
    faint: bool = False


def draw_curves(curves: list[Curve], *, goal: float, title: str) -> Image.Image:
    """Draw error against epoch, and the goal as a dashed line."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    axes = _Axes(draw, max((len(curve.errors) for curve in curves), default=1))
    axes.draw_frame(title, goal)
    groups = list(dict.fromkeys(curve.group for curve in curves))
    for curve in curves:
        axes.draw_curve(curve, COLORS[groups.index(curve.group) % len(COLORS)])
    for position, curve in enumerate(curve for curve in curves if not curve.faint):
        color = COLORS[groups.index(curve.group) % len(COLORS)]
        axes.draw_key(position, curve.name, color)
    return image


class _Axes:
    """Epochs to the right, errors from 0 to 0.75 upwards."""

    TOP_ERROR = 0.75

    def __init__(self, draw: ImageDraw.ImageDraw, num_epochs: int):
        self.draw, self.num_epochs = draw, max(num_epochs, 2)
        self.font = ImageFont.load_default(size=16)

    def _point(self, epoch: float, error: float) -> tuple[float, float]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * epoch / self.num_epochs
        y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * min(error, self.TOP_ERROR) / self.TOP_ERROR
        return x, y

    def draw_frame(self, title: str, goal: float) -> None:
        corners = [self._point(0, 0), self._point(self.num_epochs, 0), self._point(0, 1)]
        self.draw.line([corners[1], corners[0], corners[2]], fill=BLACK, width=2)
        self.draw.text((MARGIN, 20), title, fill=BLACK, font=self.font)
        for error in (0.0, 0.25, 0.5, 0.75):
            x, y = self._point(0, error)
            self.draw.text((x - 10, y), f"{error:.0%}", fill=BLACK, font=self.font, anchor="rm")
        for epoch in range(0, self.num_epochs + 1, max(1, self.num_epochs // 10)):
            x, y = self._point(epoch, 0)
            self.draw.text((x, y + 10), str(epoch), fill=BLACK, font=self.font, anchor="mt")
        self.draw.text((WIDTH // 2, HEIGHT - 25), "epochs", fill=BLACK, font=self.font, anchor="mm")
        (left, y), (right, _) = self._point(0, goal), self._point(self.num_epochs, goal)
        for x in range(int(left), int(right), 12):
            self.draw.line([(x, y), (x + 6, y)], fill=GRAY)

    def draw_curve(self, curve: Curve, color: tuple[int, int, int]) -> None:
        if curve.faint:
            red, green, blue = ((channel + 2 * 255) // 3 for channel in color)
            color = (red, green, blue)
        # An epoch's error is a mean over it: it stands for the epoch's middle.
        points = [self._point(i + 0.5, error) for i, error in enumerate(curve.errors)]
        self.draw.line(points, fill=color, width=1 if curve.faint else 3, joint="curve")
        for x, y in points if not curve.faint else []:
            self.draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=color)

    def draw_key(self, position: int, name: str, color: tuple[int, int, int]) -> None:
        top = MARGIN + 24 * position
        self.draw.line(
            [(WIDTH - MARGIN - 240, top), (WIDTH - MARGIN - 210, top)], fill=color, width=3
        )
        where = (WIDTH - MARGIN - 200, top)
        self.draw.text(where, name, fill=BLACK, font=self.font, anchor="lm")
