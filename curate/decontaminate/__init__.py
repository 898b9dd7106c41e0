"""Find benchmark items in a corpus, in every disguise that a lexical detector can see.

items      benchmark files → items with channels; every line is an item, or is named with the reason why not
fold       the Unicode folding table (compatibility forms, invisible characters, look-alike letters)
normalize  text → word tokens with their place in the original bytes
shapes     text → code tokens with renamed identifiers
index      items → hash tables of n-grams and scored units
lookup     tokens → candidates: which units a document may hold, and where
score      candidates → what each shares with its unit, and what that says
weigh      document frequencies of a background sample → weights and thresholds
match      documents → matches
align      a candidate → where each token of its unit is
variant    how a match differs from its item
act        what is removed
tally      contamination rates, what could not be scanned, what a clean result means
"""
