"""Flash kernels of a CPU in place of a GPU's, and what such kernels promise, written out."""

import itertools

import torch

from lit_longpo.engine.backends.sinks import KernelPair


def plain_varlen(query, key, value, plan, scaling, reach):
    """What a flash kernel promises: per sequence, causal from the bottom right, `reach[0]` keys to the left."""
    outputs = []
    bounds = [list(itertools.pairwise(starts.tolist())) for starts in (plan.query_starts, plan.key_starts)]
    for (q0, q1), (k0, k1) in zip(*bounds, strict=True):
        repeat = query.shape[1] // key.shape[1]
        q = query[q0:q1].transpose(0, 1)
        k, v = (part[k0:k1].repeat_interleave(repeat, 1).transpose(0, 1) for part in (key, value))
        last = torch.arange(k1 - k0 - (q1 - q0), k1 - k0).unsqueeze(1)
        keys = torch.arange(k1 - k0)
        visible = (keys <= last) & ((keys >= last - reach[0]) if reach[0] >= 0 else True)
        scores = (q @ k.transpose(1, 2)) * (scaling or q.shape[-1] ** -0.5)
        outputs.append((scores.masked_fill(~visible, -torch.inf).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(outputs)


def plain_softcapped(query, key, value, plan, scaling, reach, softcap):
    """What flash-attn promises with a soft-cap."""
    outputs = []
    bounds = [list(itertools.pairwise(starts.tolist())) for starts in (plan.query_starts, plan.key_starts)]
    for (q0, q1), (k0, k1) in zip(*bounds, strict=True):
        repeat = query.shape[1] // key.shape[1]
        q, k, v = (t.transpose(0, 1) for t in (query[q0:q1], key[k0:k1], value[k0:k1]))
        k, v = k.repeat_interleave(repeat, 0), v.repeat_interleave(repeat, 0)
        distance = torch.arange(k1 - k0 - (q1 - q0), k1 - k0).unsqueeze(1) - torch.arange(k1 - k0)
        hidden = (distance < 0) | ((distance > reach[0]) if reach[0] >= 0 else False)
        scores = softcap * torch.tanh(q @ k.transpose(1, 2) * (scaling or q.shape[-1] ** -0.5) / softcap)
        outputs.append((scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(outputs)


def cpu_pair(plan, scaling, reach):
    """Torch's flash kernels for a CPU, sequence by sequence: `torch_pair` where there is no GPU."""
    starts = zip(*[itertools.pairwise(starts.tolist()) for starts in (plan.query_starts, plan.key_starts)], strict=True)
    bounds = [(slice(*queries), slice(*keys)) for queries, keys in starts]

    def inputs(query, key, value, queries, keys):
        repeat = query.shape[1] // key.shape[1]
        near = [part[keys].repeat_interleave(repeat, 1) for part in (key, value)]
        num_queries, num_keys = len(query[queries]), len(near[0])
        last = torch.arange(num_keys - num_queries, num_keys).unsqueeze(1)
        visible = (torch.arange(num_keys) <= last) & (
            (torch.arange(num_keys) >= last - reach[0]) if reach[0] >= 0 else True
        )
        mask = torch.zeros(visible.shape, dtype=query.dtype).masked_fill(~visible, -torch.inf)
        return [part.transpose(0, 1).unsqueeze(0) for part in (query[queries], *near)], {
            "attn_mask": mask.view(1, 1, num_queries, num_keys),
            "scale": scaling,
        }

    def forward(query, key, value):
        outputs, sums = [], []
        for part in bounds:
            given, options = inputs(query, key, value, *part)
            out, log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*given, 0.0, False, **options)
            outputs.append(out[0].transpose(0, 1))
            sums.append(log_sums[0])
        return torch.cat(outputs), torch.cat(sums, dim=1), ()

    def backward(grad, query, key, value, out, log_sums, rest):
        gradients = [torch.zeros_like(tensor) for tensor in (query, key, value)]
        for queries, keys in bounds:
            given, options = inputs(query, key, value, queries, keys)
            wide = [part[queries].transpose(0, 1).unsqueeze(0) for part in (grad, out)]
            kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
            parts = kernel(wide[0], *given, wide[1], log_sums[None, :, queries], 0.0, False, **options)
            for whole, part, own in zip(gradients, parts, (queries, keys, keys), strict=True):
                whole[own] += part[0].transpose(0, 1).unflatten(1, (whole.shape[1], -1)).sum(2)
        return tuple(gradients)

    return KernelPair(forward, backward)
