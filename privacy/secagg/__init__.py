"""Secure aggregation: an exact sum of many contributions of which nobody sees a single one.

The protocol of Bonawitz et al. 2017 ("Practical Secure Aggregation for Privacy-Preserving Machine Learning", the
variant against a lying coordinator) as state machines without a transport: `participant.Participant` on one side,
`coordinator.Aggregation` on the other. docs/secure-aggregation.md tells it in words.
"""
