#!/usr/bin/env python3
"""Opens report pages in headless Chromium, at phone and desktop widths, in light and dark.

    python3 tests/pages/check_pages.py REPORT.html ... [--screenshots DIR]

Fails where a page is wider than the screen, asks for anything from elsewhere, logs an error, has a chart without size or
text too small or too faint to read. Says that it was skipped, and succeeds, where playwright or Chromium is missing
(`pip install playwright`; Debian's package `chromium`, or `playwright install chromium`).
"""

import argparse
import pathlib
import shutil
import sys

WIDTHS = {"phone": (390, 844), "desktop": (1280, 900)}
MIN_PIXELS = 9.5
MIN_CONTRAST = 3.0

# Width of the page, charts, and the effective size and contrast of every text, measured in the page.
MEASURE = """
() => {
  const luminance = ([r, g, b]) => {
    const f = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
  };
  const numbers = (color) => (color.match(/[\\d.]+/g) || [0, 0, 0]).map(Number);
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = numbers(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !parent.getClientRects().length || parent.closest('style')) continue;
    const style = getComputedStyle(parent);
    const svg = parent.closest('svg');
    const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    const ink = numbers(svg ? (style.fill === 'none' ? style.color : style.fill) : style.color);
    const [a, b] = [luminance(ink), luminance(background(svg || parent))].sort((x, y) => y - x);
    texts.push({ text: text.slice(0, 40), pixels: parseFloat(style.fontSize) * scale, contrast: (a + 0.05) / (b + 0.05) });
  }
  return {
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    charts: [...document.querySelectorAll('svg')].map((it) => {
      const box = it.getBoundingClientRect();
      return [box.width, box.height];
    }),
    texts,
  };
}
"""


def problems(page, requests, errors):
    found = page.evaluate(MEASURE)
    if found["overflow"] > 0:
        yield f"the page is {found['overflow']} pixels wider than the screen"
    for width, height in found["charts"]:
        if width < 200 or height < 100:
            yield f"a chart of {width:.0f} x {height:.0f} pixels"
    small = [it for it in found["texts"] if it["pixels"] < MIN_PIXELS]
    faint = [it for it in found["texts"] if it["contrast"] < MIN_CONTRAST]
    for it in small[:3]:
        yield f"text of {it['pixels']:.1f} pixels: {it['text']!r}"
    for it in faint[:3]:
        yield f"text with a contrast of {it['contrast']:.1f}: {it['text']!r}"
    if not found["texts"]:
        yield "the page is empty"
    yield from (f"asks for {it}" for it in requests)
    yield from (f"logs {it}" for it in errors)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="+", type=pathlib.Path)
    parser.add_argument("--screenshots", type=pathlib.Path)
    arguments = parser.parse_args()
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        print("skipped: playwright is not installed")
        return 0
    failed = False
    with sync_playwright() as playwright:
        try:
            executable = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        except Error as error:
            print(f"skipped: Chromium does not start: {str(error).splitlines()[0]}")
            return 0
        for path in arguments.pages:
            for name, (width, height) in WIDTHS.items():
                for scheme in ("light", "dark"):
                    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                    requests, errors = [], []
                    own = path.resolve().as_uri()
                    page.on("request", lambda it: requests.append(it.url) if it.url != own else None)
                    page.on("console", lambda it: errors.append(it.text) if it.type == "error" else None)
                    page.goto(own)
                    if arguments.screenshots:
                        arguments.screenshots.mkdir(parents=True, exist_ok=True)
                        target = arguments.screenshots / f"{path.stem}-{name}-{scheme}.png"
                        page.screenshot(path=target, full_page=True)
                    found = list(problems(page, requests, errors))
                    failed |= bool(found)
                    print(f"{path.name}, {name}, {scheme}: {'; '.join(found) or 'fine'}")
                    page.close()
        browser.close()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
