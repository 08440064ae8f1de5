"""A real browser for the tests of the report: the system's Chromium, without a window."""

import os
import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

WIDE = (1400, 1000)


def needed(missing):
    """Skips on a user's machine; in CI, where it must be there, fails."""
    reason = f"no {missing}; install the packages chromium and chromium-driver, and pip install selenium"
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


@contextmanager
def chromium():
    """Gives a driver of Chromium that keeps what its console says and what it asks the network for."""
    try:
        from selenium import webdriver
    except ImportError:
        needed("selenium")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        needed("chromium" if program is None else "chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox refuses to run as root
    size = "--window-size={},{}".format(*WIDE)
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", size, *root):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


def emulate(browser, scheme="light", width=None):
    """Shows the page as a reader with dark or light colours has it, or on a narrow screen."""
    wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}  # a scroll that ends at once
    features = [{"name": name, "value": value} for name, value in wishes.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    if width is None:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    else:
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    # Pages hear of it before the next frame.
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def said(browser):
    """What the console said and the addresses that were asked for, since the last time."""
    import json

    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return SimpleNamespace(console=[entry["message"] for entry in browser.get_log("browser")], asked=asked)
