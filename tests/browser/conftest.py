"""JupyterLab on copies of the notebooks, and Chromium to look at it; without a browser the tests are skipped and say why."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest

REPOSITORY = Path(__file__).parents[2]
TOKEN = "the-tests-own"
PATIENCE_MS = 120_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = str.split(
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)
LAB_FLAGS = str.split(
    "--no-browser --allow-root --ip=127.0.0.1 --ServerApp.port_retries=0 --LabApp.expose_app_in_browser=True "
    "--ServerApp.terminals_enabled=False --LabApp.extension_manager=readonly"
)
LAB_SETTINGS = {
    # No pop-up that asks about news, and every cell on the page, also those far below.
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}


class Lab(NamedTuple):
    """A running JupyterLab: where it listens, and the folder that it shows."""

    url: str
    folder: Path

    def ask(self, path: str, method: str = "GET") -> Any:
        """Call the server's REST interface; None when the answer is empty."""
        headers = {"Authorization": f"token {TOKEN}"}
        with urllib.request.urlopen(
            urllib.request.Request(self.url + path, headers=headers, method=method), timeout=10
        ) as reply:
            return json.loads(reply.read() or "null")


@pytest.fixture(scope="module")
def browser_flags() -> list[str]:
    """What Chromium is started with besides BROWSER_FLAGS; a test module that needs more has a fixture of this name."""
    return []


@pytest.fixture(scope="module")
def browser(browser_flags: list[str]) -> Iterator[Any]:
    """Chromium without a window."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("no browser tests: Playwright is missing (pip install playwright)")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser tests: none of {', '.join(BROWSERS)} is here (apt-get install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=[*BROWSER_FLAGS, *browser_flags])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def lab(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab with no settings but ours, in an empty folder: running a notebook must not change the repository."""
    home, folder = tmp_path_factory.mktemp("jupyter"), tmp_path_factory.mktemp("notebooks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = Lab(f"http://127.0.0.1:{port}", folder)
    command = [sys.executable, "-m", "jupyterlab", *LAB_FLAGS, f"--port={port}", f"--ServerApp.root_dir={folder}"]
    command.append(f"--IdentityProvider.token={TOKEN}")
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, env=lab_environment(home), stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until_it_answers(found, server, home / "log")
        yield found
        found.ask("/api/shutdown", "POST")
        server.wait(timeout=20)
    finally:
        server.kill()
        server.wait()


def lab_environment(home: Path) -> dict[str, str]:
    """The environment of the tests, with all of Jupyter's folders in `home`; figures go into the notebook."""
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    for name in (
        "JUPYTER_CONFIG",
        "JUPYTER_DATA",
        "JUPYTER_RUNTIME",
        "JUPYTERLAB_SETTINGS",
        "JUPYTERLAB_WORKSPACES",
        "IPYTHON",
    ):
        variable = "IPYTHONDIR" if name == "IPYTHON" else f"{name}_DIR"
        environment[variable] = str(home / name.lower())
    for name, settings in LAB_SETTINGS.items():
        file = home / "jupyterlab_settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(settings))
    return environment


def wait_until_it_answers(lab: Lab, server: subprocess.Popen, log: Path, seconds: int = 60) -> None:
    """Poll the server; its log becomes the error when it stops or stays silent."""
    for _ in range(2 * seconds):
        try:
            lab.ask("/api/status")
        except (urllib.error.URLError, TimeoutError):
            if server.poll() is not None:
                break
            time.sleep(0.5)
        else:
            return
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture
def open_notebook(browser: Any, lab: Lab) -> Iterator[Callable[..., Any]]:
    """Give the name of a notebook in the lab's folder, get a page in which all its cells were started.

    JavaScript to run before anything else on the page can be passed as `before`.
    """
    page = browser.new_page(viewport={"width": 1150, "height": 1000})
    page.set_default_timeout(PATIENCE_MS)

    def run(name: str, before: str = "") -> Any:
        page.add_init_script(before)
        page.goto(f"{lab.url}/lab/tree/{name}?token={TOKEN}&reset")
        page.wait_for_selector("#jupyterlab-splash", state="detached")
        kernel = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"
        page.wait_for_function(f"() => {kernel}?.status === 'idle'")
        page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
        return page

    yield run
    page.close()
    for session in lab.ask("/api/sessions"):
        lab.ask(f"/api/sessions/{session['id']}", "DELETE")


@pytest.fixture
def run_notebook(open_notebook: Callable[..., Any], lab: Lab) -> Callable[[str], Any]:
    """Run a copy of one of the course's notebooks, by its name; its kernel is shut down afterwards."""

    def run(name: str) -> Any:
        shutil.copy(REPOSITORY / "notebooks" / name, lab.folder)
        return open_notebook(name)

    return run


@pytest.fixture
def run_cell(open_notebook: Callable[..., Any], lab: Lab) -> Callable[..., Any]:
    """Run one cell, in a notebook of the test's own."""

    def run(source: str, before: str = "") -> Any:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, lab.folder / "cell.ipynb")
        return open_notebook("cell.ipynb", before)

    return run
