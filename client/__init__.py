"""One participant: a merchant or a shopper's device, with its encrypted events and its part in each round."""
