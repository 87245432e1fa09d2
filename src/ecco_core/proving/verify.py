"""Prove by numeric identities that a structure is true of a live model, and say which module is wrong if it is not."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import torch
from torch import nn

from ecco_core.errors import ArchitectureError, OptionError, listed, one_line
from ecco_core.models.architecture import Architecture, Place
from ecco_core.models.attention import attending, mixed, routable
from ecco_core.models.hooks import alone, evaluating, hooked
from ecco_core.models.reading import read
from ecco_core.proving.proof import (
    SITES,
    Check as Check,
    Evidence,
    Layer,
    Status,
    Verification as Verification,
    error_of,
    numbers_in,
)
from ecco_core.proving.tiny_models import tasks_of, tiny_model
from ecco_core.proving.tracing import is_light, traced
from ecco_core.registry import lookup, structure as s

#: Config keys of the number of neurons, and of experts.
WIDTHS = ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size", "hidden_dim")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
#: Why a stack does not have a site.
ABSENT = {
    "router": "it has no router",
    "mixer_out": "it has no mixer",
    "logits": "the model has no vocabulary head",
    "kernel": "its attention does not run through transformers' attention interface",
    "unnamed": "its file does not name the module that attends",
    "experts": "experts are fused in one module, inside of which their neurons do not pass",
}


def covered_tasks(model_type: str) -> tuple[str, ...]:
    """The tasks of a registered type that can be proven: heads that its file declares, classifiers, the bare model."""
    heads = lookup.require(model_type).structure.heads
    return tuple(task for task in tasks_of(model_type) if task in heads or task not in s.HEAD_TASKS)


def verify_type(model_type: str, task: str, overrides: Mapping[str, Any] | None = None) -> Verification:
    """Prove a type of the registry on a small random model, with changes to its config.

    Raises:
        ArchitectureError: no file covers it, a module is not there, or the model cannot be built.
    """
    structure = lookup.require(model_type).structure
    model = tiny_model(model_type, task, overrides)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a small model is ten times slower on several, if others use them too
    try:
        return verify(model, Architecture(structure, model), task)
    finally:
        torch.set_num_threads(threads)


def verify(model: Any, architecture: Architecture, task: str, *, seed: int = 0) -> Verification:
    """Return which identities hold for a model, on random token ids.

    Args:
        task: what the model is for: ``causal``, ``masked``, ``seq2seq``, ``sequence_classification``,
            ``token_classification`` or ``backbone``.
    """
    with evaluating(model), torch.no_grad():
        proof = _Proof(model, architecture, task, seed)
        proof.run()
    return Verification(model_type=model.config.model_type, task=task, checks=tuple(proof.checks))


class _Proof(Evidence):
    """The checks of one model, as they are made."""

    def run(self) -> None:
        """Make all checks; transformers' own hooks come first, so that ours can be counted."""
        states = self._states()
        hooks, self.bare = _hooks(self.model), self.answer()
        self.attending = self._who_attends()
        self.read()
        for stack in self.architecture.stacks:
            self._guarded(self._hidden_states, stack, states)
            self._guarded(self._stream, stack)
            self._guarded(self.additions, stack)
            self._guarded(self._neurons, stack)
            self._guarded(self._router, stack)
            self._guarded(self._attention, stack, "")
            self._guarded(self._attention, stack, "cross_")
            self._guarded(self._absent, stack)
            self._guarded(self._embeddings, stack)
        self._guarded(self._head, self.architecture.stacks[-1])
        self._writing()
        self._left_behind(hooks)

    def _guarded(self, check: Callable[..., None], stack: str, *more: Any) -> None:
        """Run a check; one that ends in an error, as wrong modules can make it, has failed."""
        try:
            check(stack, *more)
        except Exception as error:
            detail = f"it ends in {one_line(error, 200)}"
            self.add(check.__name__.strip("_").replace("_", " "), stack, "", "failed", detail)

    def _states(self) -> Any:
        """The model's output with hidden states, by the kernel by which sites are read: others choose other experts."""
        with contextlib.suppress(Exception), attending(self.model):  # not every model can be switched to it
            return self.forward(self.feed, output_hidden_states=True)
        return self.forward(self.feed, output_hidden_states=True)

    def _hidden_states(self, stack: str, output: Any) -> None:
        """What leaves blocks, or enters the next, is the model's own hidden states in order; the last may be normed."""
        states = getattr(output, f"{stack}_hidden_states", None) or getattr(output, "hidden_states", None) or ()
        layers = self.layers(stack, "resid_pre", "resid_post")
        residuals, first = {}, 0
        for layer in layers if states else ():
            ours, after = self.found[stack, "resid_post", layer], self.found.get((stack, "resid_pre", layer + 1))
            forms = (ours, functools.partial(self._normed, stack) if layer == layers[-1] or after is None else after)
            errors = [min(error_of(form, state[0]) for form in forms) for state in states[first:]] or [math.inf]
            near = next((n for n, error in enumerate(errors) if error <= self.tolerance), None)
            residuals[layer] = min(errors) if near is None else errors[near]
            first += 0 if near is None else near + 1
        self.judge("hidden states", stack, "resid_post", residuals, "{resid_post} is one of the model's hidden states")
        if not states:
            self.add("hidden states", stack, "resid_post", "not proven", "the model returns no hidden states")
        name = "last_hidden_state" if stack == self.architecture.stacks[-1] else f"{stack}_last_hidden_state"
        last = getattr(output, name, None)
        if last is not None and layers:
            told = f"{self._norms(stack)} of the last resid_post is the model's last hidden state"
            error = error_of(functools.partial(self._normed, stack), last[0])
            self.judge("final norm", stack, "resid_post", {layers[-1]: error}, told)

    def _normed(self, stack: str) -> torch.Tensor:
        hidden = self.found[stack, "resid_post", self.architecture.n_layers(stack) - 1]
        return self.architecture.normed(hidden, stack)

    def _norms(self, stack: str) -> str:
        return " and ".join(map(self.name, self.architecture.final_norm(stack))) or "(no norm)"

    def _stream(self, stack: str) -> None:
        """What leaves a block enters the next; some models change it in between."""
        for layer in self.layers(stack, "resid_pre", "resid_post")[1:]:
            error = error_of(self.found[stack, "resid_post", layer - 1], self.found[stack, "resid_pre", layer])
            told = f"{self.at(stack, 'resid_pre', layer)} is not what left the layer before: the model changes it"
            if not error <= self.tolerance:
                self.add("stream", stack, "resid_pre", "not there", told, layer=layer, residual=error)
            else:
                self.judge("stream", stack, "resid_pre", {layer: error}, "{resid_pre} is what left the layer before")

    def additions(self, stack: str) -> None:
        """The stream after a block is the stream before it and what its parts add, normed where the file says so."""
        errors: dict[str, dict[int, float]] = {}
        notes = ""
        for layer in self.layers(stack, "resid_pre", "resid_post"):
            there = [site for site in s.ADDED_SITES if (stack, site, layer) in self.found]
            start = self.found[stack, "resid_pre", layer]
            own = self._sums(stack, layer, there, start) if there else {}
            for child in self.architecture.place("resid_post", layer, stack).module.children():
                if max(own.values(), default=0) > self.tolerance and all(p.ndim == 1 for p in child.parameters()):
                    with contextlib.suppress(Exception):  # a child that is no norm
                        again = self._sums(stack, layer, there, child(start))
                        if max(again.values()) <= self.tolerance:
                            own, notes = again, f"; layer {layer} adds to {self.name(child)} of what enters it"
            for site, error in own.items():
                errors.setdefault(site, {})[layer] = error
        told = "{resid_mid} is the stream between attention and MLP"
        for site, residuals in errors.items():
            added = f"{{{site}}} is what the block adds to the stream{notes}"
            self.judge("additions", stack, site, residuals, told if site == "resid_mid" else added)
        if not errors:
            self.add("additions", stack, "resid_post", "not proven", "the file names nothing that blocks add")

    def _sums(self, stack: str, layer: int, there: list[str], start: torch.Tensor) -> dict[str, float]:
        """Site -> its own error; the stream between attention and MLP tells which of the two is wrong."""
        end, middle = self.found[stack, "resid_post", layer], self.found.get((stack, "resid_mid", layer))
        size = 0.1 * end.norm() + min(self.found[stack, site, layer].norm() for site in there)
        whole = error_of(lambda: self._summed(stack, layer, there, start), end, size)
        if middle is None or there[-1] != "mlp_out" or len(there) < 2:
            return dict.fromkeys(there, whole)
        before = error_of(lambda: self._summed(stack, layer, there[:-1], start), middle, size)
        after = error_of(lambda: self._summed(stack, layer, there[-1:], middle), end, size)
        return {**dict.fromkeys(there[:-1], min(before, whole)), "mlp_out": min(after, whole), "resid_mid": before}

    def _summed(self, stack: str, layer: int, sites: Iterable[str], stream: torch.Tensor) -> torch.Tensor:
        for site in sites:
            norm = self.architecture.norm_after(site, layer, stack)
            stream = stream + self.found[stack, site, layer]
            stream = norm(stream) if norm else stream
        return stream

    def _through(self, stack: str, entered: str, left: str, layer: int) -> float:
        """Error of what a site's linear map, and the norm and scale after it, make of it, against another site."""
        first, last = (self.architecture.place(site, layer, stack) for site in (entered, left))
        after = last.side == "output" and not any(module is first.module for module in last.module.modules())

        def made() -> torch.Tensor:
            value = first.module(self.found[stack, entered, layer])
            value = last.module(value) if after else value
            found: torch.Tensor = (value[0] if isinstance(value, tuple) else value) * last.scale
            return found

        if after and not is_light(last.module):
            return math.inf
        return error_of(made, self.found[stack, left, layer]) + self._affine(first, self.found[stack, entered, layer])

    def _affine(self, place: Place, entered: torch.Tensor) -> float:
        """Error of what a tensor enters, as it is, being a linear map with a bias; infinite if it has no matrix."""
        if place.side != "input" or place.scale != 1 or is_light(place.module):  # a norm after it would hide a scale
            return math.inf
        other, made = entered.roll(1, 0), place.module
        try:
            return error_of(made(entered + other) + made(torch.zeros_like(entered)), made(entered) + made(other))
        except Exception:  # it takes more, or gives something else
            return math.inf

    def _neurons(self, stack: str) -> None:
        """The down projection of the neurons is the MLP's output, and they are as many as the config says."""
        layers, config, gate = self.layers(stack, "mlp_post", "mlp_out"), self.model.config, ""
        residuals = {layer: self._through(stack, "mlp_post", "mlp_out", layer) for layer in layers}
        for layer, error in residuals.items():
            if not error <= self.tolerance and (gated := self._gated(stack, layer)) <= self.tolerance:
                residuals[layer], gate = gated, ", but for a gate that it is multiplied by"
        self.judge("down projection", stack, "mlp_post", residuals, "{mlp_post} is what makes {mlp_out}" + gate)
        keys = (*WIDTHS, f"{stack}_ffn_dim")
        widths = {n for key in keys for n in numbers_in(getattr(config, key, None))} or {
            4 * getattr(config, "hidden_size", 0)
        }
        found = {layer: self.found[stack, "mlp_post", layer].shape[-1] for layer in self.layers(stack, "mlp_post")}
        wrong = {layer: 0.0 if width in widths else math.inf for layer, width in found.items()}
        told = f"{{mlp_post}} has {listed(map(str, sorted(set(found.values()))))} units; the config says "
        self.judge("width", stack, "mlp_post", wrong, told + listed(map(str, sorted(widths))))

    def _gated(self, stack: str, layer: int) -> float:
        """Error of the MLP's output being the down projection's times something that the neurons do not change.

        Told by no neurons and by the neurons of other tokens: what else is added drops out of the differences.
        """
        place, key = self.architecture.place("mlp_post", layer, stack), (stack, "mlp_out", layer)
        kept, left = self.found[stack, "mlp_post", layer], [self.found[key]]
        if (error := self._affine(place, kept)) > self.tolerance:
            return math.inf
        for change in (torch.zeros_like, lambda tensor: tensor.roll(1, -2)):
            with hooked(place, change):
                left.append(read(self.model, self.architecture, self.feed, [key])[0][key])
        made = [place.module(tensor) for tensor in (kept, torch.zeros_like(kept), kept.roll(1, 0))]
        if made[0].shape != left[0].shape:
            return math.inf
        return error + error_of((left[0] - left[1]) * (made[2] - made[1]), (left[2] - left[1]) * (made[0] - made[1]))

    def _router(self, stack: str) -> None:
        """A router's logits are its weights times what enters it, one per expert."""
        for layer in self.layers(stack, "router"):
            module, entered = self.architecture.place("router", layer, stack).module, list[torch.Tensor]()
            with hooked(Place(module, "input"), entered.append):
                self.forward(self.feed)
            logits, weight = self.found[stack, "router", layer], getattr(module, "weight", torch.empty(0, 1))
            bias, first = getattr(module, "bias", None), entered[0]
            ours = functools.partial(lambda x, w, b: nn.functional.linear(x.flatten(0, -2), w, b), first, weight, bias)
            known = {n for key in EXPERTS for n in numbers_in(getattr(self.model.config, key, None))}
            error = error_of(ours, logits) if logits.shape[-1] in known else math.inf
            self.judge("router", stack, "router", {layer: error}, "{router} is one logit for each expert")

    def _who_attends(self) -> set[nn.Module]:
        """The modules that compute attention, whatever the file says."""
        routed = any(map(routable, self.model.modules()))
        with contextlib.nullcontext() if routed else attending(self.model):
            return {self.model.get_submodule(attended.name) for attended in traced(self.model, self.feed).attended}

    def _named(self, stack: str, layer: int, cross: bool) -> tuple[nn.Module | None, set[nn.Module]]:
        """The module that the file names as attention, and those in its block that attend and that it does not name."""
        one, other = (self.architecture.attention(layer, stack, site) for site in ("pattern", "cross_pattern"))
        inside = set(self.architecture.place("resid_post", layer, stack).module.modules())
        return other if cross else one, (self.attending & inside) - {one, other}

    def _attends(self, stack: str, prefix: str) -> None:
        """The module that the file names is the one that attends; of others, a model reports patterns all the same."""
        errors, names, site = dict[int, float](), "", f"{prefix}pattern"
        for layer in range(self.architecture.n_layers(stack)):
            module, others = self._named(stack, layer, bool(prefix))
            if module in self.attending:
                errors[layer] = 0.0
            elif module and others:
                errors[layer] = math.inf
                names = names or f"; what does is '{listed(sorted(map(self.name, others)))}'"
            elif module:
                told = f"nothing tells whether '{self.name(module)}' computes an attention"
                self.add("attention", stack, site, "not proven", told, layer=layer)
        self.judge("attention", stack, site, errors, f"{{{site}}} computes the attention{names}")

    def _attention(self, stack: str, prefix: str) -> None:
        """Patterns are distributions, causal in decoders, made of q and k; they mix v into z, and z makes attn_out."""
        pattern, q, k, v, z, added = (prefix + site for site in ("pattern", "q", "k", "v", "z", "attn_out"))
        layers, of = self.layers(stack, pattern), f"the pattern of {{{pattern}}}"
        self._attends(stack, prefix)
        rows = {layer: self._rows(stack, prefix, layer) for layer in layers}
        self.judge("rows", stack, pattern, rows, f"rows of {of} sum to one (to less with sinks)")
        if stack == "decoder" and not prefix:
            later = {layer: float(self.found[stack, pattern, layer].triu(1).abs().max()) for layer in layers}
            self.judge("causal", stack, pattern, later, f"{of} does not see later tokens")
        mixes = {layer: self._mixing(stack, prefix, layer) for layer in self.layers(stack, pattern, v, z)}
        for site in (pattern, v):
            self.judge("mixing", stack, site, mixes, f"{of} times its values is {{{z}}}")
        if layers and not mixes:
            self.add("mixing", stack, pattern, "not proven", "the model reports it; its values cannot be read")
        made = {layer: self._through(stack, z, added, layer) for layer in self.layers(stack, z, added)}
        self.judge("output projection", stack, z, made, f"{{{z}}} is what makes {{{added}}}")
        scores = {layer: self._scores(stack, prefix, layer) for layer in self.layers(stack, pattern, q, k)}
        for site in (q, k):
            if max(scores.values(), default=0) <= self.tolerance:
                self.judge("scores", stack, site, scores, f"{of} is the softmax of scaled queries times keys")
            else:
                self.add(
                    "scores", stack, site, "not proven", "the pattern is not theirs alone: a bias or a cap is added"
                )

    def _rows(self, stack: str, prefix: str, layer: int) -> float:
        pattern = self.found[stack, f"{prefix}pattern", layer]
        over = pattern.sum(-1) - 1
        sinks = hasattr(self.architecture.attention(layer, stack, f"{prefix}pattern"), "sinks")
        return float(max((over.clamp(min=0) if sinks else over.abs()).max(), -pattern.min()))

    def _mixing(self, stack: str, prefix: str, layer: int) -> float:
        pattern, v, z = (self.found[stack, prefix + site, layer] for site in ("pattern", "v", "z"))
        return error_of(lambda: mixed(pattern[None], v.transpose(0, 1)[None])[0].flatten(1), z)

    def _scores(self, stack: str, prefix: str, layer: int) -> float:
        """Error of log pattern = scale × q·k, but for a constant in each row, with the scale that fits best."""
        q, k, pattern = (self.found[stack, prefix + site, layer].double() for site in ("q", "k", "pattern"))
        seen = (pattern > 1e-6).double()
        products = torch.einsum("qhd,khd->hqk", q, k.repeat_interleave(q.shape[1] // k.shape[1], dim=1))
        scores, logs = (
            (t - (t * seen).sum(-1, keepdim=True) / seen.sum(-1, keepdim=True)) * seen
            for t in (products, pattern.clamp(min=1e-30).log())
        )
        return error_of(scores * ((scores * logs).sum() / (scores * scores).sum()), logs)

    def _absent(self, stack: str) -> None:
        """Say why, of each site that a stack does not have."""
        declared, layers = self.architecture.stack(stack), range(self.architecture.n_layers(stack))
        there = self.architecture.sites(stack)
        experts = [module for layer in layers if (module := self.architecture.experts(layer, stack)) is not None]
        fused = bool(experts)
        for module in (m for m in experts if not any(p.ndim == 3 for p in m.parameters(recurse=False))):
            self.add("experts", stack, "mlp_post", "failed", f"'{self.name(module)}' holds the weights of all experts")
        for site in SITES:
            cross = site.startswith("cross_")
            reason = ABSENT.get(site, "its file names none")
            if site == "resid_mid":
                parts = sum(part in there for part in s.ADDED_SITES)
                reason = "its parts read the same stream" if parts > 1 else "its blocks have one part"
            elif site in (*s.INSIDE_ATTENTION, "z", "attn_out", "cross_z", "cross_attn_out"):
                run = declared.cross_attention if cross else declared.attention
                crosses = stack == "decoder" and len(self.architecture.stacks) > 1
                unnamed = crosses >= cross and any(self._named(stack, layer, cross)[1] for layer in layers)
                reason = ABSENT["kernel"] if run else f"it has no {'cross ' * cross}attention"
                reason = ABSENT["unnamed"] if unnamed else reason
            if site not in there or (site == "mlp_post" and fused):
                reason = ABSENT["experts"] if site == "mlp_post" and fused else reason
                self.add("sites", stack, site, "not there", reason)

    def _head(self, stack: str) -> None:
        """The head of the normed last state, with bias, scale and cap, gives the logits."""
        head, key = self.architecture.head(self.task), (stack, "logits", None)
        if not head or not self.layers(stack, "resid_post") or key not in self.found:
            reason = (
                "no head is declared for it" if self.task in s.HEAD_TASKS else f"a {self.task} model has another head"
            )
            self.add("head", stack, "logits", "not proven", reason)
            return
        ours = functools.partial(lambda: self.architecture.logits_of(self._normed(stack), self.task))
        told = f"{' and '.join(map(self.name, head))} of {self._norms(stack)} of the last resid_post is the logits"
        error, theirs = error_of(ours, self.found[key]), self.found[key]
        with contextlib.suppress(Exception):  # they cannot be computed, or are of another shape
            factor = float((ours() * theirs).sum() / (ours() * ours()).sum())
            if error > self.tolerance >= error_of(ours() * factor, theirs):
                told += f"; they are {factor:.6g} times as large: a scale is missing or wrong"
        self.judge("head", stack, "logits", {None: error}, f"{told} (with bias, scale and cap)")

    def _embeddings(self, stack: str) -> None:
        """The true ids' embeddings, put in while other ids are passed, give the same answer."""
        kept = self.found.get((stack, "embedding", None))
        if kept is None:
            return
        feed = attrs.evolve(self.feed, ids={**self.feed.ids, stack: self.other.ids[stack]})
        with hooked(self.architecture.embedding(stack), lambda tensor: kept.reshape(tensor.shape)):
            error = error_of(lambda: self.answer(feed), self.bare)
        if error_of(self.answer(feed), self.bare) <= self.tolerance or not self._of_ids_alone(stack, kept):
            error = math.inf  # other ids change nothing, so that this would prove nothing; or it has positions in it
        told = "{embedding} is the ids' alone, and all that the model takes from them"
        self.judge("embeddings", stack, "embedding", {None: error}, told)

    def _of_ids_alone(self, stack: str, kept: torch.Tensor) -> bool:
        """Whether what takes the ids gives each the same wherever it stands."""
        module, entered = self.architecture.embedding(stack).module, list[torch.Tensor]()
        feed = attrs.evolve(self.feed, ids={**self.feed.ids, stack: self.feed.ids[stack].roll(1, -1)})
        with hooked(Place(module, "input"), entered.append):
            (again,) = read(self.model, self.architecture, feed, [(stack, "embedding", None)])[0].values()
        taken = any(ids.numel() == feed.ids[stack].numel() and not ids.is_floating_point() for ids in entered)
        return taken and error_of(again, kept.roll(1, 0)) <= self.tolerance

    def _writing(self) -> None:
        """Writing back what was read leaves every bit of the answer as it is; writing zeros changes it."""
        places: dict[tuple[str, str], dict[Layer, Place]] = {}
        for stack, site, layer in self.found:
            with contextlib.suppress(OptionError):  # a model without a vocabulary
                place = self.architecture.place(site, layer, stack)
                if place.side in ("input", "output") or routable(place.module):
                    places.setdefault((stack, site), {})[layer] = place
        every = [place for of_site in places.values() for place in of_site.values()]
        inside = any(place.side not in ("input", "output") for place in every)
        with attending(self.model) if inside else contextlib.nullcontext():
            base = self.answer()
            same = not self._differs(every, torch.clone, base)
            for (stack, site), of_site in places.items():
                lost = [n for n, place in of_site.items() if not same and self._differs([place], torch.clone, base)]
                dead = [n for n, place in of_site.items() if not self._differs([place], torch.zeros_like, base)]
                chosen = ": blocks use the experts chosen, not these" * bool(dead and site == "router")
                for identity, wrong, told in (
                    ("write back", lost, "takes back what it gave, to the bit"),
                    ("zeros", dead, f"set to zero changes the answer{chosen}"),
                ):
                    layer = wrong[0] if wrong else next(iter(of_site))
                    status: Status = "proven" if not wrong else "not proven" if chosen and wrong is dead else "failed"
                    self.add(identity, stack, site, status, f"{self.at(stack, site, layer)} {told}", layer=layer)

    def _differs(
        self, places: Iterable[Place], change: Callable[[torch.Tensor], torch.Tensor], base: torch.Tensor
    ) -> bool:
        """Whether a change at some places changes the answer."""
        with contextlib.ExitStack() as scope:
            for place in places:
                scope.enter_context(hooked(place, change))
            try:
                return not torch.equal(self.answer(), base)
            except Exception:  # the model wants something else there than a tensor
                return True

    def _left_behind(self, before: int) -> None:
        """No hook of ours stays, also after an error; the answer is what it was, to the bit."""

        def fail(_: torch.Tensor) -> torch.Tensor:
            raise ArchitectureError("on purpose")

        stack = self.architecture.stacks[-1]
        block = self.architecture.place("resid_post", 0, stack)
        with contextlib.suppress(ArchitectureError), alone(self.model), hooked(block, fail):
            self.answer()
        left, same = _hooks(self.model) - before, torch.equal(self.answer(), self.bare)
        detail = f"{left} hooks are left behind, also after an error; the answer is {'' if same else 'not '}what it was"
        self.add("hooks", stack, "", "proven" if same and not left else "failed", detail)


def _hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
