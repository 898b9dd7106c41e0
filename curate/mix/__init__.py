"""How much of each source: a swarm of small models, laws fitted to their scores, and the mix that the laws recommend.

sample    which mixes to try
stream    mix → the order in which sequences are read
model     a small decoder, many at once
proxy     train and store proxies
evaluate  suites → bits per byte
law       mixes and scores → laws
gp        the Gaussian process among them
limits    what a mix must satisfy, and what makes that impossible
solve     laws and limits → mix
verdict   chosen and natural mix, compared pair by pair
table     swarms from CSV files
export    mix → what trainers read
solved    the solved mix on disk, and the difference of two
flow      the steps in order, as plain data
stage     the steps as tasks of the engine
"""
