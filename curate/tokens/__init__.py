"""From documents to the token shards that trainers read."""
