"""How fast Cognu is beside its peers, measured side by side: `python -m benchmarks --list`.

Every comparison runs the two in turn (A B A B …) in one go, takes the ratio of each pair and gives the median of the
ratios, so that what else the machine does hits both. What is measured and how is said in `docs/performance.md`.
"""
