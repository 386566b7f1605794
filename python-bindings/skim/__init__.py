"""Runs models that skim compiled.

>>> import skim
>>> model = skim.Model("smollm2.skim", threads=2)
>>> for text in model.generate("The capital of France is", max_tokens=16):
...     print(text, end="", flush=True)
>>> model.logits([1, 403, 407]).shape        # (tokens, vocabulary), float32
>>> session = model.session()
>>> session.prefill([1, 403, 407])           # logits for the next token
>>> copy = session.fork()
>>> model.decode([session, copy], [5, 9])    # one step for both, (2, vocabulary)

A package holds native code: open only packages that you trust.
"""

from ._skim import Error, Generation, Model, Session, __version__

__all__ = ["Error", "Generation", "Model", "Session", "__version__"]
