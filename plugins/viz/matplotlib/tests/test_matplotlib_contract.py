from ecco_core.testing import RendererContract


class TestVectors(RendererContract):
    name = "matplotlib_svg"
    only = ("TokenScores", "TokenGrid")  # its own tests draw all of them


class TestDocuments(RendererContract):
    name = "matplotlib_pdf"
    only = ("Table",)


class TestPictures(RendererContract):
    name = "matplotlib_png"
    only = ("Table",)
