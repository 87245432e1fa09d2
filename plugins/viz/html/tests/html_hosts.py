"""Places that show results: a live Jupyter server with a real kernel, and pages that keep the rules of other hosts."""

from __future__ import annotations

import contextlib
import html
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from html.parser import HTMLParser

import nbformat

CELLS = (
    """\
import torch, ecco_core as ecco
torch.set_num_threads(1)
lm = ecco.from_pretrained("tiny:prose")
run = lm.generate("The captain is called", 8, stream=True)""",
    'scores = run.analyze("input_x_gradient")\nscores',
    'ecco.report([scores, run.analyze("predict", top_k=5)])',
)
#: What the hosts themselves say of themselves on a console.
SAID_BY_HOSTS = (
    "reading 'schema'",
    "'filebrowser:open-path' not registered",
    "404 (Not Found)",
    "nbextensions/widgets",
)


def write_notebook(path, cells=CELLS):
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(notebook, path)


@contextlib.contextmanager
def jupyter(folder):
    """A server of its own for JupyterLab, Notebook 7 and nbclassic: its address and the folder of its notebooks."""
    work, settings = folder / "work", folder / "config" / "labconfig"
    work.mkdir()
    settings.mkdir(parents=True)
    news = {"@jupyterlab/apputils-extension:announcements": True}
    (settings / "page_config.json").write_text(json.dumps({"disabledExtensions": news}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "run",
        "IPYTHONDIR": "i",
    }
    server = {"ip": "127.0.0.1", "port": port, "port_retries": 0, "root_dir": work, "disable_check_xsrf": True}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--IdentityProvider.token="]
    command += ["--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command += [f"--ServerApp.{name}={value}" for name, value in server.items()]
    environment = os.environ | {name: str(folder / place) for name, place in places.items()}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}/"
        _wait_for(address, process, folder / "log")
        yield address, work
    finally:
        process.terminate()  # it ends its kernels
        process.wait(60)


def _wait_for(address, process, log):
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}api"):
            return
        time.sleep(0.1)
    raise AssertionError(f"Jupyter did not start:\n{log.read_text()[-3000:]}")


def start_kernel(address, notebook):
    """Start it before the page asks for it, to which it then connects."""
    wanted = {"path": notebook, "name": notebook, "type": "notebook", "kernel": {"name": "python3"}}
    request = urllib.request.Request(f"{address}api/sessions", json.dumps(wanted).encode(), method="POST")
    urllib.request.urlopen(request).read()


@contextlib.contextmanager
def tab(browser, address="", **settings):
    """A page without a network but `address`, and the list of its requests to elsewhere and of its complaints."""
    nowhere = {"server": "http://127.0.0.1:9", "bypass": "127.0.0.1"}
    context = browser.new_context(viewport={"width": 1200, "height": 900}, proxy=nowhere, **settings)
    context.set_default_timeout(60_000)
    page, trouble = context.new_page(), []
    inside = tuple(start for start in (address, "data:", "blob:", "file:", "about:") if start)

    def complain(kind, text):
        if not any(known in text for known in SAID_BY_HOSTS):
            trouble.append((kind, text))

    context.on("request", lambda r: r.url.startswith(inside) or trouble.append(("request", r.url)))
    page.on("console", lambda m: m.type == "error" and complain("console", f"{m.text} {m.location}"))
    page.on("pageerror", lambda e: complain("error", str(e)))
    page.on("dialog", lambda d: (d.type == "beforeunload" or trouble.append(("dialog", d.message)), d.accept()))
    yield page, trouble
    context.close()


def untrusted_copy(saved, path):
    """The same notebook from somebody else: Jupyter signs outputs by what they hold."""
    notebook = nbformat.read(saved, 4)
    for cell in notebook.cells:
        for output in cell.outputs:
            if "data" in output:
                output["data"]["text/html"] += "<!-- from elsewhere -->"
    nbformat.write(notebook, path)


class _Sanitised(HTMLParser):
    """Keeps the tags that GitHub keeps, without attributes; scripts and styles go with what is in them."""

    KEPT = frozenset(
        [
            "b",
            "br",
            "code",
            "details",
            "div",
            "em",
            "h2",
            "h3",
            "li",
            "p",
            "pre",
            "span",
            "strong",
            "summary",
            "table",
            "tbody",
            "td",
            "th",
            "thead",
            "tr",
            "ul",
        ]
    )

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts, self.hidden = [], 0

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in ("script", "style")
        self.parts += [f"<{tag}>"] if tag in self.KEPT else []

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style")
        self.parts += [f"</{tag}>"] if tag in self.KEPT else []

    def handle_data(self, data):
        self.parts += [] if self.hidden else [html.escape(data)]


def sanitised(fragment):
    parser = _Sanitised()
    parser.feed(fragment)
    parser.close()
    return "".join(parser.parts)


#: How VS Code shows an output: no loader of modules, a policy without network, markup by innerHTML, scripts made anew.
VS_CODE = """<!doctype html><html><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy"
content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"></head>
<body class="vscode-dark" style="--vscode-editor-background: #1e1e1e; background: #1e1e1e; color: #ccc">
<div id="one"></div><div id="two"></div><script>
function show(place, markup) {
  const box = document.getElementById(place);
  box.innerHTML = markup;
  for (const script of box.querySelectorAll("script")) {
    const again = document.createElement("script");
    for (const { name, value } of script.attributes) again.setAttribute(name, value);
    again.textContent = script.textContent;
    script.replaceWith(again);
  }
}
</script></body></html>"""


def embedded(fragment):
    """A page that shows a fragment as Streamlit's components.html does: the text of a frame with its own rules."""
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
    return (
        f'<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<style>* { all: unset; display: block } span { color: red !important; font-size: 40px !important }</style>"
        f'<iframe sandbox="allow-scripts allow-same-origin" width="700" height="600" srcdoc="{html.escape(fragment)}">'
    )


def foreign(fragment):
    """A fragment in a page with a strict style of its own, and a root of 10 px."""
    style = """html { font-size: 62.5% } body { font: bold 40px/3 monospace; text-align: right; color: #c00 }
      p, h2, h3, ul, li, span, table, tr, td, th, button { font-size: 40px !important; float: right !important }"""
    return f'<!doctype html><meta charset="utf-8"><style>{style}</style><body>{fragment}</body>'
