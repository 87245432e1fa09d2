"""The promises of a renderer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from ecco_core.data.results import Result
from ecco_core.errors import EccoError, PluginError, listed, one_line
from ecco_core.options import options_of
from ecco_core.plugin.manager import Offer
from ecco_core.plugin.specs import RendererSpec
from ecco_core.testing import comparing, media
from ecco_core.testing.contract import TargetContract, broken
from ecco_core.testing.examples import HARMLESS, HOSTILE, KINDS, example
from ecco_core.testing.page import Page, uncoloured

#: What stands in hostile texts, and in one of the tokens only; media whose content is elements; media of numbers alone.
_MARK, _KEPT, _MARKUP, _DATA = "planted", "><im", ("text/html", "image/svg"), ("text/csv", "text/tab-separated-values")


class RendererContract(TargetContract):
    """What readers of a page, a picture or a terminal rely on.

    Attributes:
        name: the renderer to check; or `distribution`: all of its renderers.
        options: given to each renderer that takes them.
        examples: kind -> function of texts that makes a result of it, for kinds that are the plugin's own; it puts the
            first text into the title and all of them somewhere else.
        only: kinds to try, where not all that it accepts.
    """

    hook = "ecco_renderers"
    options: ClassVar[Mapping[str, Any]] = {}
    examples: ClassVar[Mapping[str, Callable[[Sequence[str]], Result]]] = {}
    only: ClassVar[Sequence[str]] = ()
    _rendered: ClassVar[dict[tuple[str, str, str], Any]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._rendered = {}

    def kinds(self, spec: RendererSpec) -> tuple[str, ...]:
        """The kinds to try it on: those it accepts, or all for ``Result``."""
        of_core = [kind for kind in KINDS if kind in spec.accepts or "Result" in spec.accepts]
        own = [kind for kind in self.examples if kind in spec.accepts]
        return tuple(kind for kind in (*of_core, *own) if not self.only or kind in self.only)

    def test_options_are_explicit(self, offer: Offer[RendererSpec]) -> None:
        """Its options are keyword-only parameters with types that an option can have, each documented."""
        function = self.target(offer)
        try:
            options = options_of(function)
        except PluginError as error:
            broken(offer.spec.name, str(error).rstrip("."), "Write each option as *, name: type = default.")
        silent = [name for name, option in options.items() if not option.help]
        if silent:
            broken(offer.spec.name, f"{listed(silent)} is not documented", "Write it under Options: in the docstring.")
        if not inspect.getdoc(function):
            broken(offer.spec.name, f"{offer.spec.target} has no docstring", "Say in one sentence what it shows.")

    def test_shows_every_kind_it_accepts(self, offer: Offer[RendererSpec]) -> None:
        """Each kind that it accepts becomes text or, for media that are no text, bytes."""
        kinds = self.kinds(offer.spec)
        if not kinds:
            broken(offer.spec.name, f"no example of {listed(offer.spec.accepts)}", "Give one in examples = {...}.")
        textual = offer.spec.media_type.startswith("text/")
        for kind in kinds:
            content = self._render(offer, kind, "harmless")
            if not content or not isinstance(content, str if textual else (str, bytes)):
                found = f"{kind}: it returns {type(content).__name__}, {len(content or '')} long"
                broken(offer.spec.name, found, f"Return {'text' if textual else 'bytes'}.")

    def test_text_can_be_read(self, offer: Offer[RendererSpec]) -> None:
        """What is text has the title of its result, a page without scripts; a table of data (``text/csv``) need not."""
        for kind in () if _medium(offer).startswith(_DATA) else self._of(offer, "text/"):
            title = self._result(kind, "harmless").title.strip()
            if title not in self._text(offer, kind, "harmless"):
                broken(offer.spec.name, f"{kind}: the title {title!r} is not in its text", "Write it, not by a script.")

    def test_nothing_comes_from_elsewhere(self, offer: Offer[RendererSpec]) -> None:
        """A page or SVG fetches nothing: no address of another place in elements, styles or scripts."""
        for kind in self._of(offer, *_MARKUP):
            for what in ("harmless", "hostile"):
                for found in self._page(offer, kind, what).addresses():
                    broken(offer.spec.name, f"{kind}: {found}", "Put what it needs into the page itself.")

    def test_hostile_texts_are_inert(self, offer: Offer[RendererSpec]) -> None:
        """Texts of a model make no element, attribute, script or terminal command, whatever they hold."""
        for kind in self._of(offer, *_MARKUP):
            page, other = self._page(offer, kind, "hostile"), self._page(offer, kind, "harmless")
            for element in page.elements:
                acts = [name for name, value in element.attributes.items() if name[:2] == "on" and _MARK in value]
                names = [name for name in (element.tag, *element.attributes) if _MARK in name]
                if names or acts:
                    found = f"{kind}: a token's text became {(names + acts)[0]!r} of <{element.tag[:20]}>"
                    broken(offer.spec.name, found, "Escape texts: html.escape(text, quote=True).")
            more = {tag for tag, _ in page.shape() - other.shape()} & {"script", "style", "img"}
            if more:
                found = f"{kind}: a token's text became <{min(more)}>"
                broken(offer.spec.name, found, "Escape texts; in a script's JSON write < as \\u003c.")
        for kind in () if _medium(offer).startswith(_MARKUP) else self._of(offer, "text/"):
            lines = uncoloured(self._render(offer, kind, "hostile")).replace("\r\n", "\n")
            if acting := media.acting(lines):
                broken(offer.spec.name, f"{kind}: a token's {acting!r} is passed on", "Make texts visible() first.")

    def test_texts_are_kept(self, offer: Offer[RendererSpec]) -> None:
        """A page shows texts with markup as they are, and drops none."""
        for kind in self._of(offer, "text/html"):
            if _KEPT not in self._text(offer, kind, "hostile"):
                broken(offer.spec.name, f"{kind}: texts with markup are missing", "Escape them; leave none out.")

    def test_everything_has_a_name(self, offer: Offer[RendererSpec]) -> None:
        """Buttons, fields, links and pictures have accessible names; a document has a language and a title."""
        for kind in self._of(offer, "text/html"):
            page = self._page(offer, kind, "harmless")
            for found in (*page.unnamed(), *page.unlabelled_document()):
                broken(offer.spec.name, f"{kind}: {found}", "Give it a text, aria-label, alt, lang or <label>.")

    def test_same_result_same_output(self, offer: Offer[RendererSpec]) -> None:
        """Rendering twice gives the same, whatever is random in the process, and leaves the result as it was."""
        for kind in self.kinds(offer.spec):
            result = self._result(kind, "harmless")
            before = [(path, repr(value)) for path, value in comparing.leaves(result)]
            once = self._render(offer, kind, "harmless")
            comparing.reseeded(1)
            if self._made(offer, result) != once:
                broken(offer.spec.name, f"{kind}: rendered twice, it differs", "Take no date, id or random number.")
            if before != [(path, repr(value)) for path, value in comparing.leaves(result)]:
                broken(offer.spec.name, f"{kind}: the result is changed by showing it", "Work on copies.")

    def test_no_number_is_shown(self, offer: Offer[RendererSpec]) -> None:
        """Results with NaN, infinities and zeros are shown too."""
        for kind in self.kinds(offer.spec):
            for what in () if kind in self.examples else ("nan", "odd"):
                self._render(offer, kind, what)

    # How.

    def _result(self, kind: str, what: str) -> Result:
        import numpy as np

        texts = HOSTILE if what == "hostile" else HARMLESS
        if kind in self.examples:
            return self.examples[kind](texts)
        odd = {"nan": [np.nan], "odd": [0.0, np.inf, 1.0, -np.inf, 1e300, np.nan]}
        numbers = (lambda shape: np.resize(odd[what], shape)) if what in odd else None
        return example(kind, texts, numbers)

    def _render(self, offer: Offer[RendererSpec], kind: str, what: str) -> Any:
        key = (offer.spec.name, kind, what)
        if key not in self._rendered:
            try:
                self._rendered[key] = self._made(offer, self._result(kind, what))
            except EccoError as error:
                broken(offer.spec.name, f"{kind} ({what}): {error}", "Show every result of a kind that it accepts.")
            except Exception as error:
                found = f"{kind} ({what}): it raises {one_line(error)}"
                broken(offer.spec.name, found, "Show every result of a kind that it accepts.")
        return self._rendered[key]

    def _made(self, offer: Offer[RendererSpec], result: Result) -> Any:
        function = self.target(offer)
        taken = {name: value for name, value in self.options.items() if name in options_of(function)}
        return function(result, **taken)

    def _of(self, offer: Offer[RendererSpec], *media_types: str) -> tuple[str, ...]:
        """The kinds to try, if the medium is one of these."""
        return self.kinds(offer.spec) if _medium(offer).startswith(media_types) else ()

    def _page(self, offer: Offer[RendererSpec], kind: str, what: str) -> Page:
        content = self._render(offer, kind, what)
        return Page(content.decode() if isinstance(content, bytes) else content)

    def _text(self, offer: Offer[RendererSpec], kind: str, what: str) -> str:
        """What can be read of a text."""
        is_page = _medium(offer).startswith(_MARKUP)
        return self._page(offer, kind, what).text if is_page else uncoloured(self._render(offer, kind, what))


def _medium(offer: Offer[RendererSpec]) -> str:
    return offer.spec.media_type
