"""What keeps shoppers private: clipping and noise, the accountant and its ledger, keys, ciphers and
pseudonyms.

This room imports no other room. The durable database (`privacy.database`) lives here because whoever keeps
something about a shopper needs the same guarantees: durable commits, secure deletion, one schema version.
"""
