"""The store: everything by its hash. Objects are immutable; names are what a user calls some of them."""
