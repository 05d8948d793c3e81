"""The script as a file: its weight, its marks, and the minifier that makes it small."""

from __future__ import annotations

import gzip
import re

import pytest
from playwright.async_api import Browser

from gateway.core import numberformats, scriptwire
from gateway.web.dni import minify, script


def configuration(*numbers: str) -> bytes:
    targets = [numberformats.target(number) for number in numbers]
    return scriptwire.configuration("clinic", [target for target in targets if target is not None])


def test_it_weighs_no_more_than_it_may() -> None:
    """Issue 4: at most 4 kB compressed, with a configuration of three numbers."""
    made = script.render(configuration("+74951234567", "+78001234567", "+74991112233"))
    assert len(made.compressed) <= script.MAX_COMPRESSED_BYTES
    assert gzip.decompress(made.compressed) == made.body


def test_its_mark_changes_with_what_is_in_it_and_with_nothing_else() -> None:
    one, same, other = (script.render(configuration(n)) for n in ("+74951234567", "+74951234567", "+74951234568"))
    assert one == same
    assert one.etag != other.etag
    assert re.fullmatch(r'"[0-9a-f]{20}"', one.etag)
    assert one.headers["ETag"] == one.etag
    assert "public, max-age=300" in one.headers["Cache-Control"]
    assert one.headers["Vary"] == "Accept-Encoding"


def test_it_has_nothing_that_a_content_policy_forbids() -> None:
    text = script.program()
    assert not re.search(r"\beval\b|new Function|innerHTML|document\.write|insertAdjacent", text)
    assert text.isascii()


SOURCE = """
// Adds up, `quietly`.
((config) => {
  /* a // b */
  const first = config.first; // one
  const second = "// not a comment";
  let total = 0;
  const add = (left, right) => {
    const both_ = left + +right;
    return { sum_: both_, left: left };
  };
  config.list.forEach((item) => {
    const made = add(item.left_ || 1, item / 2 / 1);
    total += made.sum_;
  });
  if (/[/"']+\\/(x)/g.test(config.path)) {
    total = -total;
  }
  function named(first) {
    try {
      return first ? total : add(first, 1).left;
    } catch (error) {
      return error;
    }
  }
  config.out = [named(1), first, second, config.list.map(() => 1).length, { add: add }.add(1, 2).sum_];
})
"""
CONFIG = "{ first: 7, list: [2, 4], path: 'a/\\'/x', left: 1 }"


async def test_what_is_made_small_does_the_same(chromium: Browser) -> None:
    small = minify.minify(SOURCE)
    assert len(small) < len(SOURCE) * 0.6
    page = await chromium.new_page()
    run = f"(source) => {{ const config = {CONFIG}; eval(source)(config); return config.out; }}"
    expected = await page.evaluate(run, SOURCE)
    assert expected == [-5, 7, "// not a comment", 2, 3]
    assert await page.evaluate(run, small) == expected
    await page.close()


def test_the_minifier_is_deterministic_and_leaves_other_peoples_names() -> None:
    small = minify.minify(SOURCE)
    assert small == minify.minify(SOURCE)
    for kept in (".first", ".list.forEach", "left:", '"// not a comment"', ".path", ".out=", "add:"):
        assert kept in small
    for gone in ("both_", "sum_", "named", "quietly", "\n", "const"):
        assert gone not in small


@pytest.mark.parametrize(
    "source",
    [
        "(() => { const a = `x`; })",
        "(() => { const { a } = b; })",
        "(() => { const a = 1; f({ a }); })",
        "(() => { const a = 1; f({ b: 2, a }); })",
        "(() => { f(x => x); })",
        "(() => { f((x = 1) => x); })",
    ],
)
def test_what_the_minifier_cannot_tell_apart_it_refuses(source: str) -> None:
    with pytest.raises(minify.Unclear):
        minify.minify(source)
