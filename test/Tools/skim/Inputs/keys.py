"""Reads one JSON object from standard input: exactly one line, with these keys.

    keys.py KEY… KEY=VALUE… LIST_OR_OBJECT.KEY…
"""

import json
import sys

text = sys.stdin.read()
assert text.count("\n") == 1 and text.endswith("\n"), text
data = json.loads(text)
assert isinstance(data, dict), data
for wanted in sys.argv[1:]:
    path, _, value = wanted.partition("=")
    key, _, inner = path.partition(".")
    assert key in data, (key, data)
    for place in data[key] if isinstance(data[key], list) else [data[key]]:
        assert not inner or inner in place, (wanted, place)
        if value:
            found = place[inner] if inner else place
            assert found == json.loads(value), (wanted, found)
