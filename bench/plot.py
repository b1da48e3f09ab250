"""Lines over a logarithmic axis as an SVG that reads on light and dark, without any library.

scale.py uses it for `growth.svg`. Every panel begins at zero on its upright axis, so that flat looks flat.
"""

import html
import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 330, 260, 52, 14, 40, 48
STYLE = """
  svg { color: #1f2328; font: 12px system-ui, sans-serif; }
  .line { fill: none; stroke: #0b62d6; stroke-width: 2; }
  .dot { fill: #0b62d6; }
  .grid { stroke: currentColor; stroke-opacity: .15; }
  .axis { stroke: currentColor; stroke-opacity: .6; }
  text { fill: currentColor; }
  .title { font-weight: 600; font-size: 13px; }
  .middle { text-anchor: middle; }
  .end { text-anchor: end; }
  @media (prefers-color-scheme: dark) {
    svg { color: #e6edf3; }
    .line { stroke: #6cb0ff; }
    .dot { fill: #6cb0ff; }
  }
"""


def short(number):
    """1000000 as 1M, 2000 as 2k."""
    for size, letter in ((10**6, "M"), (10**3, "k")):
        if number >= size and number % size == 0:
            return f"{number // size}{letter}"
    return f"{number:g}"


def step_of(top):
    """A round distance between marks, for about four of them up to `top`."""
    power = 10 ** math.floor(math.log10(top / 4))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power * 4.5 >= top)


def panel(title, below, beside, points, left):
    """One diagram: `points` are pairs, at least two, with growing and positive first halves."""
    low, high = math.log10(points[0][0]), math.log10(points[-1][0])
    top = max(y for _, y in points) * 1.25 or 1
    inner, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(x, y):
        return LEFT + (math.log10(x) - low) / (high - low) * inner, TOP + (1 - y / top) * tall

    out = [f'<g transform="translate({left} 0)">', f'<text class="title middle" x="{LEFT + inner / 2}" y="20">{html.escape(title)}</text>']
    step, mark = step_of(top), 0
    while mark * step <= top:
        y = at(points[0][0], mark * step)[1]
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="end" x="{LEFT - 6}" y="{y + 4:.1f}">{mark * step:g}</text>')
        mark += 1
    out.append(f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{TOP + tall}H{WIDTH - RIGHT}"/>')
    places = [at(x, y) for x, y in points]
    for (x, _), (px, _) in zip(points, places):
        out.append(f'<text class="middle" x="{px:.1f}" y="{TOP + tall + 16}">{short(x)}</text>')
    out.append(f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>')
    for (_, value), (x, y) in zip(points, places):
        out.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
        out.append(f'<text class="middle" x="{x:.1f}" y="{y - 9:.1f}">{value:.1f}</text>')
    out.append(f'<text class="middle" x="{LEFT + inner / 2}" y="{HEIGHT - 10}">{html.escape(below)}</text>')
    out.append(f'<text class="middle" transform="translate(13 {TOP + tall / 2}) rotate(-90)">{html.escape(beside)}</text>')
    return "\n".join([*out, "</g>"])


def svg(panels, description):
    """The panels beside each other; each is (title, label of the lower axis, label of the upright one, points)."""
    wide = WIDTH * len(panels)
    drawn = "\n".join(panel(*one, left=WIDTH * number) for number, one in enumerate(panels))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {HEIGHT}" width="{wide}" height="{HEIGHT}" role="img">\n'
            f"<title>{html.escape(description)}</title>\n<style>{STYLE}</style>\n{drawn}\n</svg>\n")
