"""The page of `zs inspect` in a real browser: what is clicked, typed and shown.

    python3 tests/browser/inspect_page.py PAGE [--shots DIR] [--chromium PATH]

Needs `playwright` (PyPI) and a Chromium; PAGE must hold several steps, and one question twice.
"""

import argparse
import pathlib
import re
import shutil
import time

from playwright.sync_api import sync_playwright

arguments = argparse.ArgumentParser()
arguments.add_argument("page")
arguments.add_argument("--shots")
arguments.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
options = arguments.parse_args()
url = pathlib.Path(options.page).resolve().as_uri()


def shoot(page, name):
    if options.shots:
        pathlib.Path(options.shots).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{options.shots}/{name}.png")


def count(page):
    shown, all_of_them = re.match(r"(\d+) of (\d+)", page.inner_text("#count")).groups()
    return int(shown), int(all_of_them)


def check(page, label):
    errors, requests = [], []
    page.on("pageerror", lambda it: errors.append(str(it)))
    page.on("console", lambda it: errors.append(it.text) if it.type == "error" else None)
    page.on("request", lambda it: requests.append(it.url))
    start = time.time()
    page.goto(url)
    page.wait_for_selector("body[data-ready=yes]", timeout=60_000)
    print(f"{label}: ready after {time.time() - start:.2f} s")
    assert requests == [url], f"the page asked for {requests}"
    shoot(page, f"{label}-top")

    shown, total = count(page)
    assert shown == total > 0
    assert page.locator(".row").count() < 80, "only the rows in sight are in the page"
    width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1], f"the page is wider than the window: {width}"

    # Keys move through the list, and the chosen episode is shown.
    page.focus("#list")
    page.keyboard.press("ArrowDown")
    first = page.inner_text("#detail h3")
    assert page.locator(".row[aria-selected=true]").count() == 1
    page.keyboard.press("End")
    page.keyboard.press("Home")
    assert page.inner_text("#detail h3") == first
    start = time.time()
    for _ in range(20):
        page.keyboard.press("PageDown")
    print(f"{label}: 20 pages of the list in {time.time() - start:.2f} s")

    # Authors, the drawn quality, and what a token is worth.
    page.keyboard.press("Home")
    page.select_option("#f-search", "noisy")
    noisy = count(page)[0]
    page.select_option("#f-search", "")
    page.select_option("#f-order", "-reward")
    page.locator(".row").first.click()
    assert page.locator(".segment.author-prompt").count() == 1
    assert page.locator(".segment.author-policy").count() >= 1
    token = page.locator(".author-policy .token").nth(2)
    token.scroll_into_view_if_needed()
    token.hover()
    tip = page.inner_text("#tip")
    assert "by policy" in tip and "log-probability" in tip and "advantage" in tip, tip
    shoot(page, f"{label}-token")
    page.focus("#segments")
    page.keyboard.press("ArrowRight")
    before = page.inner_text("#tip")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#tip") != before, "arrow keys move from token to token"
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()
    for colour in ["log-prob", "advantage"]:
        page.select_option("#colour", colour)
        shoot(page, f"{label}-{colour}")
    page.select_option("#colour", "author")
    page.select_option("#f-order", "step")

    # Filters, alone and together.
    page.fill("#f-step-min", "2")
    page.fill("#f-step-max", "2")
    page.select_option("#f-order", "-reward")
    step_two = count(page)[0]
    assert 0 < step_two < total
    page.locator(".row").first.click()
    assert "step 2 ·" in page.inner_text("#detail .facts")
    page.click("#filters button[type=reset]")
    page.wait_for_function("n => document.getElementById('count').textContent.startsWith(n + ' of')", arg=total)
    word = first.split()[-1].strip("?").split("?")[0] or first.split()[0]
    start = time.time()
    page.fill("#f-text", word.lower())
    filtered = count(page)[0]
    print(f"{label}: {filtered} with `{word}`, {noisy} with a noisy search, filtered in {time.time() - start:.2f} s")
    assert 0 < filtered <= total
    page.fill("#f-text", "no question has this")
    assert count(page)[0] == 0
    page.fill("#f-text", "")
    page.fill("#f-reward-min", "1000")
    assert count(page)[0] == 0
    page.fill("#f-reward-min", "")
    if page.locator(".show-alarm").count():
        page.locator(".show-alarm").first.click()
        assert 0 < count(page)[0] <= total
        shoot(page, f"{label}-alarm")
        page.click("#filters button[type=reset]")
        page.wait_for_function("n => document.getElementById('count').textContent.startsWith(n + ' of')", arg=total)

    # The same question at another step.
    page.locator(".row").first.click()
    step = re.match(r"step (\d+)", page.inner_text("#detail .facts")).group(1)
    choices = page.eval_on_selector_all("#compare option", "it => it.map(o => [o.value, o.textContent])")
    other = [value for value, text in choices if value and not text.startswith(f"step {step},")]
    same = [value for value, _ in choices if value]
    page.select_option("#compare", (other or same)[0])
    assert page.locator(".diff").count() == 1
    assert page.locator(".diff ins, .diff del").count() > 0 or page.locator(".diff span").count() == 1
    page.locator("#detail").scroll_into_view_if_needed()
    shoot(page, f"{label}-difference")
    assert not errors, errors
    return bool(other)


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
    found_steps = False
    for label, width, height, scheme in [
        ("desktop-light", 1280, 900, "light"),
        ("desktop-dark", 1280, 900, "dark"),
        ("phone-dark", 390, 844, "dark"),
        ("phone-light", 390, 844, "light"),
    ]:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        found_steps |= check(context.new_page(), label)
        context.close()
    browser.close()
print("ok, with two steps compared" if found_steps else "ok, no question was asked at two steps")
