"""Relevance against a naive LRP: redistributed by hand, operation by operation, without a gradient; in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

TEXT = "The captain is called Nora. The cook is called"


def linear(x, matrix, z, relevance):
    """z = x matrixᵀ + b: each input has its part of each output, ``R_i = Σ_j x_i M_ji R_j / z_j``."""
    return x * (relevance / z @ matrix)


def summed(a, b, relevance):
    """A residual sum: each summand has its part."""
    return a / (a + b) * relevance, b / (a + b) * relevance


def attention(q, k, v, scale, rule, relevance):
    """Relevance of q, k, v ``(head, token, unit)`` of causal attention, given that of what it sums up."""
    seen = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).tril()
    logits = torch.einsum("hqd,hkd->hqk", q, k) * scale
    weights = torch.where(seen, logits, -torch.inf).softmax(-1)
    out = torch.einsum("hqk,hkd->hqd", weights, v)
    each = torch.einsum("hqk,hkd,hqd->hqkd", weights, v, relevance / out)  # what each summand has
    if rule == "cp":
        return torch.zeros_like(q), torch.zeros_like(k), each.sum(1)
    of_weights = each.sum(-1) / 2  # one half for each factor
    of_logits = torch.where(seen, logits * (of_weights - weights * of_weights.sum(-1, keepdim=True)), 0.0)
    products = torch.einsum("hqd,hkd,hqk->hqkd", q, k, of_logits / logits * scale) / 2
    return products.sum(2), products.sum(1), each.sum(1) / 2


def norm_matrix(x, weight, eps, centred):
    """A norm with a constant scale, as one matrix per token."""
    n = x.shape[-1]
    middle = torch.eye(n, dtype=x.dtype) - centred / n
    scale = torch.rsqrt((x @ middle.T).square().mean(-1) + eps)
    return weight[:, None] * middle * scale[:, None, None]


def normed(x, matrix, z, relevance):
    return x * torch.einsum("tj,tji->ti", relevance / z, matrix)


def heads(x, n):
    return x.view(len(x), n, -1).transpose(0, 1)


def flat(x):
    return x.transpose(0, 1).reshape(x.shape[1], -1)


def gpt2(model, ids, target, rule):
    """Relevance of the token embeddings ``(token, unit)`` for the last logit of a GPT-2."""
    base, n, kept = model.transformer, model.config.n_head, []
    tokens, places = base.wte.weight[ids], base.wpe.weight[: len(ids)]
    x = tokens + places
    for block in base.h:
        m1 = norm_matrix(x, block.ln_1.weight, block.ln_1.eps, 1)
        h1 = torch.einsum("tji,ti->tj", m1, x) + block.ln_1.bias
        qkv = h1 @ block.attn.c_attn.weight + block.attn.c_attn.bias
        q, k, v = (heads(part, n) for part in qkv.chunk(3, -1))
        z = flat(functional.scaled_dot_product_attention(q, k, v, is_causal=True))
        a = z @ block.attn.c_proj.weight + block.attn.c_proj.bias
        mid = x + a
        m2 = norm_matrix(mid, block.ln_2.weight, block.ln_2.eps, 1)
        h2 = torch.einsum("tji,ti->tj", m2, mid) + block.ln_2.bias
        up = h2 @ block.mlp.c_fc.weight + block.mlp.c_fc.bias
        act = functional.gelu(up, approximate="tanh")
        down = act @ block.mlp.c_proj.weight + block.mlp.c_proj.bias
        kept.append((block, x, m1, h1, qkv, q, k, v, z, a, mid, m2, h2, up, act, down))
        x = mid + down
    last = norm_matrix(x, base.ln_f.weight, base.ln_f.eps, 1)
    final = torch.einsum("tji,ti->tj", last, x) + base.ln_f.bias
    relevance = torch.zeros_like(final)
    relevance[-1] = final[-1] * model.lm_head.weight[target]
    relevance = normed(x, last, final, relevance)
    for block, x, m1, h1, qkv, q, k, v, z, a, mid, m2, h2, up, act, down in reversed(kept):
        beside, of_down = summed(mid, down, relevance)
        of_up = linear(act, block.mlp.c_proj.weight.T, down, of_down)  # and through the activation, as it is
        of_mid = beside + normed(mid, m2, h2, linear(h2, block.mlp.c_fc.weight.T, up, of_up))
        beside, of_a = summed(x, a, of_mid)
        of_z = linear(z, block.attn.c_proj.weight.T, a, of_a)
        parts = attention(q, k, v, q.shape[-1] ** -0.5, rule, heads(of_z, n))
        of_qkv = torch.cat([flat(part) for part in parts], -1)
        relevance = beside + normed(x, m1, h1, linear(h1, block.attn.c_attn.weight.T, qkv, of_qkv))
    return summed(tokens, places, relevance)[0], final[-1] @ model.lm_head.weight[target]


def rotations(model, length):
    """Rotary position embedding as one matrix per position ``(token, out, in)``."""
    unit = model.config.hidden_size // model.config.num_attention_heads
    cos, sin = model.model.rotary_emb(torch.zeros(1, length, 1, dtype=torch.float64), torch.arange(length)[None])
    eye = torch.eye(unit, dtype=torch.float64)
    turned = torch.cat([-eye[unit // 2 :], eye[: unit // 2]])
    return cos[0].double()[:, :, None] * eye + sin[0].double()[:, :, None] * turned


def llama(model, ids, target, rule):
    """Relevance of the token embeddings ``(token, unit)`` for the last logit of a LLaMA."""
    n, groups, kept = model.config.num_attention_heads, model.config.num_key_value_heads, []
    eps, turn = model.config.rms_norm_eps, rotations(model, len(ids))
    x = model.model.embed_tokens.weight[ids]
    for block in model.model.layers:
        attn, mlp = block.self_attn, block.mlp
        m1 = norm_matrix(x, block.input_layernorm.weight, eps, 0)
        h1 = torch.einsum("tji,ti->tj", m1, x)
        q0, k0, v = h1 @ attn.q_proj.weight.T, h1 @ attn.k_proj.weight.T, heads(h1 @ attn.v_proj.weight.T, groups)
        q = torch.einsum("tji,hti->htj", turn, heads(q0, n))
        k = torch.einsum("tji,hti->htj", turn, heads(k0, groups))
        many = (k.repeat_interleave(n // groups, 0), v.repeat_interleave(n // groups, 0))
        z = flat(functional.scaled_dot_product_attention(q, *many, is_causal=True))
        a = z @ attn.o_proj.weight.T
        mid = x + a
        m2 = norm_matrix(mid, block.post_attention_layernorm.weight, eps, 0)
        h2 = torch.einsum("tji,ti->tj", m2, mid)
        gate, up = h2 @ mlp.gate_proj.weight.T, h2 @ mlp.up_proj.weight.T
        product = functional.silu(gate) * up
        down = product @ mlp.down_proj.weight.T
        kept.append((block, x, m1, h1, q0, k0, q, k, v, many, z, a, mid, m2, h2, gate, up, product, down))
        x = mid + down
    last = norm_matrix(x, model.model.norm.weight, eps, 0)
    final = torch.einsum("tji,ti->tj", last, x)
    relevance = torch.zeros_like(final)
    relevance[-1] = final[-1] * model.lm_head.weight[target]
    relevance = normed(x, last, final, relevance)
    for block, x, m1, h1, q0, k0, q, k, v, many, z, a, mid, m2, h2, gate, up, product, down in reversed(kept):
        attn, mlp = block.self_attn, block.mlp
        beside, of_down = summed(mid, down, relevance)
        half = linear(product, mlp.down_proj.weight, down, of_down) / 2
        of_h2 = linear(h2, mlp.gate_proj.weight, gate, half) + linear(h2, mlp.up_proj.weight, up, half)
        of_mid = beside + normed(mid, m2, h2, of_h2)
        beside, of_a = summed(x, a, of_mid)
        of_z = heads(linear(z, attn.o_proj.weight, a, of_a), n)
        of_q, of_k, of_v = attention(q, *many, q.shape[-1] ** -0.5, rule, of_z)
        of_k, of_v = (part.view(groups, n // groups, *part.shape[1:]).sum(1) for part in (of_k, of_v))
        before = [
            flat(heads(start, count) * torch.einsum("htj,tji->hti", part / end, turn))
            for start, count, end, part in ((q0, n, q, of_q), (k0, groups, k, of_k))
        ]
        of_h1 = linear(h1, attn.q_proj.weight, q0, before[0]) + linear(h1, attn.k_proj.weight, k0, before[1])
        of_h1 = of_h1 + linear(h1, attn.v_proj.weight, flat(v), flat(of_v))
        relevance = beside + normed(x, m1, h1, of_h1)
    return relevance, final[-1] @ model.lm_head.weight[target]


@pytest.mark.parametrize("rule", ["attnlrp", "cp"])
@pytest.mark.parametrize(("naive", "off"), [(gpt2, 1e-9), (llama, 1e-5)])  # LLaMA's norm computes in float32
def test_relevance_is_what_a_naive_redistribution_by_hand_gives(naive, off, rule, open_tiny):
    lm = open_tiny(naive.__name__, dtype=torch.float64)
    run = lm(TEXT)
    found = run.analyze("lrp", rule=rule, targets=[len(run) - 1])
    with torch.no_grad():
        expected, score = naive(lm.model, run.ids[:-1], int(run.ids[-1]), rule)
    expected = expected.sum(-1).numpy()
    assert found.targets[0].value == pytest.approx(float(score), rel=off)
    np.testing.assert_allclose(found.values.values[0], expected, rtol=0, atol=off * np.abs(expected).max())
    other = run.analyze("lrp", rule={"attnlrp": "cp", "cp": "attnlrp"}[rule], targets=[len(run) - 1])
    assert np.abs(other.values.values[0] - expected).max() > 0.01 * np.abs(expected).max()
