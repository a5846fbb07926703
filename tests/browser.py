"""Pages as a browser shows them: headless Chromium or Chrome, where one is installed."""

import shutil
import subprocess
import tempfile

import pytest


def in_browser(address, *flags):
    """Opens an address; returns what the browser wrote, with the page's messages in stderr."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((found for name in names if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no chromium or chrome to show the page in")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
        ]
        command += [f"--user-data-dir={profile}", *flags, address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done


def dom_of(address, *flags):
    """Returns the HTML of a page after its scripts have run."""
    return in_browser(address, "--dump-dom", *flags).stdout


def photograph(page, picture, width, theme):
    """Writes the picture of a page in a theme, "light" or "dark"; returns the page's messages."""
    preferred = {"dark": 0, "light": 1}[theme]
    done = in_browser(
        page.absolute().as_uri(),
        f"--blink-settings=preferredColorScheme={preferred}",
        "--hide-scrollbars",
        f"--window-size={width},6000",
        f"--screenshot={picture}",
    )
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]
