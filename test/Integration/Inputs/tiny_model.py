"""The model of make_tiny_llama.py in numpy."""

import numpy as np


class Tiny:
    """The model's mathematics in float64."""

    heads, kv_heads, head, layers, epsilon, theta = 3, 1, 16, 2, 1e-5, 10000.0

    def __init__(self, source, weight):
        self.norms, self.weight = source, weight

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.epsilon) * self.norms[name]

    def rotate(self, x):
        angles = np.arange(len(x))[:, None] * self.theta ** -(np.arange(0, self.head, 2) / self.head)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        a, b = np.split(x.reshape(len(x), -1, self.head), 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def observe(self, layer, x):
        """Called with the input of every linear."""

    def adjust(self, layer, z):
        """The output of a linear as the model goes on with it."""
        return z

    def logits(self, ids):
        x = self.weight("model.embed_tokens").astype(np.float64)[ids]
        hidden = np.triu(np.full((len(ids), len(ids)), -np.inf), 1)
        for i in range(self.layers):
            layer = f"model.layers.{i}."

            def linear(y, name):
                self.observe(layer + name, y)
                return self.adjust(layer + name, y @ self.weight(layer + name).T.astype(np.float64))

            y = self.norm(x, layer + "input_layernorm.weight")
            q, k = self.rotate(linear(y, "self_attn.q_proj")), self.rotate(linear(y, "self_attn.k_proj"))
            v = linear(y, "self_attn.v_proj").reshape(len(ids), self.kv_heads, self.head)
            k, v = (np.repeat(part, self.heads // self.kv_heads, 1) for part in (k, v))
            scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(self.head) + hidden
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            x = x + linear(np.einsum("hqk,khd->qhd", scores, v).reshape(len(ids), -1), "self_attn.o_proj")
            y = self.norm(x, layer + "post_attention_layernorm.weight")
            gate = linear(y, "mlp.gate_proj")
            x = x + linear(gate / (1 + np.exp(-gate)) * linear(y, "mlp.up_proj"), "mlp.down_proj")
        x = self.norm(x, "model.norm.weight")
        self.observe("lm_head", x)
        return x @ self.weight("lm_head").T.astype(np.float64)
