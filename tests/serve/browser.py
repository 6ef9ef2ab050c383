"""A headless Chromium to drive, and what a page may not do while it is driven."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

__all__ = ["opened", "running"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_REFUSED = "Failed to load resource"
"""What Chromium logs for every answer of 400 and above; a test that asks for one expects it."""

_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
"""


def _executable() -> str:
    """Chromium's path: `TELOS_BROWSER`, or what is on the path.

    Without either the test is skipped. Where `TELOS_BROWSER` is set but is no program, the test fails:
    whoever names a browser wants the tests that need one to run.
    """
    given = os.environ.get("TELOS_BROWSER")
    if given:
        return shutil.which(given) or pytest.fail(f"TELOS_BROWSER={given}: there is no such program.")
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if not found:
        pytest.skip("needs Chromium: install it (Debian: apt install chromium), or name one in TELOS_BROWSER")
    return found


@contextmanager
def running() -> Iterator[Browser]:
    """A browser, for as long as the `with` lasts."""
    executable = _executable()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, address: str, *, refusals: bool = False, **context: Any) -> Iterator[Page]:
    """A page at `address` in a profile of its own.

    At the end it must not have logged an error, broken its content security policy, run anything that came in
    as text, nor made an element of it.
    """
    profile = browser.new_context(
        **{"locale": "en-US", "viewport": {"width": 1280, "height": 900}, **context}
    )
    page = profile.new_page()
    page.set_default_timeout(10_000)
    page.add_init_script(_VIOLATIONS)
    said: list[str] = []
    page.on(
        "console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: said.append(str(error)))
    try:
        page.goto(address)
        yield page
        assert [text for text in said if not (refusals and text.startswith(_REFUSED))] == []
        assert page.evaluate("window.violations") == []
        assert page.evaluate("window.hit") is None
        assert page.locator("img, iframe, script:not([src]), [onload], [onerror]").count() == 0
    finally:
        profile.close()
