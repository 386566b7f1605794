"""A curve: more bytes, less error, ever less for a byte more (the hull is convex)."""
import csv
import sys

points = [(float(row["bytes"]), float(row["bits"]), float(row["error"])) for row in csv.DictReader(open(sys.argv[1]))]
assert len(points) > 20, points
slopes = []
for (bytes0, bits0, error0), (bytes1, bits1, error1) in zip(points, points[1:]):
    assert bytes1 > bytes0 and bits1 > bits0 and error1 < error0
    slopes.append((error0 - error1) / (bytes1 - bytes0))
assert all(after <= before * 1.000001 for before, after in zip(slopes, slopes[1:])), slopes
