"""How much of each source: a swarm of small models, laws fitted to their scores, and the mix that the laws recommend.

what is given    setting     the spec, what there is of each source, what is settled already
                 data        token shards, counted; tokenizer; suites          suites      JSON lines → texts to score
                 table       swarms from CSV files                             elsewhere   from fitted tables to a mix
limits           limits      what a mix must satisfy                           feasible    which mixes do; which limits exclude each other
swarm            sample      which mixes to try                                sequential  where to try next, and when to stop
                 estimate    what it would cost, before anything runs
proxies          stream      mix → the order in which sequences are read       model       a small decoder, many at once
                 proxy       train and store                                   checkpoints half-way, to go on after a kill
                 throughput  where and how a group is trained                  huggingface a proxy for transformers
                 fused       forward and backward on one core                  passes      … between two matrix products
                 gpu         kernels for a GPU                                 evaluate    proxy and suites → bits per byte
laws             law         mixes and scores → the law of each suite          forms       each law, fitted many times at once
                 curves      parametric ones                                   gp          the Gaussian process
                 trees       boosted trees                                     blend       several together
                 spread      how uncertain a law is at a mix                   fitted      a fitted swarm on disk
answer           objective   what a mix is worth                               solve       laws and limits → mix
                 sensitivity what it hangs on                                  verdict     solved and natural mix, pair by pair
                 conclude    the verdict in numbers and words                  solved      the solved mix on disk; what moved between two
                 export      mix → what trainers read
engine           flow        the steps in order, as plain data                 stage       as stages
                 tasks       what a worker runs
"""
