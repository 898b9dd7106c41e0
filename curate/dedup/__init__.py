"""Remove copies across all the sources of a run at once, by document id.

exact       text → 128-bit hash of its normalized form
minhash     text → band keys: equal in some band, with a known chance, for similar texts
signatures  a batch → one row per document with all that the comparison needs; run shard by shard
policy      which of two copies survives
buckets     equal keys → groups; the kernels that choose survivors
shingles    the shingle sets of candidates, on disk, for the true similarity
cluster     signatures of all shards → which document is a copy of which survivor
stage       the three steps as tasks: sign, compare, remove
"""
