"""What a page or a picture is made of, read by an HTML parser: elements, addresses, names, texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser

import attrs

#: Attributes whose value a browser fetches or follows.
_ADDRESSES = {"src", "href", "xlink:href", "srcset", "action", "formaction", "data", "poster", "background", "ping"}
_REMOTE = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]*:)?//|^\s*(?:https?|ftp|wss?|javascript|vbscript):", re.IGNORECASE)
_IN_STYLE = re.compile(r"""@import|url\(\s*['"]?(?!\s*(?:data:|\#))""", re.IGNORECASE)
_IN_SCRIPT = re.compile(r"""["'`](?:https?|wss?):?//(?!www\.w3\.org/)""", re.IGNORECASE)
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_UNSEEN = {"script", "style", "template", "head", "metadata"}
_NAMED = {"button", "select", "textarea", "summary", "iframe", "meter", "progress"}
_ROLES = {"button", "link", "img", "checkbox", "radio", "switch", "tab", "slider", "textbox", "combobox", "meter"}


@attrs.define
class Element:
    """One element: its tag, its attributes, what it is in, and the text in it."""

    tag: str
    attributes: dict[str, str]
    inside: Element | None
    text: str = ""
    names: str = ""  # texts that stand for pictures in it

    def all_inside(self) -> Iterator[Element]:
        """The elements around it, nearest first."""
        around = self.inside
        while around is not None:
            yield around
            around = around.inside


class Page(HTMLParser):
    """A document, fragment or SVG picture, parsed.

    Attributes:
        elements: all of them, in order. `text`: what can be read without scripts.
        comments: how many there are.
    """

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.text = ""
        self.comments = 0
        self._open: list[Element] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, given: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        element = Element(tag, {name: value or "" for name, value in given}, self._open[-1] if self._open else None)
        self.elements.append(element)
        name = element.attributes.get("alt") or element.attributes.get("aria-label") or ""
        for around in self._open:
            around.names += name
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, given: list[tuple[str, str | None]]) -> None:
        """Note an element that ends at once, as in SVG."""
        self.handle_starttag(tag, given)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """End the nearest element of that tag."""
        for place in range(len(self._open) - 1, -1, -1):
            if self._open[place].tag == tag:
                del self._open[place:]
                return

    def handle_comment(self, data: str) -> None:
        """Count comments: a text can open one."""
        self.comments += 1

    def handle_data(self, data: str) -> None:
        """Add a text to all elements that it is in."""
        for element in self._open:
            element.text += data
        if not any(element.tag in _UNSEEN for element in self._open):
            self.text += data

    def shape(self) -> Counter[tuple[str, tuple[str, ...]]]:
        """How many elements there are of each tag and names of attributes."""
        found = Counter((element.tag, tuple(sorted(element.attributes))) for element in self.elements)
        found["comment", ()] += self.comments
        return found

    def addresses(self) -> Iterator[str]:
        """Everything that makes a browser fetch, follow or run something from elsewhere."""
        for element in self.elements:
            for name, value in element.attributes.items():
                if name in _ADDRESSES and _REMOTE.search(value):
                    yield f'<{element.tag} {name}="{value[:80]}">'
                if name == "style" and _IN_STYLE.search(value):
                    yield f"<{element.tag} style={value[:80]!r}>"
            if element.tag == "style" or element.attributes.get("type") == "text/css":
                yield from (f"{found[0]} in a style" for found in [_IN_STYLE.search(element.text)] if found)
            elif element.tag == "script" and element.attributes.get("type", "") != "application/json":
                yield from (f"{found[0]}… in a script" for found in [_IN_SCRIPT.search(element.text)] if found)

    def unnamed(self) -> Iterator[str]:
        """What a reader can use or see as a picture, and a screen reader has no name for."""
        ids = {element.attributes["id"]: element for element in self.elements if "id" in element.attributes}
        labels = {element.attributes["for"] for element in self.elements if "for" in element.attributes}
        for element in self.elements:
            if _needs_name(element) and not _name(element, ids, labels, self.elements):
                yield f"<{element.tag}{_some(element.attributes)}> has no accessible name"

    def unlabelled_document(self) -> Iterator[str]:
        """What a whole document lacks: a language and a title."""
        tags = {element.tag: element for element in self.elements}
        if "html" in tags:
            if not tags["html"].attributes.get("lang"):
                yield "<html> has no lang"
            if "title" not in tags or not tags["title"].text.strip():
                yield "the document has no <title>"


def _needs_name(element: Element) -> bool:
    given = element.attributes
    if given.get("aria-hidden") == "true" or any(
        e.attributes.get("aria-hidden") == "true" for e in element.all_inside()
    ):
        return False
    if given.get("role") in ("presentation", "none") or given.get("type") == "hidden":
        return False
    linked = element.tag == "a" and "href" in given
    picture = element.tag == "img" and "alt" not in given
    return linked or picture or element.tag in (*_NAMED, "input") or given.get("role") in _ROLES


def _name(element: Element, ids: dict[str, Element], labels: set[str], every: list[Element]) -> bool:
    given = element.attributes
    by_others = " ".join(ids[i].text for i in given.get("aria-labelledby", "").split() if i in ids)
    told = [given.get("aria-label"), given.get("title"), by_others, element.text, element.names]
    told += [e.text for e in every if e.tag == "title" and e.inside is element]
    told += [given.get("alt"), given.get("value") if given.get("type") in ("submit", "reset", "button") else ""]
    told += [e.text for e in element.all_inside() if e.tag == "label"]
    if element.tag in ("select", "textarea"):
        told.remove(element.text)  # what is to be chosen is no name
    return given.get("id") in labels or any(text and text.strip() for text in told)


def _some(attributes: dict[str, str]) -> str:
    return "".join(f' {name}="{value[:20]}"' for name, value in list(attributes.items())[:3])


def uncoloured(text: str) -> str:
    """Return a text without the terminal commands that set colours and weights; others stay in it."""
    return re.sub(r"\x1b\[[0-9;:]*m", "", text)
