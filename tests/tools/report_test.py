#!/usr/bin/env python3
"""The page of plots: report_test.py PATH/TO/render_report [FOLDER for pictures]. Well formed by parsers; then used in headless Chromium, where there is one (else exit status 77: skipped)."""

import base64
import hashlib
import html.parser
import json
import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree

import browser
import common
from common import check, finish, temporary, works

HERE = pathlib.Path(__file__).resolve().parent
VOID = {"meta", "link", "input", "br"}


class Tags(html.parser.HTMLParser):
    """Every tag is closed in its place, ids are there once, links have their target."""

    def __init__(self, name):
        super().__init__()
        self.name, self.open, self.ids, self.links = name, [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        for key in ("src", "href", "xlink:href", "data", "action"):
            if key in attributes:
                self.links.append(attributes[key])
        check(not any(key.startswith("on") or key == "style" for key in attributes), f"{self.name}: a handler or a style in {tag}")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        check(self.open and self.open.pop() == tag, f"{self.name}: </{tag}> closes something else at {self.getpos()}")


def well_formed(page, name):
    tags = Tags(name)
    tags.feed(page)
    check(tags.open == [], f"{name}: left open {tags.open}")
    check(len(tags.ids) == len(set(tags.ids)), f"{name}: an id twice")
    for link in tags.links:
        check(link == "data:," or link[0] == "#" and link[1:] in tags.ids or link.startswith("https://arxiv.org/abs/"), f"{name}: leads outside or nowhere: {link}")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page).group(1)
    for kind in ("style", "script"):  # those of the page are named by their hash
        inside = re.search(rf"<{kind}>(.*?)</{kind}>", page, re.S).group(1)
        check(f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'" in policy, f"{name}: the policy does not fit the {kind}: {policy}")
    check("default-src 'none'" in policy and "unsafe" not in policy, f"{name}: the policy is open: {policy}")
    check("@import" not in page and "url(" not in page, f"{name}: CSS loads nothing")
    pictures = re.findall(r"<svg.*?</svg>", page, re.S)
    check(pictures, f"{name}: has plots")
    for svg in pictures:
        try:
            root = xml.etree.ElementTree.fromstring(svg)
            check("aria-hidden" in root.attrib or any(child.tag.endswith("title") and child.text for child in root), f"{name}: a plot without title")
        except xml.etree.ElementTree.ParseError as e:
            check(False, f"{name}: {e}: {svg[:200]}")
    check("NaN" not in page and ">nan" not in page and "inf\"" not in page, f"{name}: a number that is none")
    check(len(page) < 2_000_000, f"{name}: {len(page)} bytes")


def tried(b, url, pictures):
    """What a reader does with it."""
    b.size(1200, 900)
    b.colours("light")
    loads = []
    for _ in range(5):  # the machine may be busy: the fastest says what the page needs
        b.open(url)
        loads.append(b.run("(() => { const n = performance.getEntriesByType('navigation')[0]; return n.loadEventEnd - n.startTime; })()"))
    check(0 < min(loads) < 1000, f"opens in {min(loads):.0f} ms")
    print(f"opens in {min(loads):.0f} ms")
    check(b.run("getComputedStyle(document.querySelector('.js')).display") == "flex", "controls are shown")
    first_screen = b.run("document.querySelector('svg.plot').getBoundingClientRect().bottom")
    check(first_screen <= 900, f"sentence and plot are on the first screen, to {first_screen}")
    b.size(1280, 900)
    check(b.run("(() => { const t = document.querySelector('#numbers .table'); return t.scrollWidth <= t.clientWidth; })()"), "the main table needs no scrolling at 1280 px")
    b.size(1200, 900)
    ink = "(() => { const c = document.querySelector('#lives canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let s = 0; for (let i = 0; i < d.length; i += 4) s = (s * 31 + d[i] + d[i + 3]) % 1000003; return s; })()"
    shades = "[...document.querySelectorAll('#text span')].map(s => s.style.getPropertyValue('--s')).join()"
    before = b.run(ink), b.run(shades)
    b.run("document.getElementById('row').focus()")
    b.key("ArrowDown", 40)
    after = b.run(ink), b.run(shades)
    check(before[0] != after[0] and before[1] != after[1], "another policy: another picture, another shading")
    # A row with heads, then the slider by keyboard.
    b.run("(() => { const r = document.getElementById('row'); r.value = [...r.options].map(o => o.value).find(v => v.includes('head')); r.dispatchEvent(new Event('change')); document.getElementById('lane').focus(); })()")
    name, before = b.run("document.getElementById('lane-name').value"), b.run(ink)
    b.key("ArrowRight", 39)
    check(b.run("document.getElementById('lane-name').value") != name and b.run(ink) != before, "arrow keys move through layers and heads")
    b.run("document.getElementById('step').focus()")
    b.key("Home", 36)
    check(b.run("document.getElementById('step-name').value").endswith(": 1 kept"), "at the first step one token is kept")
    check(b.run("document.querySelectorAll('#text .gone').length") == b.run("document.querySelectorAll('#text span').length - 1"), "and the others are pale")
    for _ in range(3):
        b.key("ArrowRight", 39)
    check(b.run("document.getElementById('step-name').value").endswith(": 4 kept"), "three steps on, four")
    b.run("document.getElementById('text').focus()")
    b.key("ArrowRight", 39)
    b.key("ArrowRight", 39)
    check(b.run("document.getElementById('says').textContent").startswith("Position 2, "), "arrow keys read tokens")
    x, y = b.run("(() => { const s = document.querySelectorAll('#text span')[5]; s.scrollIntoView(); const r = s.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()")
    b.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    check(b.run("document.getElementById('says').textContent").startswith("Position 5, "), "the pointer reads tokens")
    unnamed = b.run("[...document.querySelectorAll('input, select')].filter(e => !e.labels.length).length")
    check(unnamed == 0, "every control has a label")
    b.picture(pictures / "light.png")
    light = b.run("getComputedStyle(document.body).backgroundColor")
    b.colours("dark")
    check(b.run("getComputedStyle(document.body).backgroundColor") != light, "dark is dark")
    b.picture(pictures / "dark.png")
    contrast = "(() => { const n = c => c.match(/[0-9.]+/g).slice(0, 3).map(Number).map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); const l = c => { const [r, g, b] = n(c); return 0.2126 * r + 0.7152 * g + 0.0722 * b; }; const s = e => getComputedStyle(e); const p = l(s(document.body).backgroundColor); return Math.min(...[s(document.body).color, s(document.querySelector('.caption')).color, s(document.querySelector('a')).color].map(c => (Math.max(l(c), p) + 0.05) / (Math.min(l(c), p) + 0.05))); })()"
    check(b.run(contrast) >= 4.5, "words stand out in dark")
    b.colours("light")
    check(b.run(contrast) >= 4.5, "words stand out in light")
    b.size(360, 740, mobile=True)
    b.open(url)
    check(b.run("document.documentElement.scrollWidth") <= 360, f"no sideways scrolling on a phone: {b.run('document.documentElement.scrollWidth')}")
    b.picture(pictures / "phone.png")
    b.size(1200, 900)
    b.pdf(pictures / "print.pdf")
    check((pictures / "print.pdf").read_bytes()[:5] == b"%PDF-", "prints")
    b.ask("Emulation.setEmulatedMedia", media="print")
    b.size(760, 1000)
    check(b.run("[...document.querySelectorAll('.js, nav')].every(e => getComputedStyle(e).display === 'none')"), "controls are not printed")
    check(b.run("document.documentElement.scrollWidth") <= 760, f"tables fit on paper: {b.run('document.documentElement.scrollWidth')}")
    b.picture(pictures / "print.png")
    b.ask("Emulation.setEmulatedMedia", media="")
    for complaint in b.complaints():
        check(False, complaint)
    stranger = "(() => { const s = document.createElement('script'); s.textContent = 'window.stranger = true'; document.body.append(s); const a = document.createElement('a'); a.setAttribute('onclick', 'window.stranger = true'); a.click(); return window.stranger === true; })()"
    check(b.run(stranger) is False, "the page runs no script but its own")


def with_commas(folder):
    """The environment of a program whose locale writes decimal commas; None where there is no such locale to be had."""
    try:
        made = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", folder / "de_DE.UTF-8"], capture_output=True)
    except FileNotFoundError:
        return None
    return {**os.environ, "LOCPATH": str(folder), "LC_ALL": "de_DE.UTF-8"} if made.returncode == 0 else None


def main():
    render = str(pathlib.Path(sys.argv[1]).resolve())
    with temporary() as folder:
        folder = pathlib.Path(folder)
        pictures = pathlib.Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else folder
        small = HERE.parent / "data" / "report" / "synthetic.json"
        made = subprocess.run([sys.executable, "-B", HERE / "report_fixture.py"], capture_output=True, text=True, check=True).stdout
        check(made == small.read_text(), "synthetic.json is what report_fixture.py prints")
        large = subprocess.run([sys.executable, "-B", HERE / "report_fixture.py", "--large"], capture_output=True, text=True, check=True).stdout
        (folder / "large.json").write_text(large)
        whole = json.loads(made)
        old = {key: whole[key] for key in whole if key not in ("bootstrap", "pairs", "trace", "recall", "free_run", "prompt_modes", "time")}
        (folder / "old.json").write_text(json.dumps(old))
        (folder / "small.json").write_text(made)
        for name in ("small", "large", "old"):
            works(render, folder / f"{name}.json", folder / f"{name}.html")
            page = (folder / f"{name}.html").read_text()
            print(f"{name}: {len(page)} bytes")
            well_formed(page, name)
        commas = with_commas(folder)
        if commas:
            subprocess.run([render, folder / "large.json", folder / "commas.html"], env=commas, check=True)
            check((folder / "commas.html").read_bytes() == (folder / "large.html").read_bytes(), "a locale with decimal commas changes nothing")
        else:
            print("skipped: there is no locale with decimal commas, nor localedef to make one")
        evil = "<script>alert(1)</script>"
        (folder / "evil.json").write_text(re.sub(r'"budget":[0-9]+', f'"budget":"{evil}"', made))
        works(render, folder / "evil.json", folder / "evil.html")
        page = (folder / "evil.html").read_text()
        check(evil not in page and page.count("<script") == 2, "a budget that is markup is text")
        well_formed(page, "evil")
        if not browser.find():
            print("skipped: there is no chromium")
            sys.exit(1 if common.failures else 77)
        b = browser.Browser(folder)
        try:
            tried(b, (folder / "large.html").as_uri(), pictures)
            b.open((folder / "old.html").as_uri())
            check(b.complaints() == [], f"without a trace: {b.complaints()}")
        finally:
            b.close()
    finish()


main()
