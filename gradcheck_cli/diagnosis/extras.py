"""E. Temperature, softcap, z-loss: left out, applied unasked, or applied wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import product

import numpy as np

from gradcheck_cli.diagnosis.bug import CONVENTION, DEFECT, Bug, Variant, nice
from gradcheck_cli.diagnosis.recipe import Recipe
from gradcheck_cli.diagnosis.sample import Sample
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.numeric.softmax import Link
from gradcheck_cli.refusals import Flags

_CAPS = (5.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0)


def _link(sample: Sample) -> Link:
    return sample.situation.problem.loss.link


def _relinked(link: Link) -> Callable[[Recipe], Recipe]:
    return lambda recipe: recipe.relinked(link)


def _untempered(sample: Sample) -> Iterable[Variant]:
    link = _link(sample)
    if link.temperature == 1.0:
        return
    told = {"temperature": link.temperature}
    flags = ("--temperature", "1")
    yield Variant(change=lambda r: r.relinked(Link(1.0, link.softcap)), parameters=told, flags=flags)

    def half(recipe: Recipe) -> Recipe:
        bare = recipe.relinked(Link(1.0, link.softcap))
        return bare.changed(chain=bare.chain / link.temperature)

    yield Variant(change=half, parameters=told)


def _tempered_unasked(sample: Sample) -> Iterable[Variant]:
    """Yield the temperatures that the entries outside the label ask for."""
    for temperature in sample.once(_temperatures):
        other = Link(temperature, _link(sample).softcap)
        flags = ("--temperature", f"{temperature:.12g}")
        yield Variant(change=_relinked(other), parameters={"temperature": temperature}, flags=flags)


def _temperatures(sample: Sample) -> list[float]:
    """Return the temperature that the rows ask for, rounded in two ways: log got is z/T and a constant."""
    link, view = _link(sample), sample.probe
    if link.temperature != 1.0:
        return []
    recipe = view.recipe
    with np.errstate(all="ignore"):
        logs = sample.situation.export.name == "log-probs"
        log_got, log_a = recipe.got if logs else np.log(np.abs(recipe.got)), np.log(recipe.a)
    chosen = (recipe.q == 0.0) & np.isfinite(log_got) & np.isfinite(log_a) & recipe.counted[:, None]
    inverse = _pooled_slope(log_a, log_got, chosen)
    if not 1e-3 < inverse < 1e3:
        return []
    return [each for each in dict.fromkeys((nice(1.0 / inverse), 1.0 / nice(inverse))) if each != 1.0]


def _tempered_in_part(sample: Sample) -> Iterable[Variant]:
    """Yield the same temperatures, but for the factor 1/T of the gradient."""
    for temperature in sample.once(_temperatures):
        other = Link(temperature, _link(sample).softcap)

        def change(recipe: Recipe, other: Link = other) -> Recipe:
            tempered = recipe.relinked(other)
            return tempered.changed(chain=tempered.chain * other.temperature)

        yield Variant(change=change, parameters={"temperature": temperature})


def _pooled_slope(x: Floats, y: Floats, chosen: Flags) -> float:
    """Return the slope of y against x within rows, 0 where there is none."""
    count = np.maximum(chosen.sum(axis=1, keepdims=True), 1)
    x, y = np.where(chosen, x, 0.0), np.where(chosen, y, 0.0)
    x = np.where(chosen, x - x.sum(axis=1, keepdims=True) / count, 0.0)
    y = np.where(chosen, y - y.sum(axis=1, keepdims=True) / count, 0.0)
    spread = float(np.sum(x * x))
    return float(np.sum(x * y)) / spread if spread > 0.0 else 0.0


def _uncapped(sample: Sample) -> Iterable[Variant]:
    link = _link(sample)
    if link.softcap is not None:
        yield Variant(
            change=lambda r: r.relinked(Link(link.temperature)), parameters={"softcap": link.softcap}
        )


def _capped_unasked(sample: Sample) -> Iterable[Variant]:
    link = _link(sample)
    if link.softcap is not None:
        return
    for cap in _CAPS:
        other = Link(link.temperature, cap)
        flags = ("--softcap", f"{cap:g}")
        yield Variant(change=_relinked(other), parameters={"softcap": cap}, flags=flags, guessed=True)


def _flat_cap(sample: Sample) -> Iterable[Variant]:
    link = _link(sample)
    if link.softcap is not None:
        flat = np.array([[1.0 / link.temperature]])
        yield Variant(
            change=lambda r: r.changed(chain=np.repeat(flat, len(r.a), axis=0)),
            parameters={"softcap": link.softcap},
        )


def _cap_after(sample: Sample) -> Iterable[Variant]:
    link = _link(sample)
    if link.softcap is None or link.temperature == 1.0:
        return
    cap = link.softcap

    def change(recipe: Recipe) -> Recipe:
        bent = np.tanh(recipe.logits / (link.temperature * cap))
        return recipe.with_argument(cap * bent, (1.0 - bent**2) / link.temperature)

    yield Variant(change=change, parameters={"softcap": cap})


def _cap_misapplied(sample: Sample) -> Iterable[Variant]:
    """Yield z tanh(z/c) and tanh(z/c), with their own derivatives, with that of the cap, and with none."""
    link = _link(sample)
    if link.softcap is None:
        return
    for form, slope in product(("z tanh(z/c)", "tanh(z/c)"), ("its own", "the cap's", "none")):
        bend = partial(_bent, link=link, form=form, slope=slope)
        told = {"softcap": link.softcap, "form": form, "slope": slope}
        yield Variant(change=bend, parameters=told)


def _bent(recipe: Recipe, *, link: Link, form: str, slope: str) -> Recipe:
    """Return the recipe with a wrong cap."""
    cap, z = link.softcap or 1.0, recipe.logits
    t = np.tanh(z / cap)
    flat = 1.0 - t**2
    v, own = (z * t, t + z / cap * flat) if form == "z tanh(z/c)" else (t, flat / cap)
    chain = {"its own": own, "the cap's": flat}.get(slope, np.ones_like(t))
    return recipe.with_argument(v / link.temperature, chain / link.temperature)


def _without_z(sample: Sample) -> Iterable[Variant]:
    factor = sample.situation.problem.loss.z_loss
    if factor:
        told = {"z_loss": factor}
        yield Variant(change=lambda r: r.changed(z_factor=0.0), parameters=told, flags=("--z-loss", "0"))


def _wrong_z(sample: Sample) -> Iterable[Variant]:
    factor = sample.situation.problem.loss.z_loss
    for by, words in ((0.5, "the factor 2 of its derivative is missing"), (2.0, "it is there twice")):
        if factor:
            yield Variant(
                change=partial(Recipe.changed, z_factor=factor * by),
                parameters={"z_loss": factor, "words": words},
                flags=("--z-loss", f"{factor * by:.12g}"),
            )


def _z_weighted(sample: Sample) -> Iterable[Variant]:
    """Yield the z-loss with the weights of the labels, or divided by their sum."""
    problem, weights = sample.situation.problem, sample.situation.problem.loss.class_weights
    if not problem.loss.z_loss or weights is None or problem.soft:
        return
    share = problem.z_divisor / problem.divisor

    def weighted(recipe: Recipe, by: float = 1.0) -> Recipe:
        own = weights[np.clip(recipe.labels, 0, len(weights) - 1)]
        return recipe.changed(z_counted=recipe.z_counted * own * by)

    yield Variant(change=weighted, parameters={"how": "multiplied by the weight of the row's label"})
    if share != 1.0:
        how = "multiplied by the weight of the row's label, and divided by the sum of these"
        yield Variant(change=partial(weighted, by=share), parameters={"how": how})
        yield Variant(
            change=lambda r: r.changed(z_counted=r.z_counted * share),
            parameters={"how": "divided by the sum of the weights, not by the number of rows"},
        )


def _z_unasked(sample: Sample) -> Iterable[Variant]:
    """Yield the z-loss that the sums of the rows ask for: they are 2 lambda lse, over s."""
    situation, recipe = sample.situation, sample.probe.recipe
    if situation.problem.loss.z_loss or situation.problem.loss.link.softcap is not None:
        return
    with np.errstate(all="ignore"):
        s = recipe.upstream / recipe.divisor * recipe.chain[:, 0]
        asked = recipe.got.sum(axis=1) / (2.0 * recipe.lse * s)
    asked = asked[np.isfinite(asked) & recipe.counted & (recipe.lse != 0.0)]
    factor = nice(float(np.median(asked))) if asked.size else 0.0
    if factor > 0.0:
        told = {"z_loss": factor}
        flags = ("--z-loss", f"{factor:g}")
        yield Variant(change=lambda r: r.retold(z_loss=factor), parameters=told, flags=flags)


LINK = (
    Bug(
        "temperature-missing", CONVENTION, "softmax(z) - y",
        "the logits are not divided by the temperature {temperature:g}",
        "divide the logits by the temperature in the backward pass too, or leave --temperature out",
        "link", _untempered,
    ),
    Bug(
        "temperature-applied", CONVENTION, "(softmax(z/T) - y) / T",
        "the logits are divided by a temperature of {temperature:.6g}, which softgrad was not told",
        "leave the temperature out, or tell softgrad about it",
        "link", _tempered_unasked,
    ),
    Bug(
        "temperature-chain-missing", DEFECT, "softmax(z/T) - y, without 1/T",
        "the logits are divided by a temperature of {temperature:.6g}, which softgrad was not told, and "
        "their "
        "gradient is not",
        "divide the gradient by T as well, and pass --temperature {temperature:.6g}",
        "link", _tempered_in_part,
    ),
    Bug(
        "softcap-missing", DEFECT, "softmax(z/T) - y, without c tanh(z/c)",
        "the softcap of {softcap:g} is missing",
        "cap the logits in the backward pass too, or leave --softcap out",
        "link", _uncapped,
    ),
    Bug(
        "softcap-applied", CONVENTION, "(softmax(c tanh(z/c)) - y) (1 - tanh^2)",
        "the logits are capped at {softcap:g}, which softgrad was not told",
        "leave the softcap out, or tell softgrad about it",
        "link", _capped_unasked,
    ),
    Bug(
        "softcap-derivative-missing", DEFECT, "softmax(c tanh(z/c)) - y, without 1 - tanh^2",
        "the derivative of the softcap, 1 - tanh^2(z/{softcap:g}), is missing",
        "multiply the gradient by 1 - tanh^2(z/c)",
        "link", _flat_cap,
    ),
    Bug(
        "softcap-after-temperature", CONVENTION, "v = c tanh(z / (T c))",
        "the softcap comes after the temperature",
        "cap first and divide by the temperature then, as softgrad does, or divide the logits beforehand",
        "link", _cap_after,
    ),
    Bug(
        "softcap-misapplied", DEFECT, "v = {form}",
        "the softcap {softcap:g} is computed as {form}, and the derivative is {slope}",
        "cap as c tanh(z/c), whose derivative is 1 - tanh^2(z/c)",
        "link", _cap_misapplied,
    ),
)  # fmt: skip

Z_LOSS = (
    Bug(
        "zloss-missing", CONVENTION, "a - y, without 2 L lse a",
        "the z-loss of {z_loss:g} is missing",
        "add 2 L lse a to the gradient, or leave --z-loss out",
        "z-loss", _without_z,
    ),
    Bug(
        "zloss-factor", DEFECT, "a - y + L lse a",
        "the z-loss has a wrong factor: {words}",
        "its derivative is 2 L lse a",
        "z-loss", _wrong_z,
    ),
    Bug(
        "zloss-weighted", CONVENTION, "w_y 2 L lse a in place of 2 L lse a",
        "the z-loss of a row is {how}",
        "leave the class weights out of the z-loss, as softgrad does",
        "z-loss", _z_weighted,
    ),
    Bug(
        "zloss-applied", CONVENTION, "a - y + 2 L lse a",
        "a z-loss of {z_loss:g} is in the gradient, which softgrad was not told",
        "leave the z-loss out, or tell softgrad about it",
        "z-loss", _z_unasked,
    ),
)  # fmt: skip
