"""The specs that people write, as strict frozen structs."""
