"""Numbers on pages in Chromium (R49, R93): each format and each failure of attribution.md 1.4."""

from __future__ import annotations

import html
from itertools import groupby

import pytest

from gateway.core import numberformats
from tests.core import number_cases as cases
from tests.web.dni.conftest import Stage
from tests.web.dni.standin import MOSCOW, MOSCOW_499, lines

Case = tuple[str, str, str, str]


def by_pair(table: list[Case]) -> list[tuple[str, str, list[Case]]]:
    """The cases of each target and number shown: one page for each."""
    ordered = sorted(table, key=lambda case: case[:2])
    return [(*pair, list(group)) for pair, group in groupby(ordered, key=lambda case: (case[0], case[1]))]


TEXTS = by_pair([*cases.SAME_PLAN, *cases.OTHER_PLAN, *cases.AROUND])


def show(stage: Stage, target: str, shown: str, *texts: str) -> None:
    stage.gateway.targets, stage.gateway.shown = {target: texts}, {target: shown}


@pytest.mark.parametrize(("target", "shown", "table"), TEXTS, ids=lambda value: value if isinstance(value, str) else "")
async def test_every_format(stage: Stage, target: str, shown: str, table: list[Case]) -> None:
    """`12-4951234567-1` stays; Korean and German numbers of another length are written anew."""
    show(stage, target, shown)
    page = await stage.open(lines([html.escape(case[2]) for case in table]))
    assert await stage.texts(page) == [case[3] for case in table]


@pytest.mark.parametrize(
    ("target", "shown", "table"), by_pair(cases.LINKS), ids=lambda value: value if isinstance(value, str) else ""
)
async def test_every_link(stage: Stage, target: str, shown: str, table: list[Case]) -> None:
    """`tel:` and `sms:` always become E.164; extension and message stay."""
    show(stage, target, shown)
    page = await stage.open("".join(f'<a href="{html.escape(case[2])}">call</a>' for case in table))
    hrefs = await page.eval_on_selector_all("a", "(all) => all.map((each) => each.getAttribute('href'))")
    assert hrefs == [case[3] for case in table]


async def test_a_vanity_number(stage: Stage) -> None:
    show(stage, cases.FLOWERS, cases.TOLL_FREE_US, "1-800-FLOWERS", "800 Flowers")
    page = await stage.open(lines(["Call 1-800-flowers or 800 Flowers (800-356-9377), not 1-800-FLOWERSHOP"]))
    expected = "Call (888) 555-0100 or (888) 555-0100 (888-555-0100), not 1-800-FLOWERSHOP"
    assert await stage.texts(page) == [expected]


SPLIT = [
    ("<span>+7 (495) <b>123-45-67</b></span>", "+7 (499) 765-43-21"),
    ("<i>8</i><i>495</i> <i>123</i>-<i>45</i>-<i>67</i>", "8499 765-43-21"),
    ("\n  <small>+7</small>\n  <span>(495)</span> <strong>123-45-67</strong>\n", "+7 (499) 765-43-21"),
    ("".join(f"<u>{digit}</u>" for digit in "84951234567"), "84997654321"),
    ("tel. 8 495 <!-- react -->123-45-<!-- -->67, Mo-Fr", "tel. 8 499 765-43-21, Mo-Fr"),
    ("<b>495</b> 1234567 <b>1</b>", "495 1234567 1"),
]


@pytest.mark.parametrize("shown", [MOSCOW_499, cases.KOREA_070])
async def test_split_nodes(stage: Stage, shown: str) -> None:
    """Each node keeps its share of the digits; a number of another plan stands where the old one began."""
    show(stage, MOSCOW, shown)
    page = await stage.open(lines([body for body, _ in SPLIT]))
    texts = [" ".join(text.split()) for text in await stage.texts(page)]
    if shown == MOSCOW_499:
        assert texts == [expected for _, expected in SPLIT]
        assert await page.eval_on_selector(".line b", "(b) => b.textContent") == "765-43-21"
    else:
        national = "070-4444-5555"
        abroad = "+82 70-4444-5555"
        assert texts == [
            abroad, national, abroad, "07044445555", f"tel. {national}, Mo-Fr", "495 1234567 1",
        ]  # fmt: skip


async def test_a_number_named_by_its_element(stage: Stage) -> None:
    body = lines(
        [
            '<span data-dialmark="+74951234567">one two three <b>call us</b></span>',
            '<span data-dialmark="84951234567">four</span>',
            '<span data-dialmark="84950000000">five</span>',
        ]
    )
    page = await stage.open(body)
    assert await stage.texts(page) == ["8 (499) 765-43-21", "8 (499) 765-43-21", "five"]


UNTOUCHED = """
<script type="application/ld+json">{"telephone": "+7 495 123-45-67"}</script>
<script>window.data = "84951234567";</script>
<style>.x::after { content: "84951234567" }</style>
<noscript>84951234567</noscript>
<template><p>84951234567</p></template>
<meta itemprop="telephone" content="84951234567"><link itemprop="url" href="tel:84951234567" data-meta>
<textarea>84951234567</textarea><input value="84951234567"><select><option>84951234567</option></select>
<pre>84951234567</pre><code>84951234567</code><div contenteditable="true"><p>84951234567</p></div>
<div data-dialmark-skip><p>84951234567 <a href="tel:84951234567">x</a></p></div>
<a href="https://example.com/84951234567" data-id="84951234567">page</a>
"""


async def test_what_is_never_touched(stage: Stage) -> None:
    """JSON-LD, scripts, styles, forms, what people edit, and other addresses (attribution.md 1.3)."""
    body = f"<div id=box>{UNTOUCHED.replace(' data-meta', '')}</div><p class=line>84951234567</p>"
    stage.site.pages["/raw"] = f"<!doctype html><body><div id=box>{UNTOUCHED.replace(' data-meta', '')}</div>"
    page = await stage.open(body.replace('<link itemprop="url" href="tel:84951234567">', ""))
    before = await page.evaluate(
        "async () => new DOMParser().parseFromString(await (await fetch('/raw')).text(), 'text/html')"
        ".getElementById('box').innerHTML.replace(/<link[^>]*>/, '')"
    )
    assert await stage.texts(page) == ["84997654321"]
    # Only noscript differs between a page with scripts and a parsed one.
    after = await page.eval_on_selector("#box", "(box) => box.innerHTML")
    assert after.replace("&lt;", "<").replace("&gt;", ">") == before.replace("&lt;", "<").replace("&gt;", ">")
    assert await page.title() == "Clinic"
    # Nor later, when it changes.
    await page.evaluate(
        "document.querySelector('[contenteditable] p').textContent = '+7 495 1234567';"
        "document.querySelector('pre').firstChild.data = '+7 495 1234567'; document.title = '84951234567'"
    )
    await stage.settled(page)
    assert await page.inner_text("[contenteditable] p") == "+7 495 1234567"
    assert await page.inner_text("pre") == "+7 495 1234567"
    assert await page.title() == "84951234567"


async def test_names_for_screen_readers(stage: Stage) -> None:
    page = await stage.open('<a href="tel:84951234567" aria-label="Call 8 495 123-45-67!" title="84951234567">x</a>')
    link = page.locator("a")
    assert await link.get_attribute("aria-label") == "Call 8 499 765-43-21!"
    assert await link.get_attribute("title") == "84997654321"


async def test_several_numbers_in_one_pass(stage: Stage) -> None:
    """What is put in place of one number may be another of the site's."""
    stage.gateway.targets = {MOSCOW: (), MOSCOW_499: ()}
    stage.gateway.shown = {MOSCOW: MOSCOW_499, MOSCOW_499: "+74990000001"}
    page = await stage.open(lines(["8 495 123-45-67, 8 499 765-43-21"]) + '<a href="tel:+74951234567">x</a>')
    assert await stage.texts(page) == ["8 499 765-43-21, 8 499 000-00-01"]
    assert await page.locator("a").get_attribute("href") == "tel:+74997654321"
    await page.evaluate("dialmark.swap(); dialmark.swap(document.body)")
    assert await stage.texts(page) == ["8 499 765-43-21, 8 499 000-00-01"]
    assert await page.locator("a").get_attribute("href") == "tel:+74997654321"


SHADOW = """
<x-card></x-card><x-late></x-late>
<script>
  class Card extends HTMLElement {
    connectedCallback() { this.attachShadow({ mode: "open" }).innerHTML = "<p>8 495 123-45-67</p>"; }
  }
  customElements.define("x-card", Card);
</script>
"""


async def test_open_shadow_roots(stage: Stage) -> None:
    stage.gateway.beat_seconds = 0.1
    page = await stage.open(SHADOW)
    assert await page.inner_text("x-card p") == "8 499 765-43-21"
    # Nothing tells of a root that comes later; the next beat finds it.
    await page.evaluate("customElements.define('x-late', class extends Card {})")
    await page.wait_for_function("document.querySelector('x-late').shadowRoot.textContent === '8 499 765-43-21'")
    await page.evaluate("document.querySelector('x-card').shadowRoot.querySelector('p').textContent = '84951234567'")
    await stage.settled(page)
    assert await page.inner_text("x-card p") == "84997654321"


async def test_frames_are_left_to_themselves(stage: Stage) -> None:
    """A frame of the same site has its own script, or none."""
    stage.site.pages["/inside"] = "<!doctype html><p>84951234567</p>"
    page = await stage.open('<p class=line>84951234567</p><iframe src="/inside"></iframe>')
    assert await stage.texts(page) == ["84997654321"]
    assert await page.frame_locator("iframe").locator("p").inner_text() == "84951234567"


async def test_a_script_that_fights_back_wins_after_a_while(stage: Stage) -> None:
    page = await stage.open(
        "<p class=line>84951234567</p><script>new MutationObserver(() => { window.rounds = (window.rounds || 0) + 1;"
        " const node = document.querySelector('p').firstChild;"
        " if (node.data !== '84951234567') node.data = '84951234567';"
        " }).observe(document.body, { subtree: true, characterData: true });</script>"
    )
    await page.wait_for_function("window.rounds > 90")
    await page.wait_for_function(
        "new Promise((done) => { const now = rounds; setTimeout(() => done(rounds === now), 100) })"
    )
    assert await stage.texts(page) == ["84951234567"]


async def test_layout_changes_later(stage: Stage) -> None:
    """Single-page sites: nodes that come, change and move (attribution.md 1.3)."""
    page = await stage.open("<div id=root></div>")
    await page.evaluate(
        "root.innerHTML = '<p class=line>8 495 <b>1</b></p><p class=line>none</p><a href=\"#\">x</a>';"
        "document.body.append('84951234567')"
    )
    await stage.settled(page)
    assert (await page.inner_text("body")).endswith("84997654321")
    await page.evaluate(
        "document.querySelector('b').textContent = '123-45-67'; root.children[1].firstChild.data = '84951234567'"
    )
    await page.evaluate("document.querySelector('a').href = 'tel:84951234567'")
    await stage.settled(page)
    assert await stage.texts(page) == ["8 499 765-43-21", "84997654321"]
    assert await page.locator("a").get_attribute("href") == "tel:+74997654321"
    # A second node beside the first makes one number of both.
    await page.evaluate("root.innerHTML = '<p class=line>8 495 </p>'; root.firstChild.append('123-45-67 now')")
    await stage.settled(page)
    assert await stage.texts(page) == ["8 499 765-43-21 now"]
    # Moved, cloned and taken out: it comes back right.
    await page.evaluate("window.kept = root.firstChild; kept.remove(); document.body.prepend(kept)")
    await stage.settled(page)
    assert await stage.texts(page) == ["8 499 765-43-21 now"]


def test_the_reference_agrees_with_the_table() -> None:
    """The cases above are those of gateway/core/numberformats.py."""
    for site, shown, text, expected in cases.AROUND:
        target = numberformats.target(site)
        assert target is not None
        assert numberformats.swap_text(text, target, shown) == expected
